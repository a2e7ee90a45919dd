"""`script/bench proxy`: the front door beside nginx, haproxy and caddy, in one interleaved run.

Client, proxy and app share the machine's processors, so requests per second say little. The figure
is requests for each second of processor time that the proxy's own processes used, and its ratio to
nginx's in the same round, minutes apart from no noise that nginx did not have too.
"""

import concurrent.futures
import contextlib
import glob
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import time

from bench import PROGRAM, SCRATCH, eventually, free_port, machine, run

DIRECTORY = f"{SCRATCH}/proxy"
CADDY = f"{SCRATCH}/venv/bin/caddy"
NAME = "localhost"
SITES = 1000
CORES = os.cpu_count()
TICKS = os.sysconf("SC_CLK_TCK")
# Nobody closes an idle connection while it is measured.
IDLE = 600


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def site(index):
    return f"site-{index}.test"


def make_certificates():
    """P-256, one for each name; kept for the next time."""
    directory = f"{DIRECTORY}/certificates"
    os.makedirs(directory, exist_ok=True)
    key = f"{directory}/key.pem"
    if not os.path.exists(key):
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)

    def make(name):
        path = f"{directory}/{name}.pem"
        if not os.path.exists(path):
            run("openssl", "req", "-x509", "-key", key, "-subj", f"/CN={name}", "-days", "3650",
                "-addext", f"subjectAltName=DNS:{name}", "-out", f"{path}.part")
            with open(key, encoding="utf-8") as file, open(f"{path}.part", "a", encoding="utf-8") as out:
                out.write(file.read())
            os.rename(f"{path}.part", path)
        return name, path

    with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
        return dict(pool.map(make, [NAME, *map(site, range(SITES))]))


