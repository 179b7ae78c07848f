"""Times bty beside other tools. Run it through run.sh, which installs and builds what it needs."""

import argparse
import json
import mmap
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree
from pathlib import Path

import cases
import report
from cases import Case, Tool
from images import FORMS, IMAGES, MIB, Store

CHUNK = 4 * MIB
OLD = 0xA5
TREE = Path(__file__).resolve().parents[2]


class Target:
    """A loop device with direct I/O over a preallocated file."""

    def __init__(self, file: Path, size_bytes: int):
        self.file, self.size_bytes = file, size_bytes
        subprocess.run(["fallocate", "-l", str(size_bytes), file], check=True)
        command = ["losetup", "--find", "--show", "--direct-io=on", file]
        self.device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        # direct I/O needs page-aligned memory, and anonymous memory is
        self.chunk = mmap.mmap(-1, CHUNK)
        self.chunk.write(bytes([OLD]) * CHUNK)

    def refill(self) -> None:
        """Fills the device with old data, so that blocks that a run has punched out exist again."""
        fd = os.open(self.device, os.O_WRONLY | os.O_DIRECT)
        try:
            for offset in range(0, self.size_bytes, CHUNK):
                if os.pwrite(fd, self.chunk, offset) != CHUNK:
                    raise SystemExit(f"short write to {self.device} at {offset}")
            os.fsync(fd)
        finally:
            os.close(fd)
        os.sync()

    def close(self) -> None:
        subprocess.run(["losetup", "-d", self.device], check=False)
        self.file.unlink(missing_ok=True)


class WebServer:
    """nginx on loopback, with sendfile and ranges."""

    def __init__(self, directory: Path):
        conf, log = directory / "nginx.conf", directory / "nginx.log"
        for _ in range(5):
            self.port = random.randrange(20000, 32000)
            paths = " ".join(f"{name}_temp_path {directory}/nginx.tmp;" for name in
                             ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            conf.write_text(f"user root; daemon off; pid {directory}/nginx.pid; error_log stderr; events {{}}\n"
                            f"http {{ access_log off; sendfile on; {paths}\n"
                            f"  server {{ listen 127.0.0.1:{self.port}; root {directory}; }} }}\n")
            with open(log, "wb") as stderr:
                self.process = subprocess.Popen(["nginx", "-e", log, "-c", conf], stderr=stderr)
            time.sleep(0.5)
            # if another process has the port, nginx exits
            if self.process.poll() is None:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
        raise SystemExit(f"nginx does not start, see {log}")

    def url(self, path: Path) -> str:
        return f"http://127.0.0.1:{self.port}/{path.name}"

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


class Bench:
    def __init__(self, store: Store, bty: str, rounds: int):
        self.store, self.bty, self.rounds = store, bty, rounds
        self.web = WebServer(store.directory)
        self.target: Target | None = None
        self.results: dict[str, dict] = {}

    def close(self) -> None:
        self.web.close()
        if self.target:
            self.target.close()

    def measure(self, case: Case) -> dict:
        """Runs every tool once a round; each round starts with another one."""
        self._prepare(case)
        tools = [cases.BTY, cases.BTY_VERIFY, *(tool for tool in case.peers if self._is_there(tool, case))]
        runs = {tool.name: [] for tool in [*tools, cases.READ_BACK]}
        notes = {}
        for round_ in range(self.rounds):
            turn = round_ % len(tools)
            for tool in tools[turn:] + tools[:turn]:
                runs[tool.name].append(self._time(tool, case))
                if round_ == 0:
                    notes[tool.name] = self._check(tool, case)
                if tool is cases.BTY_VERIFY:
                    runs[cases.READ_BACK.name].append(self._time(cases.READ_BACK, case, refill=False))
        result = {"runs": runs, "notes": notes, "commands": {t.name: self._shown(t, case) for t in tools}}
        return result | {"source_bytes": self._source(case).stat().st_size}

    def _prepare(self, case: Case) -> None:
        size_bytes = IMAGES[case.image].size_bytes
        if self.target and self.target.size_bytes != size_bytes:
            self.target.close()
            self.target = None
        if not self.target:
            self.target = Target(self.store.directory / "target.img", size_bytes)
        # read the image into the page cache, so that the speed of its disk does not matter
        subprocess.run(["cat", self._source(case)], stdout=subprocess.DEVNULL, check=True)

    def _source(self, case: Case) -> Path:
        return self.store.path(case.image, case.form)

    def _words(self, case: Case) -> dict[str, str]:
        source = self._source(case)
        return {
            "src": self.web.url(source) if case.is_http else str(source),
            "dev": self.target.device,
            "bmap": str(self.store.bmap(case.image)),
            "tmp": str(self.store.directory / "download.tmp"),
        }

    def _shown(self, tool: Tool, case: Case) -> str:
        name = self._source(case).name
        src = f"http://127.0.0.1/{name}" if case.is_http else name
        return tool.command.format(src=src, dev="DEV", bmap=f"{case.image}.bmap", tmp="download.tmp")

    def _is_there(self, tool: Tool, case: Case) -> bool:
        if tool.kind != "curl-driver":
            return True
        return subprocess.run(["qemu-img", "info", self._words(case)["src"]], capture_output=True).returncode == 0

    def _time(self, tool: Tool, case: Case, refill: bool = True) -> dict:
        words = self._words(case)
        command = tool.command.format(**words)
        if tool.kind == "bty":
            argv = [self.bty, *shlex.split(command)[1:]]
        else:
            argv = ["bash", "-c", f"set -o pipefail; {command}"]
        Path(words["tmp"]).unlink(missing_ok=True)
        if refill:
            self.target.refill()
        log = self.store.directory / "run.log"
        with open(log, "wb") as output:
            start = time.perf_counter()
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"failed with {process.returncode}: {command}\n{log.read_text(errors='replace')}")
        return {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime, "rss_kib": usage.ru_maxrss}

    def _check(self, tool: Tool, case: Case) -> str:
        """Compares the device with the raw image, so that a fast wrong result is not reported."""
        raw = self.store.path(case.image, "raw")
        subprocess.run(["blockdev", "--flushbufs", self.target.device], check=True)
        if tool.kind == "map":
            return compare_mapped(raw, self.target.device, self.store.bmap(case.image))
        size = str(self.target.size_bytes)
        result = subprocess.run(["cmp", "-n", size, raw, self.target.device], capture_output=True, text=True)
        if result.returncode != 0:
            raise SystemExit(f"{case.key}: {tool.name} wrote something else: {result.stdout}{result.stderr}")
        return "equal"


