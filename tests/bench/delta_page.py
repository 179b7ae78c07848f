"""Turns measurements of the delta flash into docs/benchmarks-delta.md."""

import statistics

import page
from delta_devices import EVEN, SLOW_WRITES
from delta_images import ADDED, REMOVED, SIZE_BYTES, SUITE
from images import MIB
from report import table

MEMORY_MIB = 256
#: `auto` may lose so much against the better of the two to noise and to its sample
AUTO_SLACK = 1.1
#: head, tail and signatures of old tables are written beside what the image has
COUNT_SLACK = 2 * MIB
#: what opening a packed image fetches beside its frames, which reports leave out: first MiB, index,
#: and a MiB to time
OPENING_MAX = 4 * MIB

ABOUT = (
    "What `bty flash --delta` fetches and writes, and how long it takes, beside a full flash, when the disk"
    " already holds a relative of the image."
)
HOW = f"""\
Four disks of {SIZE_BYTES // MIB} MiB with a GPT and one ext4 file system: **old**, made by `mke2fs -d` of Debian {SUITE}
packages; **rebuilt**, its root upgraded with all security updates, {ADDED} added and {REMOVED} removed, and made into a new
image; **in place**, the same upgrade by apt in the mounted file system of old; **used**, old after its system has written
keys, caches and logs, and its user data in the places of removed files. The disk is a loop device with direct I/O over a file in memory. The kernel's block
throttle (blkio) limits it; a request to make a range zero is answered by writing zeros. The link is an HTTP server with
ranges, on the loopback, with one rate for all its connections and no delay. Before every run the disk is filled anew, outside
of the time. Bytes are counted at the disk and at the server, not taken from reports. After the first run of a mode the disk
is compared with the image. Times are those of the whole command with its proof, full read-back unless it says otherwise.
Medians."""


#: start of an aim -> why it can be missed
WHY = {
    "used: fetched": "beside the changed frames, opening an image fetches the first MiB of the file and the index.",
    "used, ": "a full proof reads the whole disk back after any flash, and this disk has no command that makes ranges zero,"
    " so that both flashes write the zeros of the image. Only the rest is saved.",
    "in place": "what is fetched and written depends on how much an upgrade changes; see what the disk held. The proof"
    " and the zeros cost as above.",
    "full flash": "see `dd` of the raw image, which decodes nothing, in the table of full flashes: this disk has no command"
    " that makes ranges zero, so that every flash writes as much as `dd`.",
}


def median(runs: list[dict], what: str) -> float:
    return statistics.median(run[what] for run in runs)


def last(runs: list[dict], *path: str):
    """A part of the last report."""
    value = runs[-1]
    for name in path:
        value = value[name]
    return value


def data_written(run: dict) -> int:
    """Bytes written, without what makes ranges zero."""
    return run["written"] - run["report"]["zeroed_bytes"] - run["report"]["wiped_bytes"]


def line(key: str, result: dict) -> str:
    """One part in one line, for people who wait."""
    names = (f"{name} {median(runs, 'wall_s'):.2f} s, {median(runs, 'fetched') / MIB:.0f} MiB fetched,"
             f" {median(runs, 'written') / MIB:.0f} written" for name, runs in result["runs"].items())  # fmt: skip
    return f"{key}: " + "; ".join(names)


def lines(data: dict) -> str:
    return "\n".join(line(key, result) for key, result in (data["cases"] | data["parts"]).items())


