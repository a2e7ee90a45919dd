"""The benchmarks behind script/bench, which says what they are."""

import contextlib
import datetime
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM = os.environ["STAITHE_BENCH_PROGRAM"]
SCRATCH = os.path.abspath("target/bench")
APPS = os.path.abspath("tests/fixtures/apps")
# A busy machine needs longer than that only if something is wrong.
DEADLINE = 120
# Between two questions for the new version: well below what is measured, and cheap.
POLL = 0.005


def eventually(what, check, deadline=DEADLINE):
    end = time.monotonic() + deadline
    while not (result := check()):
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {deadline} s")
        time.sleep(0.02)
    return result


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def run(*command, **options):
    done = subprocess.run(command, text=True, capture_output=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Staithe:
    """A Staithe of our own: directory, names, addresses, ports."""

    def __init__(self, directory):
        self.directory = directory
        self.data, self.run = f"{directory}/data", f"{directory}/run"
        self.log_path = f"{directory}/daemon.log"
        self.key = f"{directory}/id_ed25519"
        self.web_port, self.tls_port, self.ssh_port = free_port(), free_port(), free_port()
        self.daemon = None

    def start(self):
        settings = {
            "server.instance": f"staithe-bench{os.getpid()}",
            "network.prefix": "sb-",
            "network.ipv4_pool": "10.210.0.0/20",
            "network.ipv6_pool": "fd53:7462:beac::/64",
            "proxy.http_listen": f'["127.0.0.1:{self.web_port}"]',
            "proxy.https_listen": f'["127.0.0.1:{self.tls_port}"]',
            "ssh.listen": f'["127.0.0.1:{self.ssh_port}"]',
            "web.listen": '["127.0.0.1:0"]',
            "platform.global_domains": '["test"]',
            # Phases are logged at this level.
            "log.filter": "info,staithe::platform=debug",
            "log.format": "json",
        }
        command = [PROGRAM, "serve", "--ephemeral", "--config", "/dev/null",
                   "--data-dir", self.data, "--run-dir", self.run]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        with open(self.log_path, "ab") as log:
            self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log,
                                           start_new_session=True)
        eventually("start of Staithe", self.serves)

    def serves(self):
        if self.daemon.poll() is not None:
            with open(self.log_path, encoding="utf-8") as log:
                sys.exit(f"Staithe has ended:\n{log.read()[-4000:]}")
        return os.path.exists(f"{self.run}/serving.json")

    def stop(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait(DEADLINE)

    def cli(self, *arguments, **options):
        environment = {**os.environ, "STAITHE_RUN_DIR": self.run}
        return run(PROGRAM, *arguments, env=environment, **options)

    def add_key(self):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", self.key)
        with open(f"{self.key}.pub", encoding="utf-8") as key:
            self.cli("ssh-keys:add", "bench", input=key.read())

    def ssh_command(self):
        return (f"ssh -F /dev/null -i {self.key} -o IdentitiesOnly=yes -o LogLevel=ERROR "
                "-o StrictHostKeyChecking=accept-new "
                f"-o UserKnownHostsFile={self.directory}/known_hosts")

    def remote(self, app):
        return f"ssh://staithe@127.0.0.1:{self.ssh_port}/{app}"

    def containers(self):
        """Ids of the containers there are."""
        return [path for path in glob.glob(f"{self.run}/containers/*") if os.path.isdir(path)]

    def wait_for_containers(self, count):
        eventually(f"{count} containers", lambda: len(self.containers()) == count)


@contextlib.contextmanager
def staithe():
    """A running Staithe with the default stack, gone afterwards."""
    os.makedirs(SCRATCH, exist_ok=True)
    template = os.environ.get("STAITHE_BENCH_DATA") or make_template()
    with scratch() as directory:
        instance = Staithe(directory)
        copy_template(template, instance.data)
        try:
            instance.start()
            instance.add_key()
            yield instance
        finally:
            instance.stop()


@contextlib.contextmanager
def scratch():
    # Beside the template, for hard links. Users of Staithe's pass through.
    directory = tempfile.mkdtemp(prefix="run-", dir=SCRATCH)
    os.chmod(directory, 0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def make_template():
    template = f"{SCRATCH}/template"
    if os.path.exists(template):
        return template
    print("Making the default stack, once", file=sys.stderr)
    with scratch() as directory:
        instance = Staithe(directory)
        try:
            instance.start()
            instance.cli("stack:build", "debian-13")
        finally:
            instance.stop()
        os.rename(instance.data, template)
    return template


def copy_template(template, data):
    """By hard links: layers never change. What is written in place is copied."""
    run("cp", "-al", template, data)
    for name in ("keys", "logs", "bin", "proxy", "repos"):
        shutil.rmtree(f"{data}/{name}", ignore_errors=True)
    for name in ("staithe.db", "images/index.json", "images/lock"):
        if os.path.exists(f"{template}/{name}"):
            os.unlink(f"{data}/{name}")
            shutil.copy2(f"{template}/{name}", f"{data}/{name}")


class Source:
    """A git work tree made from one of the sample apps."""

    def __init__(self, instance, sample):
        self.path = f"{instance.directory}/{sample}"
        shutil.copytree(f"{APPS}/{sample}", self.path)
        self.environment = {
            **os.environ,
            "GIT_SSH_COMMAND": instance.ssh_command(),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "bench"), ("EMAIL", "bench@localhost"))},
        }
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "Sample")

    def git(self, *arguments):
        return run("git", *arguments, cwd=self.path, env=self.environment)

    def change(self, version):
        """The one-file change."""
        with open(f"{self.path}/version.txt", "w", encoding="utf-8") as file:
            file.write(f"{version}\n")
        self.git("commit", "-q", "-a", "-m", version)

    def timed_push(self, remote, refspec):
        start = time.time()
        self.git("push", "-q", remote, refspec)
        return time.time() - start


