"""The delta flash beside a full flash and beside other tools, on disks and links with set rates.
Writes docs/benchmarks-delta.md. Needs root, 4 GiB in build/bench and 2 GiB in /dev/shm. The first
run builds the images.

usage: delta.py BTY OUTPUT [--rounds N] [--only WORD] [--render]
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import delta_page
import report
from bench import cpu_ticks, steal_share
from delta_devices import EVEN, SLOW_WRITES, UNLIMITED, Disk, DiskRate, Link
from delta_images import SIZE_BYTES, DeltaStore
from images import MIB

TREE = Path(__file__).resolve().parents[2]
#: bits per second of the links
FAST, SLOW = 1_000_000_000, 100_000_000
#: a tool that takes longer than so many seconds has failed
LIMIT_S = 60


@dataclass(frozen=True)
class Case:
    """A disk that holds one image gets another one over a link of `link` bit/s; 0: no limit."""

    key: str
    held: str
    new: str
    disk: DiskRate
    link: int

    def modes(self) -> list[str]:
        """A proof by sample saves nothing where nothing is kept."""
        return [mode for mode in MODES if self.new != "rebuilt" or mode != PROVEN]


CASES = [
    Case("used", "used", "old", EVEN, 0),
    Case("used, slow writes", "used", "old", SLOW_WRITES, 0),
    Case("in place", "old", "inplace", EVEN, 0),
    Case("rebuilt, 100 Mbit/s", "old", "rebuilt", EVEN, SLOW),
    Case("rebuilt, 1 Gbit/s", "old", "rebuilt", EVEN, FAST),
]
PROVEN = "delta, proven disk"
MODES = {
    "full": ["--delta", "never"],
    "auto": ["--delta", "auto"],
    "delta": ["--delta", "always"],
    PROVEN: ["--delta", "always", "--proven-disk"],
}


@dataclass(frozen=True)
class Peer:
    """Another tool. `command` may name {new}, {url}, {dev} and {dir}; `prepare` makes what it
    needs, in {out}."""

    name: str
    tool: str
    command: str
    suffix: str = ""
    prepare: str = ""
    #: it leaves old data where the image is empty
    is_mapped: bool = False


PEERS = [
    Peer("bita", "bita", "bita clone --seed-output {url}/delta-{name}.cba {dev}",
         "cba", "bita compress --input {raw} {out} --compression brotli --compression-level 3"),
    Peer("rsync", "rsync", "rsync --inplace --no-whole-file --write-devices --stats {raw} {dev}"),
    Peer("bmaptool", "bmaptool", "bmaptool -q copy --bmap {directory}/delta-{name}.bmap --no-verify {url}/delta-{name}.raw {dev}",
         "bmap", "bmaptool -q create -o {out} {raw}", is_mapped=True),
]  # fmt: skip
PAIRS = [("in place", "old", "inplace"), ("rebuilt", "old", "rebuilt")]


class Failed(Exception):
    """A command failed, or wrote something else."""


class Bench:
    def __init__(self, store: DeltaStore, bty: str, rounds: int):
        self.store, self.bty, self.rounds = store, bty, rounds
        self.link = Link(store.directory)
        self.disk = Disk(SIZE_BYTES + 8 * MIB)
        self.blank = store.directory / "delta-blank.raw"
        self.blank.touch()
        os.truncate(self.blank, MIB)

    def close(self) -> None:
        self.disk.close()
        self.link.close()

    def case(self, case: Case) -> dict:
        """Runs every mode once a round; each round begins with another one."""
        names = case.modes()
        runs: dict[str, list] = {name: [] for name in names}
        for round_ in range(self.rounds):
            turn = round_ % len(names)
            for name in names[turn:] + names[:turn]:
                run = self.flash(case, MODES[name])
                self.check(case.new, f"{case.key}: {name}") if round_ == 0 else None
                runs[name].append(run)
        return {"runs": runs}

    def flash(self, case: Case, options: list[str], source: Path | None = None) -> dict:
        """One flash, and what passed the link and the disk meanwhile."""
        self.prepare(case)
        return self.measure(self.command(case, options, source))

    def command(self, case: Case, options: list[str], source: Path | None = None) -> list[str]:
        src = source or self.link.url(self.store.packed(case.new))
        return [self.bty, "flash", str(src), self.disk.device, "--yes", "--json", *options]

    def prepare(self, case: Case) -> None:
        self.disk.hold(self.blank if case.held == "blank" else self.store.raw(case.held))
        self.disk.limit(case.disk)
        self.link.start(case.link // 8)

    def measure(self, command: list[str]) -> dict:
        """Runs `command`. Counts begin anew."""
        self.link.start(self.link.rate)
        read, written = self.disk.counts()
        output = self.store.directory / "delta-run.log"
        with open(output, "wb") as out:
            started = time.perf_counter()
            # in a group of its own, which can be ended as a whole
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
            limit = threading.Timer(LIMIT_S, os.killpg, (process.pid, signal.SIGKILL))
            limit.start()
            _, status, usage = os.wait4(process.pid, 0)
            limit.cancel()
            wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise Failed(f"{' '.join(command)} failed with {process.returncode}: {output.read_text(errors='replace')[-2000:]}")
        # what a tool left in the page cache is written here, and counted
        subprocess.run(["blockdev", "--flushbufs", self.disk.device], check=True)
        after_read, after_written = self.disk.counts()
        result = {
            "wall_s": wall,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "rss_kib": usage.ru_maxrss,
            "fetched": self.link.sent_bytes,
            "requests": self.link.requests,
            "read": after_read - read,
            "written": after_written - written,
        }
        return result | told(output.read_text(errors="replace"))

    def check(self, name: str, what: str) -> None:
        difference = self.disk.differs_from(self.store.raw(name))
        if difference:
            raise SystemExit(f"{what}: the disk holds something else than the image: {difference}")

    def resume(self) -> dict:
        """A whole flash of an empty disk, and one that is killed halfway and run again."""
        case = Case("resume", "blank", "rebuilt", EVEN, SLOW)
        runs = {"whole": [], "rest": []}
        for _ in range(self.rounds):
            whole = self.flash(case, MODES["auto"])
            runs["whole"].append(whole)
            self.prepare(case)
            self.kill_at(self.command(case, MODES["auto"]), whole["fetched"] // 2)
            self.link.start(case.link // 8)
            runs["rest"].append(self.measure(self.command(case, MODES["auto"])))
            self.check(case.new, "after a cut")
        return {"runs": runs}

    def kill_at(self, command: list[str], sent_bytes: int) -> None:
        """Runs `command`, and kills it after so many bytes of the link."""
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while self.link.sent_bytes < sent_bytes:
                if process.poll() is not None:
                    raise Failed("the flash ended before it could be cut")
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)

    def full(self) -> dict:
        """A packed image from a file onto a disk in memory, beside the pipeline that people use."""
        source = self.store.packed("rebuilt")
        case = Case("full", "old", "rebuilt", UNLIMITED, 0)
        dd = f"dd of={self.disk.device} bs=4M iflag=fullblock oflag=direct conv=fsync status=none"
        tools = {
            "bty": self.command(case, ["--delta", "never", "--no-verify"], source),
            "bty, verifying": self.command(case, ["--delta", "never"], source),
            "dd of the raw image": f"dd if={self.store.raw('rebuilt')} {dd.removeprefix('dd ')}".split(),
            "zstd -dc | dd": ["bash", "-c", f"set -o pipefail; zstd -dc {source} | {dd}"],
        }
        runs = {name: [] for name in tools}
        for _ in range(self.rounds):
            for name, command in tools.items():
                self.prepare(case)
                runs[name].append(self.measure(command))
                self.check("rebuilt", name)
        return {"runs": runs, "file_bytes": source.stat().st_size}

    def scan(self) -> dict:
        """Scans of a disk in memory, by dry runs."""
        source = self.store.packed("rebuilt")
        runs: dict[str, list] = {}
        for title, held in (("the same image", "rebuilt"), ("another image", "old")):
            case = Case("scan", held, "rebuilt", UNLIMITED, 0)
            self.prepare(case)
            command = self.command(case, [*MODES["delta"], "--dry-run"], source)
            runs[title] = [self.measure(command) for _ in range(self.rounds)]
        return {"runs": runs}

    def peers(self, title: str, held: str, new: str) -> dict:
        """Other tools and bty, on a disk in memory, over the fast link."""
        case = Case(title, held, new, UNLIMITED, FAST)
        tools = {"bty, delta": self.command(case, MODES["delta"] + ["--no-verify"])}
        tools["bty, full"] = self.command(case, MODES["full"] + ["--no-verify"])
        missing, mapped, shown = {}, [], {}
        for peer in PEERS:
            if not shutil.which(peer.tool):
                missing[peer.name] = "not installed here"
                continue
            words = {"url": f"http://127.0.0.1:{self.link.server.server_port}", "name": new, "dev": self.disk.device,
                     "raw": self.store.raw(new), "directory": self.store.directory}  # fmt: skip
            if peer.suffix:
                self.store.made(new, peer.suffix, peer.prepare.replace("{name}", new))
            tools[peer.name] = peer.command.format(**words).split()
            shown[peer.name] = peer.command
            mapped += [peer.name] if peer.is_mapped else []
        runs: dict[str, list] = {name: [] for name in tools}
        for round_ in range(self.rounds):
            for name, command in tools.items():
                # the others are slow, and here for their bytes: one round
                if name in missing or (round_ and not name.startswith("bty")):
                    continue
                try:
                    self.prepare(case)
                    runs[name].append(self.measure(command))
                    if name not in mapped:
                        self.check(new, name)
                except Failed as failure:
                    print(failure, file=sys.stderr)
                    missing[name] = f"failed here, or took longer than {LIMIT_S} s"
        return {"runs": {n: r for n, r in runs.items() if r}, "missing": missing, "mapped": mapped, "commands": shown}


def told(output: str) -> dict:
    """What the tool itself says it did: bty's report, and rsync's literal data."""
    facts: dict = {}
    for line in output.splitlines():
        if line.startswith("Literal data:"):
            facts["literal"] = int(line.split()[2].replace(",", ""))
        if '"report"' not in line:
            continue
        event = json.loads(line)
        if event.get("event") == "report":
            facts["report"] = shortened(event)
    return facts


def shortened(event: dict) -> dict:
    """The parts of a flash report that the page is about."""
    target = event["targets"][0]
    phases = {phase["phase"]: phase["elapsed_ms"] for phase in event["phases"]}
    names = ("written_bytes", "zeroed_bytes", "wiped_bytes", "verified_bytes", "proof", "delta")
    return {name: target[name] for name in names} | {"source_bytes": event["source_bytes"], "phases": phases}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="delta.py", description="Times the delta flash.")
    parser.add_argument("bty", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", metavar="WORD", action="append", help="parts with WORD in their names; not the document")
    parser.add_argument("--render", action="store_true", help="write the page of the last run again, measure nothing")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    directory = Path(os.environ.get("WORK", TREE / "build/bench")).resolve()
    results = directory / ("delta-part.json" if args.only else "delta.json")
    if not args.render:
        measure(args, directory, results)
    if args.only and not args.render:
        print(delta_page.lines(json.loads(results.read_text())))
        return
    args.output.write_text(delta_page.render(json.loads(results.read_text())))
    print(f"written: {args.output}")


def measure(args: argparse.Namespace, directory: Path, results: Path) -> None:
    bty = str(args.bty.resolve())
    os.environ["PATH"] += f":{directory / 'tools/bin'}"
    store = DeltaStore(directory, bty)
    names = ("old", "used", "inplace", "rebuilt")
    data: dict = {
        "facts": report.facts(directory, bty) | {"load": os.getloadavg()[0]},
        "rounds": args.rounds,
        "images": {name: image_facts(store, name) for name in names},
        "cases": {},
        "parts": {},
    }
    before = cpu_ticks()
    started = time.monotonic()
    bench = Bench(store, bty, args.rounds)
    parts = {case.key: (data["cases"], lambda case=case: bench.case(case)) for case in CASES}
    parts["resume"] = (data["parts"], bench.resume)
    parts["full"] = (data["parts"], bench.full)
    parts["scan"] = (data["parts"], bench.scan)
    for pair in PAIRS:
        parts[f"peers, {pair[0]}"] = (data["parts"], lambda pair=pair: bench.peers(*pair))
    try:
        for key, (place, run) in parts.items():
            if args.only and not any(word in key for word in args.only):
                continue
            place[key] = run()
            data["steal"] = steal_share(before, cpu_ticks())
            data["seconds"] = time.monotonic() - started
            results.write_text(json.dumps(data, indent=1))
            print(delta_page.line(key, place[key]), flush=True)
    finally:
        bench.close()


def image_facts(store: DeltaStore, name: str) -> dict:
    """Sizes of an image, and of what packing made of it."""
    facts = {"used_bytes": store.used_bytes(name)}
    if name == "used":
        return facts | {"changed": store.changed("old", "used")}
    packed = store.packed(name)
    return facts | {"file_bytes": packed.stat().st_size, "pack": store.pack_report(name)}


if __name__ == "__main__":
    main()