def compare_mapped(raw: Path, device: str, bmap: Path) -> str:
    """Compares what a block map lists, and says how much of the rest differs."""
    ranges, stale = [], 0
    for element in xml.etree.ElementTree.parse(bmap).getroot().iter("Range"):
        first, _, last = element.text.strip().partition("-")
        ranges.append((int(first) * 4096, (int(last or first) + 1) * 4096))
    with open(raw, "rb") as image, open(device, "rb") as disk:
        size = os.fstat(image.fileno()).st_size
        at = 0
        for start, end in [*ranges, (size, size)]:
            for gap in range(at, start, MIB):
                length = min(MIB, start - gap)
                stale += 0 if read(image, gap, length) == read(disk, gap, length) else length
            for offset in range(start, min(end, size), MIB):
                length = min(MIB, end - offset, size - offset)
                if read(image, offset, length) != read(disk, offset, length):
                    raise SystemExit(f"bmaptool wrote something else within 1 MiB of {offset}")
            at = end
    return f"{stale // MIB} MiB of old data left" if stale else "equal"


def read(file, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def steal_share(before: list[int], after: list[int]) -> float:
    spent = [b - a for a, b in zip(before, after)]
    return spent[7] / max(1, sum(spent[:8]))


def cpu_ticks() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.sh", description="Times bty beside other tools.")
    parser.add_argument("--quick", action="store_true", help="1 GiB images, the main forms, 3 rounds; not the document")
    parser.add_argument("--rounds", type=int, help="default 5, quick 3")
    parser.add_argument("--only", metavar="WORD", action="append", help="cases with WORD in their names: half-1g/zst")
    parser.add_argument("--output", type=Path, help="default docs/benchmarks.md, of a part build/bench/part.md")
    parser.add_argument("--render", action="store_true", help="write the table of the last run again, measure nothing")
    parser.add_argument("--list", action="store_true", help="show the cases")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    chosen = [c for c in cases.cases(args.quick) if not args.only or any(word in c.key for word in args.only)]
    if args.list:
        print(*(case.key for case in chosen), sep="\n")
        return
    directory = Path(os.environ.get("WORK", TREE / "build/bench")).resolve()
    is_part = args.quick or bool(args.only)
    results = directory / ("part.json" if is_part else "results.json")
    output = args.output or (directory / "part.md" if is_part else TREE / "docs/benchmarks.md")
    if not args.render:
        run(chosen, directory, args.rounds or (3 if args.quick else 5), results)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(report.render(json.loads(results.read_text())))
    print(f"written: {output}")


def run(chosen: list[Case], directory: Path, rounds: int, results: Path) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    store = Store(directory)
    print("building images", flush=True)
    for case in chosen:
        store.path(case.image, case.form)
        store.bmap(case.image)
        store.used_bytes(case.image)
    bench = Bench(store, os.environ["BTY"], rounds)
    data = {"facts": report.facts(directory, os.environ["BTY"]), "rounds": rounds, "cases": {}}
    data["images"] = {name: store.used_bytes(name) for name in dict.fromkeys(case.image for case in chosen)}
    data["forms"] = {form: command for form, (_, command) in FORMS.items() if form in {case.form for case in chosen}}
    before = cpu_ticks()
    try:
        for case in chosen:
            data["cases"][case.key] = bench.measure(case)
            data["steal"] = steal_share(before, cpu_ticks())
            results.write_text(json.dumps(data, indent=1))
            print(report.line(case, data["cases"][case.key]), flush=True)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
