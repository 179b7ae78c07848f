#!/usr/bin/env python3
"""A flood of strangers against a server, measured: 10,000 connections with half a request, 100,000
invented machines, 1,000 log-ins at once.

usage: strangers.py BTY_WEB

While they last, a known machine contacts the server ten times a second. Prints how long that took,
what the server took of memory, and what was lost; exits with 1 when a limit of
docs/explanation/security.md is missed. Everything is on loopback.
"""

import collections
import http.client
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

CONNECTIONS, MACHINES, LOGINS = 10_000, 100_000, 1_000
MEMORY_MAX_MIB, MEDIAN_MAX_MS = 120, 100
KNOWN = [f"02-00-00-00-00-{n:02x}" for n in range(20)]


def request(port, method, path, body=None, headers=None, source=None, timeout=60):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout, source_address=source)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Server:
    """bty-web with a password, and twenty machines that an operator has labelled."""

    def __init__(self, program, state):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.env = {
            "PATH": os.environ["PATH"],
            "BTY_PATHS_STATE_DIR": state,
            "BTY_SERVER_PORT": str(self.port),
            "BTY_SERVER_HOST": "127.0.0.1",
        }
        hashed = subprocess.run([program, "hash-password"], input="s3cret\n", capture_output=True, text=True, check=True, env=self.env)
        self.env["BTY_ADMIN_PASSWORD"] = hashed.stdout.strip()
        self.log = open(pathlib.Path(state) / "log", "w", encoding="utf-8")
        self.process = subprocess.Popen([program], env=self.env, stderr=self.log)
        deadline = time.monotonic() + 30
        while True:
            try:
                request(self.port, "GET", "/healthz")
                break
            except OSError:
                assert time.monotonic() < deadline, "bty-web does not serve"
                time.sleep(0.05)
        token = subprocess.run(
            [program, "token", "create", "load", "--scope", "admin"], capture_output=True, text=True, check=True, env=self.env
        )
        self.auth = {"Authorization": f"Bearer {token.stdout.strip()}", "Content-Type": "application/json"}
        for mac in KNOWN:
            status, answer = request(self.port, "PUT", f"/machines/{mac}", '{"labels":["lab"]}', self.auth)
            assert status == 200, answer

    def memory_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024

    def metrics(self):
        _, text = request(self.port, "GET", "/metrics", headers=self.auth)
        return {k: float(v) for k, v in (l.rsplit(" ", 1) for l in text.decode().splitlines() if l and l[0] != "#")}


class Contacts(threading.Thread):
    """The known machines, which boot one after the other."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.took_ms, self.failed, self.over = port, [], 0, threading.Event()

    def run(self):
        n = 0
        while not self.over.wait(0.1):
            n += 1
            begun = time.monotonic()
            try:
                status, script = request(self.port, "GET", f"/pxe/{KNOWN[n % len(KNOWN)]}?boot={n}", source=("127.0.9.9", 0))
                self.failed += status != 200 or not script.startswith(b"#!ipxe")
            except OSError:
                self.failed += 1
            self.took_ms.append((time.monotonic() - begun) * 1000)


def connections(port):
    """Half requests from 250 addresses. The server may close them whenever it likes."""
    opened, kept = 0, []
    for n in range(CONNECTIONS):
        client = socket.socket()
        client.settimeout(5)
        try:
            client.bind((f"127.1.{n % 250}.1", 0))
            client.connect(("127.0.0.1", port))
            client.send(b"GET /pxe/02-11-00-00-00-01 HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 8000)
            opened += 1
        except OSError:
            pass
        kept.append(client)
    return opened, kept


def machines(port):
    counts = collections.Counter()

    def some(k):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(f"127.2.0.{k + 1}", 0))
        for n in range(MACHINES // 4):
            mac = f"06-{k:02x}-00-{n >> 16:02x}-{n >> 8 & 255:02x}-{n & 255:02x}"
            try:
                connection.request("GET", f"/pxe/{mac}?boot={n}")
                answer = connection.getresponse()
                counts[answer.status, b"too many unknown" in answer.read()] += 1
            except (OSError, http.client.HTTPException):
                counts["broken"] += 1
                connection.close()

    threads = [threading.Thread(target=some, args=(k,)) for k in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return counts


def logins(port):
    counts, gate = collections.Counter(), threading.Barrier(100)

    def some(k):
        gate.wait()
        for n in range(LOGINS // 100):
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            try:
                status, _ = request(port, "POST", "/ui/login", f"password=guess{n}", headers, (f"127.3.{k}.{n + 1}", 0))
                counts[status] += 1
            except (OSError, http.client.HTTPException):
                counts["broken"] += 1

    threads = [threading.Thread(target=some, args=(k,)) for k in range(100)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return counts


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory() as state:
        server = Server(sys.argv[1], state)
        contacts = Contacts(server.port)
        contacts.start()
        print(f"at rest: {server.memory_mib()[0]:.0f} MiB")
        parts = []
        for name, flood in [("connections", connections), ("machines", machines), ("logins", logins)]:
            begun, before = time.monotonic(), len(contacts.took_ms)
            result = flood(server.port)
            took = contacts.took_ms[before:] or [0]
            parts.append(result)
            shown = result[0] if name == "connections" else dict(result)
            print(
                f"{name}: {time.monotonic() - begun:.0f} s, {shown}; memory {server.memory_mib()[0]:.0f} MiB; "
                f"contacts: median {statistics.median(took):.1f} ms, longest {max(took):.0f} ms"
            )
        contacts.over.set()
        contacts.join()
        metrics, (now, highest) = server.metrics(), server.memory_mib()
        refused = {k[25:-2]: int(v) for k, v in metrics.items() if k.startswith("bty_refused_total")}
        size = sum(f.stat().st_size for f in pathlib.Path(state).glob("state.db*")) / 2**20
        median = statistics.median(contacts.took_ms)
        machines = sum(count for name, count in metrics.items() if name.startswith("bty_machines{"))
        print(f"refused: {refused}; machines {machines:.0f}; database {size:.1f} MiB")
        print(f"memory: {now:.0f} MiB now, {highest:.0f} MiB at most (limit {MEMORY_MAX_MIB})")
        print(f"contacts: {len(contacts.took_ms)}, median {median:.1f} ms (limit {MEDIAN_MAX_MS}), {contacts.failed} failed")
        _, listed = request(server.port, "GET", "/machines?label=lab", headers=server.auth)
        lost = [mac for mac in KNOWN if mac.replace("-", ":") not in listed.decode()]
        print(f"known machines that were lost: {lost or 'none'}")
        server.process.terminate()
        server.process.wait(30)
        return int(highest > MEMORY_MAX_MIB or median > MEDIAN_MAX_MS or bool(lost) or contacts.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