class Server:
    """A program under test, or the app behind it."""

    def __init__(self, name, directory):
        self.name, self.directory = name, f"{DIRECTORY}/{directory}"
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        # The proxy of ours becomes another user.
        os.chmod(self.directory, 0o755)
        self.http, self.https = free_port(), free_port()
        self.process = None

    def spawn(self, command):
        with open(f"{self.directory}/log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def processes(self):
        """Its process and all below."""
        children = {}
        for path in glob.glob("/proc/[0-9]*/stat"):
            with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
                pid, rest = file.read().split(" (", 1)
                children.setdefault(int(rest.rsplit(") ", 1)[1].split()[1]), []).append(int(pid))
        found, new = [], [self.process.pid]
        while new:
            found += new
            new = [child for parent in new for child in children.get(parent, [])]
        return found

    def cpu(self):
        """Seconds of processor time so far."""
        ticks = 0
        for pid in self.processes():
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rsplit(") ", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    def memory(self):
        """Proportional set size, in KiB."""
        total = 0
        for pid in self.processes():
            with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
                total += int(re.search(r"^Pss: +(\d+)", file.read(), re.M)[1])
        return total

    def check(self):
        if self.process.poll() is not None:
            with open(f"{self.directory}/log", encoding="utf-8", errors="replace") as log:
                sys.exit(f"{self.name} has ended:\n{log.read()[-4000:]}")

    def answers(self, name):
        self.check()
        with contextlib.suppress(OSError):
            with connect_tls(self.https, name) as client:
                return ask(client, name, "/1k") == 1024
        return False


def connect_tls(port, name, protocols=("http/1.1",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    tcp = socket.create_connection(("127.0.0.1", port), 30)
    try:
        return context.wrap_socket(tcp, server_hostname=name)
    except BaseException:
        tcp.close()
        raise


def ask(client, name, path):
    """One request; the length of its answer's body."""
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            raise ConnectionError("no answer")
        data += part
    head, body = data.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(head.decode(errors="replace"))
    while len(body) < length:
        part = client.recv(65536)
        if not part:
            raise ConnectionError("cut")
        body += part
    return len(body)


NGINX = """
daemon off; worker_processes {workers}; pid {directory}/pid; error_log {directory}/error.log warn;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout {idle}s; server_tokens off;
  client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2; fastcgi_temp_path {directory}/t3;
  uwsgi_temp_path {directory}/t4; scgi_temp_path {directory}/t5;
  {body}
}}
"""


class App(Server):
    """nginx with two static files."""

    def start(self):
        write(f"{self.directory}/www/1k", "x" * 1024)
        write(f"{self.directory}/www/100k", "x" * 102400)
        body = f"""sendfile on; tcp_nopush on; open_file_cache max=10;
          server {{ listen 127.0.0.1:{self.http} reuseport; root {self.directory}/www; }}"""
        conf = NGINX.format(workers=CORES, directory=self.directory, idle=IDLE, body=body)
        self.spawn(["nginx", "-c", write(f"{self.directory}/conf", conf)])
        eventually("the app", lambda: not self.check() and port_open(self.http))


def port_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


class Nginx(Server):
    def configure(self, app, certificates):
        sites = "\n".join(f"""server {{
            listen 127.0.0.1:{self.http}; listen 127.0.0.1:{self.https} ssl http2; server_name {name};
            ssl_certificate {path}; ssl_certificate_key {path};
            location / {{ proxy_pass http://app; }} }}""" for name, path in certificates.items())
        body = f"""
          upstream app {{ server 127.0.0.1:{app.http}; keepalive 64; keepalive_requests 100000000; }}
          proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
          proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
          proxy_set_header X-Forwarded-Host $http_host;
          server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
          ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m;
          {sites}"""
        conf = NGINX.format(workers=CORES, directory=self.directory, idle=IDLE, body=body)
        return ["nginx", "-c", write(f"{self.directory}/conf", conf)]


class Haproxy(Server):
    def configure(self, app, certificates):
        for name, path in certificates.items():
            os.makedirs(f"{self.directory}/crt", exist_ok=True)
            os.link(path, f"{self.directory}/crt/{name}.pem")
        names = write(f"{self.directory}/names", "".join(f"{name} app\n" for name in certificates))
        conf = f"""
global
  nbthread {CORES}
  maxconn 8192
defaults
  mode http
  option http-keep-alive
  timeout client {IDLE}s
  timeout http-keep-alive {IDLE}s
  timeout http-request 30s
  timeout server 60s
  timeout connect 5s
frontend front
  bind 127.0.0.1:{self.http}
  bind 127.0.0.1:{self.https} ssl crt {self.directory}/crt alpn h2,http/1.1
  option forwardfor
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  use_backend %[req.hdr(host),field(1,:),map(%s)]
backend app
  http-reuse always
  server app 127.0.0.1:{app.http} pool-max-conn 128
""".replace("%s", names)
        return ["haproxy", "-db", "-f", write(f"{self.directory}/conf", conf)]


class Caddy(Server):
    def configure(self, app, certificates):
        sites = "\n".join(f"""{name}:{self.https} {{
            tls {path} {path}
            reverse_proxy 127.0.0.1:{app.http}
            }}""" for name, path in certificates.items())
        conf = f"""{{
            admin off
            auto_https off
            persist_config off
            default_bind 127.0.0.1
            http_port {self.http}
            https_port {self.https}
            servers {{
                protocols h1 h2
                timeouts {{
                    idle {IDLE}s
                }}
            }}
            }}
            http://{NAME}:{self.http} {{
            reverse_proxy 127.0.0.1:{app.http}
            }}
            {sites}"""
        os.environ["XDG_DATA_HOME"] = os.environ["XDG_CONFIG_HOME"] = self.directory
        return [CADDY, "run", "--adapter", "caddyfile", "--config", write(f"{self.directory}/conf", conf)]


class Staithe(Server):
    def configure(self, app, certificates):
        data, run_dir = f"{self.directory}/data", f"{self.directory}/run"
        os.makedirs(run_dir)
        os.makedirs(f"{data}/certificates")
        bindings = []
        for index, (name, path) in enumerate(certificates.items()):
            identity = f"{index:064x}"
            os.link(path, f"{data}/certificates/{identity}.pem")
            os.chmod(path, 0o644)
            bindings.append({"domain": name, "listeners": ["http", "https"], "certificate": identity})
        # An app of its own for each, as apps are.
        routes = [{
            "app": f"app-{index}", "process_type": "web", "bindings": [binding],
            "settings": {"access_log": "off"},
            "state": {"kind": "live", "release": 1, "upstreams": [f"127.0.0.1:{app.http}"]},
        } for index, binding in enumerate(bindings)]
        write(f"{data}/proxy/routes.json", json.dumps({"version": 1, "routes": routes}))
        config = {
            "http_listen": [f"127.0.0.1:{self.http}"], "https_listen": [f"127.0.0.1:{self.https}"],
            "access_log": False, "client_idle_timeout_ms": IDLE * 1000,
        }
        return [PROGRAM, "proxy", "--run-dir", run_dir, "--data-dir", data,
                "--start", json.dumps({"config": config})]


CONTENDERS = {"nginx": Nginx, "staithe": Staithe, "haproxy": Haproxy, "caddy": Caddy}


def wrk(url, connections, seconds, *more):
    out = run("wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "20s",
              "--latency", "-H", f"Host: {NAME}", *more, url)
    if "Non-2xx" in out or "Socket errors" in out and not more:
        sys.exit(f"wrk {url}: answers that are no success\n{out}")
    count = int(re.search(r"(\d+) requests in", out)[1])
    p99 = re.search(r"99% +([\d.]+)(us|ms|s)", out)
    return count, float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]]


def h2load(url, seconds):
    out = run("h2load", "-c", "8", "-m", "8", "-t", "1", "-D", str(seconds), url)
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out)
    if not int(found[1]) or int(found[2]) or int(found[3]):
        sys.exit(f"h2load {url}: requests failed\n{out}")
    return int(found[1]), None


def spread(port, names, seconds):
    """A new connection to some site for each request."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        name = random.choice(names)
        with connect_tls(port, name) as client:
            ask(client, name, "/1k")
        count += 1
    return count


def spread_load(port, names, seconds):
    with concurrent.futures.ProcessPoolExecutor(CORES) as pool:
        return sum(pool.map(spread, [port] * CORES, [names] * CORES, [seconds] * CORES)), None


ROWS = {
    "HTTP/1.1, 1 KiB, 64 connections": lambda at, s: wrk(f"http://{NAME}:{at.http}/1k", 64, s),
    "HTTP/1.1, 100 KiB, 16 connections": lambda at, s: wrk(f"http://{NAME}:{at.http}/100k", 16, s),
    "TLS 1.3, HTTP/1.1, 1 KiB": lambda at, s: wrk(f"https://{NAME}:{at.https}/1k", 64, s),
    "TLS 1.3, HTTP/1.1, 100 KiB": lambda at, s: wrk(f"https://{NAME}:{at.https}/100k", 16, s),
    "TLS 1.3, HTTP/2, 1 KiB, 8 x 8 streams": lambda at, s: h2load(f"https://{NAME}:{at.https}/1k", s),
    "a TLS connection for each request": lambda at, s: wrk(
        f"https://{NAME}:{at.https}/1k", 16, s, "-H", "Connection: close"),
}
# What the front door is built to reach, as a ratio to nginx.
TARGETS = dict(zip(ROWS, (1.15, 1.15, 1.0, 1.4, 1.0, 1.4)))


def measure(server, load, seconds):
    """Requests for each processor second of the proxy, and the slowest but one in a hundred."""
    before = server.cpu()
    count, p99 = load(server, seconds)
    return count / max(server.cpu() - before, 0.01), p99


def start_all(names, app, certificates, suffix=""):
    servers, last = [], list(certificates)[-1]
    try:
        for name in names:
            server = CONTENDERS[name](name, name + suffix)
            command = server.configure(app, certificates)
            began = time.monotonic()
            server.spawn(command)
            servers.append(server)
            eventually(f"start of {name}", lambda: server.answers(last))
            server.started_in = time.monotonic() - began
    except BaseException:
        for server in servers:
            server.stop()
        raise
    return servers


def frame(kind, flags, stream, payload=b""):
    """RFC 9113, section 4.1."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def ask_h2(client, name, path):
    """The first request of a connection; reads to the end of its answer."""
    def text(index, value):
        return bytes([index, len(value)]) + value.encode()
    # GET, https, path and authority, by the static table of RFC 7541.
    head = b"\x82\x87" + text(4, path) + text(1, name)
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 5, 1, head))
    data = b""
    while True:
        while len(data) < 9 or len(data) < 9 + int.from_bytes(data[:3]):
            part = client.recv(65536)
            if not part:
                raise ConnectionError("no answer on HTTP/2")
            data += part
        kind, flags, stream = data[3], data[4], int.from_bytes(data[5:9])
        data = data[9 + int.from_bytes(data[:3]):]
        if kind == 4 and not flags & 1:
            client.sendall(frame(4, 1, 0))
        if stream == 1 and flags & 1 and kind in (0, 1):
            return


