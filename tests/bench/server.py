"""The server beside the reference server: the same machines, the same catalog, the same requests.
Writes docs/benchmarks-server.md.

usage: server.py BTY_WEB REFERENCE_VENV OUTPUT [SECONDS]
"""

import datetime
import hashlib
import http.cookiejar
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import page

HERE = Path(__file__).parent
IMAGES = 100
SIZES = (50, 10_000)
CLIENTS = (1, 64)
WHATS = ("contact", "plan", "machines")
NAMES = {"contact": "`/pxe/{mac}`", "plan": "`/pxe/{mac}/plan`", "machines": "`/machines`"}

ABOUT = "How many requests `bty-web` answers, how soon, and in how much memory, beside the reference server."
HOW = """\
bty-web and the reference server ({reference_version}) run one after the other, with the same machines and {images} images: the reference's `state.db`, which
`bty-web import` brought over. The load (wrk, from the same two processors) asks for random machines, each time as a new boot. In both, the event of a
contact is on the disk before its answer."""

PAGE = """\
## Requests

| machines | request | clients | bty-web: a second | p50 ms | p99 ms | reference: a second | p50 ms | p99 ms | errors of the reference | ratio |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}

The ratio is that of the requests per second, bty-web to the reference. A dash means that no request
was answered within {seconds} s. bty-web had {bad} errors in total.

## Start and memory

| machines | bty-web: start, ms | memory after the run, MiB | reference: start, ms | memory after the run, MiB |
|---|---|---|---|---|
{starts}

Memory is the proportional size (`Pss`) of the server, for bty-web together with its script workers.

## A simulated fleet

`bty-web simulate-fleet --machines 1000 --parallel 1000` against a server with {large} machines:

```
{fleet}
```

## Commands

```sh
make bench-server    # builds a release, installs the reference into target/reference, needs wrk, writes this page
```
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A running server; `start_ms` is the time from its start to its first answer."""

    def __init__(self, command: str, state: Path):
        self.port = free_port()
        env = {
            "PATH": os.environ["PATH"],
            "BTY_PATHS_STATE_DIR": str(state),
            "BTY_SERVER_HOST": "127.0.0.1",
            "BTY_SERVER_PORT": str(self.port),
            "BTY_ADMIN_PASSWORD": "secret",
        }
        self.session = None
        begun = time.monotonic()
        self.log = open(state / "log", "w")
        self.process = subprocess.Popen([command], env=env, stdout=self.log, stderr=self.log)
        while True:
            try:
                urllib.request.urlopen(self.base + "/healthz", timeout=1).read()
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() - begun > 60:
                    sys.exit(f"{command} does not start:\n{(state / 'log').read_text()}")
                time.sleep(0.002)
        self.start_ms = (time.monotonic() - begun) * 1000

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cookie(self) -> str:
        """Of a session, which is begun before there is any load."""
        if self.session is None:
            self.session = self.log_in()
        return self.session

    def log_in(self) -> str:
        jar = http.cookiejar.CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        opener.open(self.base + "/ui/login", urllib.parse.urlencode({"password": "secret"}).encode(), timeout=60).read()
        return "; ".join(f"{c.name}={c.value}" for c in jar)

    def memory_mib(self) -> float:
        wanted, kib = {self.process.pid}, 0
        for status in sorted(Path("/proc").glob("[0-9]*/status"), key=lambda p: int(p.parent.name)):
            try:
                text = status.read_text()
            except OSError:
                continue
            pid, parent = int(status.parent.name), int(re.search(r"PPid:\s+(\d+)", text)[1])
            if pid in wanted or parent in wanted:
                wanted.add(pid)
                found = re.search(r"Pss:\s+(\d+)", (status.parent / "smaps_rollup").read_text())
                kib += int(found[1]) if found else 0
        return kib / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def load(server: Server, what: str, machines: int, clients: int, seconds: int) -> dict:
    threads = min(clients, 2)
    command = ["wrk", f"-t{threads}", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", str(HERE / "server.lua")]
    command += ["-H", f"Cookie: {server.cookie()}", server.base, "--", what, str(machines)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(re.search(r"RESULT (.*)", output)[1])


def seed(path: Path, machines: int):
    """Fills the reference's database."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    db = sqlite3.connect(path)
    refs = []
    for n in range(IMAGES):
        src = f"https://images.example/image-{n}.img.zst"
        refs.append(hashlib.sha256(src.encode()).hexdigest())
        db.execute(
            "INSERT INTO catalog_entries (bty_image_ref, src, resolved_src, disk_image_sha, name, format, size_bytes, added_at) VALUES (?,?,?,?,?,?,?,?)",
            (refs[n], src, src, hashlib.sha256(str(n).encode()).hexdigest(), f"image {n}", "img.zst", 1 << 30, now),
        )
    modes = ["bty-flash-once", "bty-flash-always", "bty-inventory", "bty-tui", "ipxe-exit"]
    for n in range(machines):
        mac, mode = f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", modes[n % len(modes)]
        disks = json.dumps([{"path": "/dev/nvme0n1", "size": "500G", "serial": f"S{n}", "tran": "nvme", "removable": False, "readonly": False}])
        db.execute(
            "INSERT INTO machines (mac, bty_image_ref, discovered_at, last_seen_at, last_seen_ip, boot_mode, saw_flasher_boot, known_disks, known_disks_at, target_disk_serial, created_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (mac, refs[n % IMAGES], now, now, "10.0.0.1", mode, 0, disks, now, f"S{n}", now, now),
        )
        db.execute("INSERT INTO machine_labels (mac, label) VALUES (?, ?)", (mac, f"rack {n % 40}"))
    db.commit()
    db.close()


def measure(command: str, state: Path, machines: int, seconds: int) -> tuple[dict, float, float]:
    server = Server(command, state)
    found = {}
    server.cookie()
    for what in WHATS:
        for clients in CLIENTS:
            found[what, clients] = load(server, what, machines, clients, seconds)
            print(Path(command).parent.parent.name, machines, what, clients, found[what, clients], flush=True)
    memory = server.memory_mib()
    server.stop()
    return found, server.start_ms, memory


def fleet(bty_web: str, state: Path) -> str:
    server = Server(bty_web, state)
    token = subprocess.run(
        [bty_web, "token", "create", "bench", "--scope", "machines"],
        env={"BTY_PATHS_STATE_DIR": str(state)}, capture_output=True, text=True, check=True,
    ).stdout.strip()
    command = [bty_web, "simulate-fleet", "--machines", "1000", "--parallel", "1000", "--server", server.base, "--token", token]
    run = subprocess.run(command, capture_output=True, text=True)
    server.stop()
    return (run.stdout + run.stderr).strip()


def shown(result: dict) -> tuple[float, list[str]]:
    rate = result["requests"] / (result["us"] / 1e6)
    if not result["requests"]:
        return 0, ["-", "-", "-"]
    return rate, [f"{rate:.1f}" if rate < 100 else f"{rate:.0f}", f"{result['p50'] / 1000:.1f}", f"{result['p99'] / 1000:.1f}"]


def main():
    bty_web, venv, output = sys.argv[1:4]
    seconds = int(sys.argv[4]) if len(sys.argv) > 4 else 8
    rows, starts, ours = [], [], {}
    bad, report = 0, ""
    for machines in SIZES:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
            theirs_state, own_state = Path(scratch, "reference"), Path(scratch, "bty")
            theirs_state.mkdir()
            own_state.mkdir()
            Server(f"{venv}/bin/bty-web", theirs_state).stop()
            seed(theirs_state / "state.db", machines)
            subprocess.run([bty_web, "import", str(theirs_state / "state.db")], env={"BTY_PATHS_STATE_DIR": str(own_state)}, check=True)
            own = measure(bty_web, own_state, machines, seconds)
            theirs = measure(f"{venv}/bin/bty-web", theirs_state, machines, seconds)
            if machines == SIZES[-1]:
                report = fleet(bty_web, own_state)
        ours[machines] = own
        starts.append(f"| {machines} | {own[1]:.0f} | {own[2]:.0f} | {theirs[1]:.0f} | {theirs[2]:.0f} |")
        for what in WHATS:
            for clients in CLIENTS:
                a, b = own[0][what, clients], theirs[0][what, clients]
                bad += a["bad"] + a["lost"]
                (own_rate, own_text), (their_rate, their_text) = shown(a), shown(b)
                ratio = f"{own_rate / their_rate:.0f}" if their_rate else "-"
                cells = [str(machines), NAMES[what], str(clients), *own_text, *their_text, str(b["bad"] + b["lost"]), ratio]
                rows.append("| " + " | ".join(cells) + " |")
    large = SIZES[-1]
    contact = ours[large][0]["contact", 64]
    small = ours[SIZES[0]][0]["contact", 64]
    rate, p99 = contact["requests"] / (contact["us"] / 1e6), contact["p99"] / 1000
    share = rate / (small["requests"] / (small["us"] / 1e6))
    aims = [
        ("2,000 contacts a second at 64 clients with 10,000 machines", f"{rate:.0f}", rate >= 2000),
        ("p99 of them at most 50 ms", f"{p99:.1f} ms", p99 <= 50),
        ("the cost of a contact does not depend on the number of machines", f"{share:.2f} of the rate with 50 machines", share > 0.8),
        ("at most 60 MiB", f"{ours[large][2]:.0f} MiB", ours[large][2] <= 60),
        ("start in at most 100 ms", f"{ours[large][1]:.0f} ms", ours[large][1] <= 100),
        ("1,000 simulated machines without one wrong decision", report.splitlines()[-1], "no wrong decision" in report),
    ]
    version = subprocess.run([f"{venv}/bin/bty-web", "--version"], capture_output=True, text=True).stdout.strip()
    how = HOW.format(reference_version=version, images=IMAGES)
    opening = page.opening("server", ABOUT, aims, "bench-server", "tests/bench/server.py", how)
    Path(output).write_text(opening + "\n" + PAGE.format(
        rows="\n".join(rows), starts="\n".join(starts), seconds=seconds, bad=bad, large=f"{large:,}", fleet=report,
    ))


main()