class Figures:
    """What the page says, computed from the results of one run."""

    def __init__(self, data: dict):
        self.data = data
        self.cases, self.parts = data["cases"], data["parts"]

    def runs(self, key: str, mode: str) -> list[dict]:
        return self.cases[key]["runs"][mode]

    def image(self, key: str) -> dict:
        new = {"used": "old", "in place": "inplace", "rebuilt": "rebuilt"}[key.split(",")[0]]
        return self.data["images"][new]

    def fetched(self, key: str, mode: str) -> float:
        return median(self.runs(key, mode), "fetched") / self.image(key)["file_bytes"]

    def written(self, key: str, mode: str) -> float:
        written = statistics.median(data_written(run) for run in self.runs(key, mode))
        return written / self.image(key)["used_bytes"]

    def time(self, key: str, mode: str) -> float:
        """Share of the time of a full flash."""
        return median(self.runs(key, mode), "wall_s") / median(self.runs(key, "full"), "wall_s")

    def auto(self, key: str) -> float:
        """Time of `auto`, as a share of the better of the two that it chooses from."""
        best = min(median(self.runs(key, mode), "wall_s") for mode in ("full", "delta"))
        return median(self.runs(key, "auto"), "wall_s") / best

    def all_runs(self) -> list[tuple[str, dict]]:
        everything = self.cases | self.parts
        return [(f"{key}: {name}", run) for key, result in everything.items()
                for name, runs in result["runs"].items() for run in runs]  # fmt: skip

    def flashes(self) -> list[tuple[str, dict]]:
        return [(key, run) for key, run in self.all_runs() if "report" in run and "proof" in run["report"]]

    def disagreeing(self) -> list[str]:
        """Flashes whose report differs from what was counted at the disk or at the server."""
        return list(dict.fromkeys(key for key, run in self.flashes() if not agrees(run)))

    def memory_mib(self) -> float:
        """Peak memory of bty, without the stash."""
        return max(run["rss_kib"] * 1024 - stash(run) for _, run in self.flashes()) / MIB

    def scan_rate(self) -> float:
        """GB/s, of the whole command."""
        return min(statistics.median(run["read"] / run["wall_s"] for run in runs)
                   for runs in self.parts["scan"]["runs"].values()) / 1e9  # fmt: skip

    def index(self) -> float:
        images = [image for image in self.data["images"].values() if "pack" in image]
        return max(image["pack"]["index_bytes"] / image["used_bytes"] for image in images)

    def aims(self) -> list[tuple[str, str, bool]]:
        rows = []

        def at_most(what: str, found: float, aim: float, is_share: bool = True) -> None:
            shown = (f"{found:.1%}", f"{aim:.0%}") if is_share else (f"{found:.2f}", f"{aim:.2f}")
            rows.append((f"{what}: at most {shown[1]}", shown[0], found <= aim))

        for key, fetched, written in (("used", 0.03, 0.03), ("in place", 0.18, 0.25), ("rebuilt, 100 Mbit/s", 0.30, None)):
            at_most(f"{key.split(',')[0]}: fetched, of the packed file", self.fetched(key, "delta"), fetched)
            if written:
                at_most(f"{key}: written, of the data", self.written(key, "delta"), written)
        for mode in ("delta", "delta, proven disk"):
            at_most(f"used, {EVEN.name}: time of a full flash, {mode}", self.time("used", mode), 0.5, False)
            at_most(f"used, {SLOW_WRITES.name}: time, {mode}", self.time("used, slow writes", mode), 0.25, False)
            at_most(f"in place, {EVEN.name}: time, {mode}", self.time("in place", mode), 0.6, False)
        at_most("rebuilt, 100 Mbit/s: time", self.time("rebuilt, 100 Mbit/s", "delta"), 0.4, False)
        at_most("rebuilt, 1 Gbit/s: time of `auto`", self.time("rebuilt, 1 Gbit/s", "auto"), AUTO_SLACK, False)
        worst = max(self.cases, key=self.auto)
        what = f"`auto`: time of the better of full and delta, worst case ({worst})"
        at_most(what, self.auto(worst), AUTO_SLACK, False)
        whole, rest = (self.parts["resume"]["runs"][name] for name in ("whole", "rest"))
        at_most("resume after a cut at 50 %: fetched", median(rest, "fetched") / median(whole, "fetched"), 0.55)
        at_most("resume: time", median(rest, "wall_s") / median(whole, "wall_s"), 0.65, False)
        at_most("full flash of a packed image: time of `zstd -dc \\| dd`", self.full_ratio(), 0.35, False)
        index = self.index()
        rows.append(("index: at most 0.30 % of the data", f"{index:.2%}", index <= 0.003))
        rate = self.scan_rate()
        rows.append(("scan from memory: at least 1.5 GB/s", f"{rate:.2f}", rate >= 1.5))
        memory = self.memory_mib()
        rows.append((f"memory without stash: at most {MEMORY_MIB} MiB", f"{memory:.0f}", memory <= MEMORY_MIB))
        wrong = self.disagreeing()
        found = f"{len(self.flashes())} flashes" + (f"; not in: {', '.join(wrong)}" if wrong else "")
        what = f"reports say what disk and server counted, but for the opening of the image ({OPENING_MAX // MIB} MiB)"
        rows.append((what, found, not wrong))
        return rows

    def full_ratio(self) -> float:
        runs = self.parts["full"]["runs"]
        return median(runs["bty"], "wall_s") / median(runs["zstd -dc | dd"], "wall_s")


def stash(run: dict) -> int:
    delta = run["report"]["delta"]
    return delta["stash_peak_bytes"] if delta else 0