def open_idle(server, kind):
    """A connection that has done something and now waits."""
    if kind == "plain":
        client = socket.create_connection(("127.0.0.1", server.http), 30)
        ask(client, NAME, "/1k")
    elif kind == "tls":
        client = connect_tls(server.https, NAME)
        ask(client, NAME, "/1k")
    else:
        client = connect_tls(server.https, NAME, ("h2",))
        ask_h2(client, NAME, "/1k")
    return client


def idle_memory(server, kind, count=1000):
    """KiB for each idle connection."""
    def some(number):
        return [open_idle(server, kind) for _ in range(number)]
    for client in some(20):
        client.close()
    time.sleep(0.5)
    before = server.memory()
    clients = some(count)
    # Upstream connections and scratch memory of the requests come to rest.
    time.sleep(0.5)
    after = server.memory()
    for client in clients:
        client.close()
    return (after - before) / count


def rounds(servers, count, seconds, rows):
    results = {row: {server.name: [] for server in servers} for row in rows}
    for number in range(count):
        for row in rows:
            for server in servers:
                server.check()
                results[row][server.name].append(measure(server, ROWS[row], seconds))
        print(f"round {number + 1} of {count}", file=sys.stderr)
    return results


def ratio(results, name):
    """The median of the ratios to nginx in the same round."""
    pairs = zip(results[name], results["nginx"])
    return statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)


