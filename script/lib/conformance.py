"""The checks behind script/conformance, which says what they are."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import h2_cases
import websocket_cases

PROGRAM = os.environ["STAITHE_BENCH_PROGRAM"]
DEADLINE = 20
# A name that resolves everywhere, for programs that take no address beside it.
HOST, SOCKET_HOST = "localhost", "chat.localhost"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def run(*command, deadline=900):
    return subprocess.run(
        command, text=True, capture_output=True, check=False, timeout=deadline, stdin=subprocess.DEVNULL
    )


class Proxy:
    """A proxy with certificates and two routes: an HTTP application and a WebSocket echo."""

    def __init__(self, directory, application, echo):
        self.directory = directory
        self.http, self.https = free_port(), free_port()
        data = f"{directory}/data"
        os.makedirs(f"{data}/proxy")
        os.makedirs(f"{data}/certificates")
        os.makedirs(f"{directory}/run")
        os.chmod(directory, 0o755)
        identity = self.make_certificate(f"{data}/certificates")
        routes = [self.route(HOST, application, identity), self.route(SOCKET_HOST, echo, identity)]
        with open(f"{data}/proxy/routes.json", "w") as file:
            json.dump({"version": 1, "routes": routes}, file)
        config = {
            "http_listen": [f"127.0.0.1:{self.http}"],
            "https_listen": [f"127.0.0.1:{self.https}"],
            # As by default, but that a run of `slow` fits into a minute.
            "request_head_timeout_ms": 10_000,
            "body_idle_timeout_ms": 10_000,
        }
        arguments = ["--run-dir", f"{directory}/run", "--data-dir", data, "--start", json.dumps({"config": config})]
        self.log = open(f"{directory}/proxy.log", "w+")
        self.process = subprocess.Popen([PROGRAM, "proxy", *arguments], stderr=self.log)
        self.await_port()

    def make_certificate(self, directory):
        """An ECDSA certificate of a CA of ours; returns its fingerprint, which is its name."""
        self.ca = f"{self.directory}/ca.pem"
        steps = [
            "ecparam -name prime256v1 -genkey -noout -out ca.key",
            "req -x509 -new -key ca.key -days 90 -subj /CN=Conformance -out ca.pem",
            "ecparam -name prime256v1 -genkey -noout -out leaf.key",
            f"req -new -key leaf.key -subj /CN={HOST} -out leaf.csr",
        ]
        with open(f"{self.directory}/names", "w") as file:
            file.write(f"subjectAltName=DNS:{HOST},DNS:{SOCKET_HOST}\n")
        steps.append(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 90"
            " -extfile names -out leaf.pem"
        )
        for step in steps:
            subprocess.run(
                ["openssl", *step.split()], cwd=self.directory, check=True, capture_output=True
            )
        with open(f"{self.directory}/leaf.pem") as file:
            leaf = file.read()
        with open(f"{self.directory}/leaf.key") as file:
            key = file.read()
        identity = hashlib.sha256(ssl.PEM_cert_to_DER_cert(leaf)).hexdigest()
        with open(f"{directory}/{identity}.pem", "w") as file:
            file.write(leaf + key)
        # As the daemon keeps them: for root and the proxy's group.
        for path, mode in ((directory, 0o750), (f"{directory}/{identity}.pem", 0o640)):
            os.chown(path, 0, 32767)
            os.chmod(path, mode)
        return identity

    @staticmethod
    def route(host, port, identity):
        binding = {"domain": host, "listeners": ["http", "https"], "certificate": identity}
        return {
            "app": host.replace(".", "-"),
            "process_type": "web",
            "bindings": [binding],
            "settings": {},
            "state": {"kind": "live", "release": 1, "upstreams": [f"127.0.0.1:{port}"]},
        }

    def await_port(self):
        end = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.https), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.log.seek(0)
                    sys.exit(f"the proxy did not start: {self.log.read()}")
                time.sleep(0.05)

    def is_up(self):
        """Whether it is the process that was started, and answers."""
        if self.process.poll() is not None:
            return False
        with socket.create_connection(("127.0.0.1", self.http), timeout=5) as client:
            client.settimeout(5)
            client.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            return client.recv(64).startswith(b"HTTP/1.1 200")

    def memory_kib(self):
        with open(f"/proc/{self.process.pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE)
        self.log.close()


async def serve_request(reader, writer):
    """A small, honest HTTP/1.1 application: says how long the body was; /large answers 1 MiB."""
    # A client, or the proxy for one, may go away at any point.
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ValueError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode("latin-1").split("\r\n")
            fields = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
            }
            length = int(fields.get("content-length", 0))
            await reader.readexactly(length)
            while fields.get("transfer-encoding") == "chunked":
                size = int((await reader.readline()).split(b";")[0], 16)
                length += size
                await reader.readexactly(size + 2 if size else 0)
                if size == 0:
                    while await reader.readline() != b"\r\n":
                        pass
                    break
            path = lines[0].split(" ")[1]
            body = b"x" * (1 << 20) if path == "/large" else f"{length} bytes of body\n".encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + (b"" if lines[0].startswith("HEAD ") else body))
            await writer.drain()
    writer.close()


def check_tls(proxy):
    address = f"{HOST}:{proxy.https}"
    # testssl.sh has one column of its machine-readable output for the severity.
    report = f"{proxy.directory}/testssl.csv"
    run("testssl", "--quiet", "--add-ca", proxy.ca, "--ip", "127.0.0.1", "--warnings", "off", "--csvfile", report, address)
    with open(report) as file:
        findings = [line.strip().strip('"').split('","') for line in file.readlines()[1:]]
    bad = [finding for finding in findings if finding[3] in ("MEDIUM", "HIGH", "CRITICAL")]
    # Not the proxy's doing: the certificate, which is a CA's of our own without revocation, and the
    # application's headers. Its choice: of suites that are all good the client's first is taken, as
    # Mozilla advises, since a client knows whether it has AES in hardware.
    excused = ("cert_", "security_headers", "cipher_order")
    ours = [finding for finding in bad if not finding[0].startswith(excused)]
    print(f"tls: testssl.sh: {len(findings)} findings, {len(ours)} of medium severity or worse in the server")
    for finding in bad:
        print(f"       {finding[3]:8} {finding[0]}: {finding[4]}")
    sslyze = os.path.join(os.path.dirname(sys.executable), "sslyze")
    result = run(sslyze, "--sni", HOST, "--mozilla_config", "intermediate", f"127.0.0.1:{proxy.https}")
    verdict = result.stdout[result.stdout.find("COMPLIANCE AGAINST") :]
    # The certificate is a CA's of our own, whom Mozilla does not know.
    faults = [line.strip() for line in verdict.splitlines() if line.strip().startswith("* ")]
    faults = [fault for fault in faults if not fault.startswith("* certificate_path_validation")]
    checked = "COMPLIANCE AGAINST" in verdict
    print(f"tls: sslyze against Mozilla's `intermediate`: {faults or 'compliant' if checked else 'did not run'}")
    return not ours and checked and not faults


def check_slow(proxy):
    """400 slow clients of each kind; another client must be served at once all the while."""
    ok = True
    url = f"http://{HOST}:{proxy.http}/large"
    kinds = {
        "slow heads": ["-H"],
        "slow bodies": ["-B", "-s", "8192"],
        "slow readers": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"],
    }
    for name, options in kinds.items():
        before = proxy.memory_kib()
        command = ["slowhttptest", *options, "-c", "400", "-r", "200", "-i", "5", "-l", "30", "-p", "3", "-u", url]
        result = run(*command, deadline=120)
        after = proxy.memory_kib()
        lines = [line.strip() for line in result.stdout.splitlines() if "service available" in line]
        served = bool(lines) and all("YES" in line for line in lines)
        up = proxy.is_up()
        print(
            f"slow: {name}: service available in all {len(lines)} looks: {served}; "
            f"memory {before} -> {after} KiB; serves afterwards: {up}"
        )
        ok = ok and served and up
    return ok


async def applications(ready, done):
    http = await asyncio.start_server(serve_request, "127.0.0.1", 0)
    async with websocket_cases.echo_server() as echo:
        ready.set_result((http.sockets[0].getsockname()[1], echo.sockets[0].getsockname()[1]))
        await done.wait()


async def main(wanted):
    loop = asyncio.get_running_loop()
    ready, done = loop.create_future(), asyncio.Event()
    serving = asyncio.create_task(applications(ready, done))
    application, echo = await ready
    ok = True
    with tempfile.TemporaryDirectory(prefix="staithe-conformance-") as directory:
        proxy = Proxy(directory, application, echo)
        try:
            for name in wanted:
                if name == "http2":
                    ok &= await asyncio.to_thread(h2_cases.run, proxy, HOST)
                elif name == "websocket":
                    ok &= await websocket_cases.run(proxy, SOCKET_HOST, echo)
                else:
                    check = {"tls": check_tls, "slow": check_slow}[name]
                    ok &= await asyncio.to_thread(check, proxy)
                ok &= await asyncio.to_thread(proxy.is_up)
        finally:
            await asyncio.to_thread(proxy.end)
    done.set()
    await serving
    print("conformance:", "as it should be" if ok else "NOT as it should be")
    return 0 if ok else 1


if __name__ == "__main__":
    known = ["http2", "websocket", "tls", "slow"]
    chosen = sys.argv[1:] or known
    if unknown := [name for name in chosen if name not in known]:
        sys.exit(f"no check is called {unknown[0]}; there are: {', '.join(known)}")
    sys.exit(asyncio.run(main(chosen)))
