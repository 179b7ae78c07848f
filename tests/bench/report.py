"""Turns measurements into docs/benchmarks.md."""

import os
import re
import statistics
import subprocess
import textwrap
from pathlib import Path

import cases
import page
from cases import Case
from images import GIB, IMAGES, MIB

# case -> why it misses its target; "case verify" and "case memory" are for the other two tables
WHY: dict[str, str] = {
    "bz2": "a block of zeros decodes to 46 MB, so only two blocks are in flight to keep memory below the limit, and the "
    "processors wait for each other. More memory would make it faster.",
    "tenth-1g/xz-single": "nearly all of the time is LZMA decoding of the empty part, which is one thread's work.",
    "tenth-1g/xz-multi": "nearly all of the time is LZMA decoding of the empty part, on all processors in both tools.",
}

# the hashes for verification are computed while writing, on the same processors
HASHES = (
    "most likely the hashes, which are computed while writing and compete with decoding for the two "
    "processors; not measured on its own."
)
WHY |= {f"{form} verify": HASHES for form in ("raw", "gz", "xz-multi", "bz2", "zst", "qcow2", "http-qcow2")}

VERSIONS = {
    "dd": "dd --version", "gzip": "gzip --version", "pigz": "pigz --version", "xz": "xz --version",
    "bzip2": "bzip2 --help", "lbzip2": "lbzip2 --version", "zstd": "zstd --version", "lz4": "lz4 --version",
    "qemu-img": "qemu-img --version", "bmaptool": "bmaptool --version", "curl": "curl --version", "nginx": "nginx -v",
}  # fmt: skip

ABOUT = "How long `bty flash` takes to write images and to read them back, beside other tools, and in how much memory."
HOW = "Processor time is that of the tools and not of the kernel threads that serve the loop device."

HEAD = """\
| | |
|---|---|
{facts}

- **Images**: disks with a GPT and one ext4 file system, made by `mke2fs -d` from Debian packages
  that `mmdebstrap` installed. What no file uses is zero. `full-1g` has the bytes of such files end
  to end in place of a file system, without the zero blocks.
- **Target**: a loop device with direct I/O over a preallocated file, of the image's size. Before
  *every* run, bty's and the others', the whole device is overwritten with old data (bytes 0xA5) and
  synced, outside the measured time. So no run profits or suffers from what the run before has left,
  holes in the file included.
- **What this cannot say**: a loop device makes ranges zero almost for nothing, as disks with a
  write-zeroes command do. On a disk without one bty writes the zeros, and images that are mostly
  empty gain less.
- **Time**: from start to end of the command, the flush to the disk included (`conv=fsync`, `-t
  none` and `sync`, bmaptool's own). Every source was read just before, and comes from the page
  cache, for all tools. HTTP is nginx on the loopback interface.
- **Rounds**: {rounds}, in each of which every tool runs once, each round beginning with another
  tool. Figures are medians.
- **Proof**: after its first run of a case the device is compared with the raw image; a tool that
  writes something else ends the benchmark. The exception is bmaptool with a block map, marked †: it
  leaves the old data wherever the image is empty, as it is made to, and so does less work than the
  rest. Only what it maps is compared.
- **Ratio**: bty's time over the best other tool's, those marked † left out; less is better. Where
  the aim says `dd`: over the best pipeline into dd.
"""


def facts(directory: Path, bty: str) -> dict[str, str]:
    """The machine and the tools, as far as they matter for the figures."""
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    load = os.getloadavg()[0]
    found = {
        "memory": f"{round(int(memory[1]) * 1024 / GIB)} GiB",
        "file system under the target": first_line(f"findmnt -no FSTYPE -T {directory}"),
        "load when it began": f"{load:.1f}",
        "bty": first_line(f"{bty} --version"),
    }
    return found | {name: version(command) for name, command in VERSIONS.items()}