def report(results, names):
    print("\nRequests for each processor second of the proxy: median, ratio to nginx, p99 in ms.\n")
    print("| |", " | ".join(names), "| target |")
    print("|---|" + "---|" * (len(names) + 1))
    for row, by_name in results.items():
        cells = []
        for name in names:
            figures = by_name[name]
            p99 = [slow for _, slow in figures if slow is not None]
            cells.append(f"{statistics.median(each for each, _ in figures):.0f} (**{ratio(by_name, name):.2f}**)"
                         + (f" {statistics.median(p99):.1f}" if p99 else ""))
        print(f"| {row} |", " | ".join(cells), f"| {TARGETS[row]} |")


def report_many(app, certificates, names, seconds, count):
    servers = start_all(names, app, certificates, "-many")
    try:
        sites = list(certificates)[1:]
        figures = {server.name: [] for server in servers}
        sizes = {server.name: server.memory() / 1024 for server in servers}
        for _ in range(count):
            for server in servers:
                load = lambda at, s: spread_load(at.https, sites, s)
                figures[server.name].append(measure(server, load, seconds))
        print(f"\n{len(sites)} sites with a certificate each; a new connection to one of them for each request.\n")
        print("| | requests per processor second | x nginx | start, s | memory, MiB |\n|---|---|---|---|---|")
        for server in servers:
            rate = statistics.median(each for each, _ in figures[server.name])
            print(f"| {server.name} | {rate:.0f} | {ratio(figures, server.name):.2f} | {server.started_in:.2f} "
                  f"| {sizes[server.name]:.1f} |")
    finally:
        for server in servers:
            server.stop()


def report_memory(app, certificates, names):
    print("\nMemory for each of 1,000 idle connections, KiB (PSS of the proxy's processes).\n")
    print("| | idle, MiB | plain | TLS | HTTP/2 |\n|---|---|---|---|---|")
    for name in names:
        sizes = []
        for kind in ("plain", "tls", "h2"):
            # A new process each time: what one kind leaves free, the next would be given.
            [server] = start_all([name], app, certificates, "-idle")
            try:
                base = server.memory() / 1024
                sizes.append(idle_memory(server, kind))
            finally:
                server.stop()
        print(f"| {name} | {base:.1f} |", " | ".join(f"{size:.1f}" for size in sizes), "|")


def choose(options):
    """What `--only <contenders>` and `--rows <expression>` leave of contenders, rows and tables."""
    only = options[options.index("--only") + 1].split(",") if "--only" in options else list(CONTENDERS)
    rows = options[options.index("--rows") + 1] if "--rows" in options else ""
    # The others are measured against it.
    names = ["nginx", *(name for name in only if name != "nginx")]
    chosen = [row for row in [*ROWS, "memory", "sites"] if re.search(rows, row)]
    return names, [row for row in chosen if row in ROWS], set(chosen) - set(ROWS)


def proxy(options):
    quick = "--quick" in options
    names, rows, tables = choose(options)
    load = os.getloadavg()[0]
    certificates = make_certificates()
    app = App("app", "app")
    servers = []
    try:
        app.start()
        one = {NAME: certificates[NAME]}
        machine(load)
        if "memory" in tables:
            report_memory(app, one, names)
        if rows:
            servers = start_all(names, app, one)
            report(rounds(servers, 3 if quick else 7, 2 if quick else 4, rows), names)
        if "sites" in tables:
            report_many(app, certificates, names, 2 if quick else 4, 3 if quick else 5)
    finally:
        for server in [*servers, app]:
            server.stop()