class Watcher(threading.Thread):
    """Asks the proxy until it answers with the wanted version; `at` is when."""

    def __init__(self, port, host, version):
        super().__init__(daemon=True)
        self.port, self.host, self.version = port, host, version
        self.at = None

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            connection.request("GET", "/", headers={"Host": self.host})
            body = connection.getresponse().read().decode()
            if body.startswith(f"version {self.version} "):
                self.at = time.time()
                return
            time.sleep(POLL)


# --- push ----------------------------------------------------------------------------------------

# In the order in which they come; what each is made of, for the table.
PHASES = {
    "receive": "SSH handshake, pack, hook, queue",
    "source": "source tree out of the objects",
    "prepare": "checks, cached layers",
    "container": "build container up",
    "detect": "",
    "build": "",
    "container-end": "build container gone",
    "export": "layers into the store",
    "image": "config, manifest, sync",
    "start": "new instance up",
    "ready": "it listens",
    "switch": "store, routes",
    "rest": "what lies between, the first answer",
}


def phases_since(log_path, offset):
    """Start and length in seconds of each phase logged after `offset`."""
    phases = {}
    with open(log_path, "rb") as log:
        log.seek(offset)
        for line in log:
            record = json.loads(line)
            fields = record.get("fields", {})
            if "phase" in fields:
                ended = datetime.datetime.fromisoformat(record["timestamp"].replace("Z", "+00:00"))
                seconds = fields["duration_us"] / 1e6
                phases[fields["phase"]] = (ended.timestamp() - seconds, seconds)
    return phases


def measured_push(instance, source, version):
    source.change(version)
    offset = os.path.getsize(instance.log_path)
    watcher = Watcher(instance.web_port, "shop.test", version)
    watcher.start()
    start = time.time()
    length = source.timed_push(instance.remote("shop"), "main")
    watcher.join()
    logged = phases_since(instance.log_path, offset)
    result = {name: logged[name][1] for name in PHASES if name in logged}
    result["receive"] = logged["source"][0] - start
    result["answer"] = watcher.at - start
    # It answers while the switch is still being reported.
    result["switch"] = min(result["switch"], watcher.at - logged["switch"][0])
    result["rest"] = result["answer"] - sum(result[name] for name in PHASES if name in result)
    result["end"] = length
    # The old instance's end is no part of the next push.
    instance.wait_for_containers(1)
    return result


def node_floor(instance, source):
    """`node server.js` on the host, from exec to its port: the app's own part."""
    [node] = glob.glob(f"{instance.data}/images/layers/sha256/*/layers/*/node/bin/node")
    [modules] = glob.glob(f"{instance.data}/images/layers/sha256/*/layers/*/modules/node_modules")
    home = f"{instance.directory}/floor"
    shutil.copytree(source.path, home, ignore=shutil.ignore_patterns(".git"))
    os.symlink(modules, f"{home}/node_modules")
    times = []
    for _ in range(10):
        port = free_port()
        start = time.time()
        child = subprocess.Popen([node, "server.js"], cwd=home, stdout=subprocess.DEVNULL,
                                 env={"PORT": str(port), "NODE_ENV": "production"})
        while True:
            with socket.socket() as connection:
                if connection.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.002)
        times.append(time.time() - start)
        child.terminate()
        child.wait()
    return times


def push():
    load = os.getloadavg()[0]
    with staithe() as instance:
        source = Source(instance, "node-web")
        start = time.time()
        source.git("push", "-q", instance.remote("shop"), "main")
        first = time.time() - start
        for number in range(2):
            measured_push(instance, source, f"warm-up{number}")
        results = [measured_push(instance, source, f"run{number}") for number in range(10)]

        bare = f"{instance.directory}/bare.git"
        run("git", "init", "-q", "--bare", bare)
        floors = {"git push to a bare repository on disk": [],
                  "git push of a branch that is not deployed": []}
        local, stored = floors.values()
        for number in range(11):
            source.change(f"floor{number}")
            local.append(source.timed_push(bare, "main"))
            stored.append(source.timed_push(instance.remote("shop"), "main:other"))
        floors["node server.js on the host, until it listens"] = node_floor(instance, source)
    report_push(results, first, floors, load)


