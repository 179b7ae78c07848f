"""The cache host and TFTP beside others, in one run. Writes docs/benchmarks-bytes.md.

usage: bytes.py BTY_WEB LOAD WITHCACHE_VENV OUTPUT
"""

import base64
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import page

MIB = 1 << 20
OBJECT = 1 << 30
COLD_OBJECT = 256 * MIB
COLD_RATE = 25 * MIB
RUNS = 3

ABOUT = "How fast the cache host and TFTP of bty send files, beside nginx, the cache host of the reference, tftpd-hpa and dnsmasq."
HOW = "Everything runs one after the other, with its clients on the same two processors, over the loopback. Medians of {runs} runs."

PAGE = """\
## Cache: hits

Each client fetches all of one object of 1 GiB, which is in the page cache. nginx uses `proxy_cache`
with `sendfile` and two workers. withcache is {withcache}, the cache host of the reference, with its
two workers.

| clients | bty-web cache, MiB/s | nginx, MiB/s | withcache, MiB/s | of nginx | of withcache |
|---|---|---|---|---|---|
{hits}

With 50 clients bty-web used at most {memory} MiB of memory (`VmHWM`), {memory_before} MiB of them
before the first client. All processes of nginx together used {nginx_memory} MiB.

## Cache: misses

The origin sends 25 MiB/s on each connection. First one client requests an object of 256 MiB that is
not cached, then 50 clients at once request another one.

| | first client done after, s | last client done after, s | transfers from the origin |
|---|---|---|---|
{misses}

The last of 50 clients needed {cold_ratio} times as long as a single client. From an origin without
a limit, a fill of 1 GiB for one client reached {fill} MiB/s, and {nginx_fill} MiB/s with nginx.

## TFTP

A file of 1 MiB in blocks of 1468 bytes; the time is that until the last client is done. The client
drops packets, both received ones and its own, because the kernel of this machine has no netem.
tftpd-hpa and dnsmasq do not support windows, so their clients use windows of one block.

| clients | windowsize | loss | bty-web tftp, ms | tftpd-hpa, ms | dnsmasq, ms | speed of tftpd-hpa's | of dnsmasq's |
|---|---|---|---|---|---|---|---|
{tftp}

## Commands

```sh
make bench-bytes    # builds a release, installs withcache into target/withcache, needs nginx-light, tftpd-hpa and dnsmasq-base, writes this page
```
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(port: int, what: str = "") -> None:
    end = time.time() + 20
    while time.time() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"nobody listens at {port}: {what}")


@contextlib.contextmanager
def running(command: list, port: int | None, **options):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        if port:
            wait(port, str(command[0]))
        else:
            time.sleep(0.5)
        yield process
    finally:
        process.terminate()
        process.wait()


def nginx(work: Path, server: str, more: str = "") -> tuple[list, Path]:
    conf = work / "nginx.conf"
    temp = "\n".join(f"{kind}_temp_path {work}/tmp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf.write_text(
        f"user root; worker_processes 2; daemon off; pid {work}/pid; error_log stderr crit; events {{ worker_connections 1024; }}\n"
        f"http {{ access_log {work}/access.log; sendfile on; tcp_nopush on; {temp}\n{more}\nserver {{ {server} }} }}\n"
    )
    return ["/usr/sbin/nginx", "-p", str(work), "-c", str(conf), "-e", "stderr"], work / "access.log"


class Load:
    def __init__(self, path: str):
        self.path = path

    def __call__(self, *words) -> dict:
        output = subprocess.run([self.path, *map(str, words)], check=True, capture_output=True, text=True).stdout
        return json.loads(output)


def blob(origin: str) -> str:
    return "/b/" + base64.urlsafe_b64encode(origin.encode()).decode().rstrip("=") + "/object.img"


def get(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return answer.read()


def memory(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0


def rate(load: Load, port: int, path: str, clients: int, failures: dict | None = None) -> float:
    """MiB a second of all clients together. `failures`, if given, gets the number that failed."""
    speeds = []
    for _ in range(RUNS if clients == 1 else 1):
        took = load("http", f"127.0.0.1:{port}", path, clients, 1)
        assert took["failed"] == 0 or failures is not None, took
        if failures is not None:
            failures[clients] = took["failed"]
        speeds.append(took["bytes"] / MIB / took["last_s"])
    return statistics.median(speeds)


def filled(port: int) -> None:
    while json.loads(get(f"http://127.0.0.1:{port}/cache"))["fills"]:
        time.sleep(0.05)


@contextlib.contextmanager
def bty_cache(bty: str, work: Path):
    port = free_port()
    env = {**os.environ, "BTY_CACHE_REACH": "127.0.0.0/8", "BTY_SERVER_LOG": "warn", "BTY_CACHE_FRESH_S": "3600"}
    command = [bty, "cache", "--data-dir", str(work), "--listen", f"127.0.0.1:{port}"]
    with running(command, port, env=env) as process:
        yield port, process.pid


@contextlib.contextmanager
def nginx_cache(work: Path, origin: int):
    (work / "n").mkdir(parents=True)
    port = free_port()
    zone = f"proxy_cache_path {work}/n/cache levels=1:2 keys_zone=z:10m max_size=20g inactive=60m use_temp_path=off;"
    server = (
        f"listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_cache z; proxy_cache_valid 200 60m;"
        " proxy_cache_lock on; proxy_cache_lock_timeout 600s; proxy_cache_lock_age 600s; proxy_max_temp_file_size 20480m; }"
    )
    command, _ = nginx(work / "n", server, zone)
    with running(command, port) as process:
        yield port, process.pid


@contextlib.contextmanager
def withcache(venv: Path, work: Path):
    port = free_port()
    command = [venv / "bin/withcache-server", "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(work)]
    with running(command, port) as process:
        yield port, process.pid


def nginx_memory(pid: int) -> float:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(memory(int(p), "VmHWM") for p in [pid, *children])


def hits(bty: str, venv: Path, load: Load, work: Path, origin: int) -> tuple[str, dict]:
    url = f"http://127.0.0.1:{origin}/object.img"
    speeds, facts = {}, {}
    with bty_cache(bty, work / "bty") as (port, pid):
        begun = time.time()
        load("http", f"127.0.0.1:{port}", blob(url), 1, 1)
        facts["fill"] = OBJECT / MIB / (time.time() - begun)
        filled(port)
        facts["before"] = memory(pid, "VmHWM")
        speeds["bty"] = [rate(load, port, blob(url), clients) for clients in (1, 50)]
        facts["memory"] = memory(pid, "VmHWM")
    with nginx_cache(work / "nginx", origin) as (port, pid):
        begun = time.time()
        load("http", f"127.0.0.1:{port}", "/object.img", 1, 1)
        facts["nginx_fill"] = OBJECT / MIB / (time.time() - begun)
        speeds["nginx"] = [rate(load, port, "/object.img", clients) for clients in (1, 50)]
        facts["nginx_memory"] = nginx_memory(pid)
    with withcache(venv, work / "withcache") as (port, _):
        with contextlib.suppress(urllib.error.HTTPError):
            get(f"http://127.0.0.1:{port}{blob(url)}")
        while True:
            head = urllib.request.Request(f"http://127.0.0.1:{port}{blob(url)}", method="HEAD")
            with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(head):
                break
            time.sleep(0.2)
        failures: dict = {}
        speeds["withcache"] = [rate(load, port, blob(url), clients, failures) for clients in (1, 50)]
    rows = []
    for i, clients in enumerate((1, 50)):
        own, other, reference = (speeds[name][i] for name in ("bty", "nginx", "withcache"))
        failed = f" ({failures[clients]} clients got nothing)" if failures[clients] else ""
        rows.append(f"| {clients} | {own:.0f} | {other:.0f} | {reference:.0f}{failed} | {own / other:.2f} | {own / reference:.1f} |")
        facts[f"of_nginx_{clients}"], facts[f"of_withcache_{clients}"] = own / other, own / reference
    return "\n".join(rows), facts


def misses(bty: str, load: Load, work: Path, slow: int, log: Path) -> tuple[str, dict]:
    rows, times = [], {}

    def transfers(name: str) -> int:
        return sum(f"GET /{name} " in line and f" 200 {COLD_OBJECT} " in line for line in log.read_text().splitlines())

    took = load("http", f"127.0.0.1:{slow}", "/cold0.img", 1, 1)
    rows.append(f"| origin itself, one client | {took['first_s']:.1f} | {took['last_s']:.1f} | 1 |")
    with bty_cache(bty, work / "cold") as (port, _):
        for name, clients in (("cold1.img", 1), ("cold2.img", 50)):
            took = load("http", f"127.0.0.1:{port}", blob(f"http://127.0.0.1:{slow}/{name}"), clients, 1)
            assert took["failed"] == 0, took
            filled(port)
            times[clients] = took["last_s"]
            seen = transfers(name)
            rows.append(f"| bty-web cache, {clients} client{'s' if clients > 1 else ''} | {took['first_s']:.1f} | {took['last_s']:.1f} | {seen} |")
            times[f"seen{clients}"] = seen
    return "\n".join(rows), times


def tftp(bty: str, load: Load, work: Path) -> tuple[str, dict]:
    root = work / "tftp"
    root.mkdir()
    (root / "ipxe.efi").write_bytes(os.urandom(MIB))
    root.chmod(0o755)
    (root / "ipxe.efi").chmod(0o644)
    ports = {name: free_port() for name in ("bty", "hpa", "dnsmasq")}
    commands = {
        "bty": [bty, "tftp", "--listen", f"127.0.0.1:{ports['bty']}", "--root", str(root)],
        "hpa": ["in.tftpd", "--foreground", "--address", f"127.0.0.1:{ports['hpa']}", "--secure", str(root)],
    }
    results: dict = {}
    cases = [(clients, window, loss) for loss in (0, 0.01) for clients in (1, 100) for window in (1, 16)]
    with contextlib.ExitStack() as stack:
        for name in ("bty", "hpa"):
            stack.enter_context(running(commands[name], None))
        # dnsmasq serves TFTP only on the standard port, so it gets a network namespace
        subprocess.run(["ip", "netns", "add", "bty-bench"], check=True)
        stack.callback(subprocess.run, ["ip", "netns", "del", "bty-bench"])
        inside = ["ip", "netns", "exec", "bty-bench"]
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        dnsmasq = ["dnsmasq", "-k", "--conf-file=/dev/null", "--port=0", "--enable-tftp", f"--tftp-root={root}", "--user=root", "--tftp-max=200",
                   "--listen-address=127.0.0.1", f"--pid-file={work}/dnsmasq.pid"]
        stack.enter_context(running([*inside, *dnsmasq], None))
        for clients, window, loss in cases:
            for name in ("bty", "hpa", "dnsmasq"):
                address = f"127.0.0.1:{ports[name] if name != 'dnsmasq' else 69}"
                times = []
                for _ in range(1 if loss else 9 if clients == 1 else RUNS):
                    words = [load.path, "tftp", address, "ipxe.efi", clients, 1468, window, loss]
                    words = (inside if name == "dnsmasq" else []) + [str(word) for word in words]
                    took = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
                    if took["failed"]:
                        print(f"{name}: {took['failed']} of {clients} failed", file=sys.stderr)
                    times.append(took["last_s"] * 1000)
                results[name, clients, window, loss] = statistics.median(times)
    rows = []
    for clients, window, loss in cases:
        own, hpa, dns = (results[name, clients, window, loss] for name in ("bty", "hpa", "dnsmasq"))
        rows.append(f"| {clients} | {window} | {loss * 100:.0f} % | {own:.0f} | {hpa:.0f} | {dns:.0f} | {hpa / own:.2f} | {dns / own:.2f} |")
    worst = min(min(results["hpa", *case], results["dnsmasq", *case]) / results["bty", *case] for case in cases)
    return "\n".join(rows), {"worst": worst}


def main() -> None:
    bty, load, venv, output = sys.argv[1], Load(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    version = subprocess.run([venv / "bin/pip", "show", "withcache"], capture_output=True, text=True, check=True).stdout
    version = next(line.split()[1] for line in version.splitlines() if line.startswith("Version"))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        work = Path(directory)
        work.chmod(0o755)
        root = work / "origin"
        root.mkdir()
        with (root / "object.img").open("wb") as file:
            for _ in range(OBJECT // (16 * MIB)):
                file.write(os.urandom(16 * MIB))
        for i in range(3):
            with (root / f"cold{i}.img").open("wb") as file:
                file.write(os.urandom(COLD_OBJECT))
        for name in ("fast", "slow"):
            (work / name).mkdir()
        fast, slow = free_port(), free_port()
        command, _ = nginx(work / "fast", f"listen 127.0.0.1:{fast}; root {root};")
        slow_command, log = nginx(work / "slow", f"listen 127.0.0.1:{slow}; root {root}; limit_rate {COLD_RATE};")
        with running(command, fast), running(slow_command, slow):
            hit_rows, facts = hits(bty, venv, load, work, fast)
            miss_rows, cold = misses(bty, load, work, slow, log)
        tftp_rows, line = tftp(bty, load, work)
    cold_ratio = cold[50] / cold[1]
    aims = [
        ("hits at 0.9 of nginx at least", f"{facts['of_nginx_1']:.2f} with 1 client, {facts['of_nginx_50']:.2f} with 50",
         min(facts["of_nginx_1"], facts["of_nginx_50"]) >= 0.9),
        ("hits at 5 times the reference at least", f"{facts['of_withcache_1']:.1f} with 1 client, {facts['of_withcache_50']:.1f} with 50",
         min(facts["of_withcache_1"], facts["of_withcache_50"]) >= 5),
        ("50 cold clients are one transfer", f"{cold['seen50']}", cold["seen50"] == 1),
        ("the last of them within 1.2 of the time of one", f"{cold_ratio:.2f}", cold_ratio <= 1.2),
        ("at most 100 MiB at 50 clients", f"{facts['memory']:.0f} MiB", facts["memory"] <= 100),
        ("TFTP as fast as tftpd-hpa and dnsmasq in every row", f"{line['worst']:.2f} in the worst", line["worst"] >= 1.0),
    ]
    opening = page.opening("cache and TFTP", ABOUT, aims, "bench-bytes", "tests/bench/bytes.py", HOW.format(runs=RUNS))
    output.write_text(opening + "\n" + PAGE.format(
        withcache=f"withcache {version}", hits=hit_rows, misses=miss_rows, tftp=tftp_rows,
        memory=f"{facts['memory']:.0f}", memory_before=f"{facts['before']:.0f}", nginx_memory=f"{facts['nginx_memory']:.0f}",
        cold_ratio=f"{cold_ratio:.2f}", fill=f"{facts['fill']:.0f}", nginx_fill=f"{facts['nginx_fill']:.0f}",
    ))


if __name__ == "__main__":
    main()