def agrees(run: dict) -> bool:
    told = run["report"]
    written = told["written_bytes"] + told["zeroed_bytes"] + told["wiped_bytes"]
    opening = run["fetched"] - told["source_bytes"]
    is_fetched = run["fetched"] == 0 or 0 <= opening <= OPENING_MAX
    return is_fetched and abs(run["written"] - written) <= COUNT_SLACK


def render(data: dict) -> str:
    figures = Figures(data)
    facts, rounds = data["facts"], data["rounds"]
    how = f"{HOW} {rounds} rounds in {data['seconds']:.0f} s; load when it began {facts['load']:.1f}"
    how += f", {data['steal']:.0%} of processor time stolen by other machines."
    if facts["load"] > 1:
        how += " **The machine was busy with other work: times are not to be relied on, bytes are.**"
    opening = page.opening("delta flash", ABOUT, figures.aims(), "bench-delta", "tests/bench/delta_page.py", how)
    parts = [
        opening, why(figures.aims()),
        "## Images\n", images(data),
        "## Cases\n",
        page.fill("Fetched: of the packed file. Written: of the data, without what makes ranges zero. Ratio: to the time of"
                  " the full flash. `full` is `--delta never`, `delta` is `--delta always`; with a proven disk only a sample"
                  " of what was kept is read back.") + "\n",
        cases(figures), "### Where the time goes\n", phases(figures),
        "### What the disk held\n", held(figures),
        "## Resume\n",
        page.fill("The rebuilt image onto an empty disk over 100 Mbit/s, killed (`kill -9`) when half of what the whole"
                  " flash fetches has been sent, and the same command again.") + "\n",
        resume(figures),
        "## Full flash, and scan\n",
        page.fill("From a file onto the disk in memory, without limits. The scan is `--dry-run` of an image on a disk that"
                  " holds it, and on one that holds the old one; the time is that of the whole command.") + "\n",
        unlimited(figures),
        "## Beside other tools\n", peers(figures),
        "## Requests and counts\n", counts(figures),
        "## Commands\n",
        "```sh\nmake bench-delta    # builds a release and the images, needs root, writes this page\n```\n",
    ]  # fmt: skip
    return "\n".join(parts)


def why(aims: list[tuple[str, str, bool]]) -> str:
    """The reasons for what is missed, as far as they are known; each once."""
    missed = [aim for aim, _, is_met in aims if not is_met]
    reasons = [f"- {start.strip(', ')}: {text}" for start, text in WHY.items() if any(aim.startswith(start) for aim in missed)]
    wrapped = [page.textwrap.fill(reason, page.WIDTH, subsequent_indent="  ") for reason in reasons]
    return "\n".join(["Why some are missed:\n", *wrapped, ""]) if wrapped else ""


def mib(value: float) -> str:
    return f"{value / MIB:.1f}"


def images(data: dict) -> str:
    rows = []
    for name, facts in data["images"].items():
        packed = facts.get("pack")
        cells = [mib(facts["file_bytes"]), f"{packed['index_bytes'] / facts['used_bytes']:.2%}"] if packed else ["", ""]
        rows.append([name, mib(facts["used_bytes"]), *cells])
    used, old = data["images"]["used"], data["images"]["old"]
    share = f"Of the blocks with data of old, {used['changed'] / old['used_bytes']:.1%} are others in used.\n"
    return table(["image", "not zero, MiB", "packed, MiB", "index, of the data"], rows) + "\n" + share


def cases(figures: Figures) -> str:
    rows = []
    for key, result in figures.cases.items():
        for mode, runs in result["runs"].items():
            walls = [run["wall_s"] for run in runs]
            rows.append([
                key, mode, f"{figures.fetched(key, mode):.1%}", f"{figures.written(key, mode):.1%}",
                f"{statistics.median(walls):.2f}", f"{min(walls):.2f} - {max(walls):.2f}", f"{figures.time(key, mode):.2f}",
                f"{median(runs, 'cpu_s'):.2f}", f"{median(runs, 'rss_kib') / 1024:.0f}",
            ])  # fmt: skip
    return table(["case", "mode", "fetched", "written", "s", "least - most", "ratio", "cpu s", "memory, MiB"], rows)


def phases(figures: Figures) -> str:
    """Seconds of each phase, of the last round."""
    names = list(dict.fromkeys(name for _, run in figures.flashes() for name in run["report"]["phases"]))
    rows = []
    for key, result in figures.cases.items():
        for mode, runs in result["runs"].items():
            spent = last(runs, "report", "phases")
            rows.append([key, mode, *(f"{spent[name] / 1000:.2f}" if name in spent else "" for name in names)])
    return table(["case", "mode", *names], rows)