def first_line(command: str) -> str:
    result = subprocess.run(command.split(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return next(iter((result.stdout + result.stderr).strip().splitlines()), "?")


def version(command: str) -> str:
    found = re.search(r"\d+\.\d+(\.\d+)*", first_line(command))
    return found[0] if found else "?"


def median(result: dict, name: str, what: str = "wall_s") -> float:
    return statistics.median(run[what] for run in result["runs"][name])


def best(case: Case, result: dict, kinds: set[str]) -> str | None:
    """The fastest of the other tools of these kinds."""
    names = [tool.name for tool in case.peers if tool.kind in kinds and tool.name in result["runs"]]
    return min(names, key=lambda name: median(result, name), default=None)


def compared(case: Case, result: dict) -> tuple[str, float]:
    """The tool that the aim is about, and bty's ratio to it."""
    aim = cases.aim(case)
    kinds = {"dd"} if aim and aim[1] == "dd" else {"dd", "other", "curl-driver"}
    name = best(case, result, kinds)
    return name, median(result, cases.BTY.name) / median(result, name)


def is_slow(case: Case, result: dict) -> bool:
    aim = cases.aim(case)
    return aim is not None and compared(case, result)[1] > aim[0]


def is_slow_verify(result: dict) -> bool:
    plain, checked, read = (median(result, tool.name) for tool in (cases.BTY, cases.BTY_VERIFY, cases.READ_BACK))
    return checked - plain > read


def is_large(result: dict) -> bool:
    return peak_mib(result) >= cases.MEMORY_MIB


def state(is_missed: bool) -> str:
    return "**missed**" if is_missed else "met"


def line(case: Case, result: dict) -> str:
    """One case in one line, for people who wait."""
    times = ", ".join(f"{name} {median(result, name):.2f}" for name in result["runs"])
    name, ratio = compared(case, result)
    aim = cases.aim(case)
    goal = f"aim {aim[0]} {state(is_slow(case, result))}" if aim else "no aim"
    return f"{case.key}: {ratio:.2f} of {name} ({goal}); {times}; peak {peak_mib(result):.0f} MiB"


def peak_mib(result: dict) -> float:
    names = (cases.BTY.name, cases.BTY_VERIFY.name)
    return max(run["rss_kib"] for name in names for run in result["runs"][name]) / 1024


def all_cases(data: dict) -> list[tuple[Case, dict]]:
    return [(Case(*key.split("/")), result) for key, result in data["cases"].items()]


def render(data: dict) -> str:
    results = all_cases(data)
    shown = dict(data["facts"]) | {"stolen by other machines during the run": f"{data['steal']:.0%} of processor time"}
    parts = [
        page.opening("flashing", ABOUT, summary(results), "bench", "tests/bench/report.py", HOW),
        HEAD.format(
            facts="\n".join(f"| {name} | {value} |" for name, value in shown.items()),
            rounds=data["rounds"],
        ),
        "## Writing, without reading back\n",
        writing(results),
        why([case for case, result in results if is_slow(case, result)]),
        "## Reading back\n",
        "How much longer `bty flash` takes with verification, which is the default, and how long `dd` takes\n"
        "to read the device right after it. The aim is that the former is not more than the latter.\n",
        verifying(results),
        why([case for case, result in results if is_slow_verify(result)], " verify"),
        "## Memory\n",
        f"Peak resident memory of bty, with and without verification. Aimed at: less than {cases.MEMORY_MIB} MiB.\n",
        memory(results),
        why([case for case, result in results if is_large(result)], " memory"),
        "## Every tool\n",
        "Medians, and the least and the most of the rounds.\n",
        every(results),
        "## Images\n",
        images(data),
        "## Commands\n",
        "`DEV` is the loop device.\n",
        commands(results),
    ]
    return "\n".join(part for part in parts if part)


def summary(results: list[tuple[Case, dict]]) -> list[tuple[str, str, bool]]:
    aimed = [(case, result) for case, result in results if cases.aim(case)]
    return [
        told("writing as fast as each row of the table says", len(aimed), [case.key for case, result in aimed if is_slow(case, result)]),
        told("reading back in the time of a plain read", len(results), [case.key for case, result in results if is_slow_verify(result)]),
        told(f"less than {cases.MEMORY_MIB} MiB of memory", len(results), [case.key for case, result in results if is_large(result)]),
    ]


def told(what: str, count: int, missed: list[str]) -> tuple[str, str, bool]:
    """An aim of many cases."""
    found = f"{count - len(missed)} of {count} cases" + (f"; missed: {', '.join(missed)}" if missed else "")
    return what, found, not missed


def table(head: list[str], rows: list[list[str]]) -> str:
    # the first column has names, the others have numbers
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def writing(results: list[tuple[Case, dict]]) -> str:
    rows = []
    for case, result in results:
        name, ratio = compared(case, result)
        aim = cases.aim(case)
        mapped = best(case, result, {"map"})
        beside_map = f"{median(result, cases.BTY.name) / median(result, mapped):.2f}" if mapped else ""
        rows.append([
            case.key,
            f"{median(result, cases.BTY.name):.2f}",
            f"{median(result, cases.BTY.name, 'cpu_s'):.2f}",
            name,
            f"{median(result, name):.2f}",
            f"{median(result, name, 'cpu_s'):.2f}",
            f"{ratio:.2f}",
            f"{aim[0]:.2f}{' (dd)' if aim[1] == 'dd' else ''}" if aim else "",
            state(is_slow(case, result)) if aim else "",
            beside_map,
        ])  # fmt: skip
    head = ["image/form", "bty s", "cpu s", "beside", "s", "cpu s", "ratio", "aim", "", "to bmaptool †"]
    return table(head, rows)


def verifying(results: list[tuple[Case, dict]]) -> str:
    rows = []
    for case, result in results:
        plain, checked, read = (median(result, t.name) for t in (cases.BTY, cases.BTY_VERIFY, cases.READ_BACK))
        cells = [f"{plain:.2f}", f"{checked:.2f}", f"{checked - plain:.2f}", f"{read:.2f}"]
        rows.append([case.key, *cells, state(is_slow_verify(result))])
    return table(["image/form", "without s", "with s", "more s", "read back s", ""], rows)


def memory(results: list[tuple[Case, dict]]) -> str:
    peaks: dict[str, float] = {}
    for case, result in results:
        peaks[case.kind] = max(peaks.get(case.kind, 0), peak_mib(result))
    rows = [[kind, f"{mib:.0f}", state(mib >= cases.MEMORY_MIB)] for kind, mib in peaks.items()]
    return table(["form", "MiB", ""], rows)


def why(missed: list[Case], suffix: str = "") -> str:
    """The reasons for what is missed, as far as they are known; each once."""
    keys = [key + suffix for case in missed for key in (case.key, case.kind)]
    reasons = [f"- {key.removesuffix(suffix)}: {WHY[key]}" for key in dict.fromkeys(keys) if key in WHY]
    lines = [textwrap.fill(reason, page.WIDTH, subsequent_indent="  ") for reason in reasons]
    return "\n".join(["Why some are missed:\n", *lines, ""]) if lines else ""


def every(results: list[tuple[Case, dict]]) -> str:
    rows = []
    for case, result in results:
        marks = {tool.name: " †" for tool in case.peers if tool.kind == "map"}
        for name, runs in result["runs"].items():
            walls = [run["wall_s"] for run in runs]
            spread = f"{min(walls):.2f} - {max(walls):.2f}"
            note = result["notes"].get(name, "")
            cells = [f"{median(result, name):.2f}", spread, f"{median(result, name, 'cpu_s'):.2f}"]
            rows.append([case.key, name + marks.get(name, ""), *cells, note if note != "equal" else ""])
    return table(["image/form", "tool", "s", "least - most", "cpu s", ""], rows)


def images(data: dict) -> str:
    rows = []
    for name, used in data["images"].items():
        size = IMAGES[name].size_bytes
        rows.append([name, f"{size // MIB} MiB", f"{used // MIB} MiB", f"{used / size:.0%}"])
    made = {form: command.format(raw="IMAGE.raw", out="OUT") for form, command in data["forms"].items() if command}
    lines = [f"- {form}: `{command}`" for form, command in made.items()]
    return table(["image", "size", "not zero", ""], rows) + "\nForms:\n\n" + "\n".join(lines) + "\n"


def commands(results: list[tuple[Case, dict]]) -> str:
    lines = []
    for case, result in results:
        lines += [f"# {case.key}", *result["commands"].values(), ""]
    return "```sh\n" + "\n".join(lines).strip() + "\n```\n"