def report_push(results, first, floors, load):
    def row(name, values, note=""):
        values = [value * 1000 for value in values]
        print(f"| {name} | {statistics.median(values):.0f} | {min(values):.0f} | "
              f"{max(values):.0f} | {note} |")

    machine(load)
    print("\n| phase | median ms | min | max | |\n|---|---:|---:|---:|---|")
    for name, note in PHASES.items():
        if all(name in result for result in results):
            row(name, [result[name] for result in results], note)
    row("**until the first answer**", [result["answer"] for result in results])
    row("until `git push` has ended", [result["end"] for result in results])
    print("\n| floor | median ms | min | max | |\n|---|---:|---:|---:|---|")
    for name, values in floors.items():
        # The first of each makes files and connections for the others.
        row(name, values[1:])
    print(f"\nFirst push of the app: {first:.1f} s (downloads Node.js and the packages).")


# --- footprint -----------------------------------------------------------------------------------


def descendants(root):
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            pid, rest = file.read().split(" ", 1)
            parents[int(pid)] = int(rest.rsplit(")", 1)[1].split()[1])
    found, added = {root}, True
    while added:
        added = {pid for pid, parent in parents.items() if parent in found} - found
        found |= added
    return found


def memory(pid):
    """KiB of PSS, RSS and private memory."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        found = re.findall(r"^(\w+):\s+(\d+) kB", file.read(), re.M)
    sizes = {key: int(value) for key, value in found}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"pss": sizes["Pss"], "rss": sizes["Rss"], "private": private}


def role(pid, instance, proxy):
    """Which of Staithe's processes it is; none for an app's."""
    if pid == instance.daemon.pid:
        return "serve"
    if pid == proxy:
        return "proxy"
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        status = dict(re.findall(r"^(\w+):\s*(.*)$", file.read(), re.M))
    # The reaper is the monitor's child, in a pid namespace of its own.
    if status["Name"] != "staithe-monitor":
        return "app"
    return "reaper" if len(status["NSpid"].split()) > 1 else "monitor"


def measure(instance):
    """Sums by role."""
    with open(f"{instance.run}/proxy.json", encoding="utf-8") as file:
        proxy = json.load(file)["pid"]
    sums = {}
    for pid in descendants(instance.daemon.pid) | {proxy}:
        with contextlib.suppress(OSError):
            of_role = sums.setdefault(role(pid, instance, proxy), {"count": 0})
            of_role["count"] += 1
            for kind, size in memory(pid).items():
                of_role[kind] = of_role.get(kind, 0) + size
    return sums


def footprint():
    load = os.getloadavg()[0]
    table = []
    with staithe() as instance:
        table.append((0, settled(instance)))
        source = Source(instance, "procfile-script")
        source.git("push", "-q", instance.remote("app1"), "main")
        for number in range(2, 51):
            instance.cli("apps:clone", "app1", f"app{number}")
            if number in (10, 50):
                instance.wait_for_containers(number)
                table.append((number, settled(instance)))
    report_footprint(table, load)


def settled(instance):
    """Idle: nothing has changed for some seconds."""
    last = None
    while True:
        time.sleep(3)
        now = measure(instance)
        total = sum(of_role["pss"] for name, of_role in now.items() if name != "app")
        if last is not None and abs(total - last) < 256:
            return now
        last = total


def report_footprint(table, load):
    machine(load)
    print("\n| apps | process | count | PSS MiB | private MiB | RSS MiB |"
          "\n|---:|---|---:|---:|---:|---:|")
    totals = []
    for apps, sums in table:
        ours = {name: of_role for name, of_role in sums.items() if name != "app"}
        total = {kind: sum(of_role[kind] for of_role in ours.values())
                 for kind in ("count", "pss", "private", "rss")}
        totals.append((apps, total["pss"]))
        for name in ("serve", "proxy", "monitor", "reaper"):
            if name in ours:
                print_memory(apps, name, ours[name])
        print_memory(apps, "**all of Staithe**", total)
        if "app" in sums:
            print_memory(apps, "(the apps themselves)", sums["app"])
    (first, low), (last, high) = totals[0], totals[-1]
    print(f"\nPSS: {low / 1024:.1f} MiB without apps, "
          f"{(high - low) / 1024 / (last - first):.2f} MiB more for each of {last} apps.")


def print_memory(apps, name, sizes):
    pss, private, rss = (sizes[kind] / 1024 for kind in ("pss", "private", "rss"))
    print(f"| {apps} | {name} | {sizes['count']} | {pss:.1f} | {private:.1f} | {rss:.1f} |")


def machine(load):
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, Linux {os.uname().release}, "
          f"load before {load:.1f}")


if __name__ == "__main__":
    # So that what was started is taken down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if sys.argv[1] == "proxy":
        from bench_proxy import proxy
        proxy(sys.argv[2:])
    elif sys.argv[1] == "services":
        from bench_services import services
        services()
    elif sys.argv[1] == "dashboard":
        from bench_dashboard import measure as dashboard
        dashboard()
    else:
        {"push": push, "footprint": footprint}[sys.argv[1]]()