def held(figures: Figures) -> str:
    rows = []
    for key, result in figures.cases.items():
        for mode, runs in result["runs"].items():
            delta = last(runs, "report", "delta")
            if not delta:
                if mode == "auto":
                    rows.append([key, mode, "full flash chosen", "", "", "", ""])
                continue
            total = sum(delta[f"{name}_bytes"] for name in ("kept", "moved", "fetched"))
            shares = [f"{delta[f'{name}_bytes'] / total:.1%}" for name in ("kept", "moved", "fetched")]
            rows.append([key, mode, *shares, mib(delta["stash_peak_bytes"]), last(runs, "report", "proof")])
    return table(["case", "mode", "kept", "moved", "fetched", "stash, MiB", "proof"], rows)


def resume(figures: Figures) -> str:
    rows = []
    for name, runs in figures.parts["resume"]["runs"].items():
        rows.append([{"whole": "whole", "rest": "after the cut"}[name], mib(median(runs, "fetched")),
                     mib(median(runs, "written")), f"{median(runs, 'wall_s'):.2f}"])  # fmt: skip
    return table(["", "fetched, MiB", "written, MiB", "s"], rows)


def unlimited(figures: Figures) -> str:
    rows = []
    for name, runs in figures.parts["full"]["runs"].items():
        rows.append([name, f"{median(runs, 'wall_s'):.2f}", f"{median(runs, 'cpu_s'):.2f}", ""])
    for name, runs in figures.parts["scan"]["runs"].items():
        rate = statistics.median(run["read"] / run["wall_s"] for run in runs) / 1e9
        rows.append([f"scan: {name}", f"{median(runs, 'wall_s'):.2f}", f"{median(runs, 'cpu_s'):.2f}", f"{rate:.2f}"])
    return table(["", "s", "cpu s", "GB/s"], [[cell.replace("|", "\\|") for cell in row] for row in rows])


def peers(figures: Figures) -> str:
    rows, missing, commands = [], {}, {}
    for key, result in figures.parts.items():
        if not key.startswith("peers"):
            continue
        missing |= result["missing"]
        commands |= result["commands"]
        for name, runs in result["runs"].items():
            fetched = median(runs, "literal") if "literal" in runs[-1] else median(runs, "fetched")
            mark = " †" if name in result["mapped"] else " ‡" if "literal" in runs[-1] else ""
            rows.append([key.removeprefix("peers, "), name + mark, mib(fetched), mib(median(runs, "written")),
                         mib(median(runs, "read")), f"{median(runs, 'wall_s'):.2f}", f"{median(runs, 'cpu_s'):.2f}",
                         f"{median(runs, 'rss_kib') / 1024:.0f}"])  # fmt: skip
    text = ("The disk is not limited here, since the throttle slows writes through the page cache, which the others use, more"
            " than its rate says. The link has 1 Gbit/s. None reads back. Others than bty ran once. † leaves old data where the image is empty. ‡ reads"
            " the new image from a file: what it would send is its literal data.")  # fmt: skip
    known = {
        "desync": "not in Debian, crates.io or PyPI",
        "casync": "extracting to the disk did not end within a minute",
    }
    absent = "; ".join(f"{name}: {why}" for name, why in (known | missing).items())
    head = ["pair", "tool", "fetched, MiB", "written, MiB", "read, MiB", "s", "cpu s", "memory, MiB"]
    shown = "\n".join(commands.values())
    return f"{page.fill(text)}\n\n{table(head, rows)}\n{page.fill(f'Not measured: {absent}.')}\n\n```sh\n{shown}\n```\n"


def counts(figures: Figures) -> str:
    rows = []
    for key, result in figures.cases.items():
        for mode, runs in result["runs"].items():
            run = runs[-1]
            told = run["report"]
            rows.append([key, mode, str(run["requests"]), mib(run["fetched"]), mib(told["source_bytes"]), mib(run["written"]),
                         mib(told["written_bytes"]), mib(told["zeroed_bytes"]), mib(told["wiped_bytes"]), mib(run["read"])])  # fmt: skip
    head = ["case", "mode", "requests", "sent by the server, MiB", "report: source", "written to the disk, MiB",
            "report: written", "zeroed", "wiped", "read from the disk, MiB"]  # fmt: skip
    return "Of the last round.\n\n" + table(head, rows)
