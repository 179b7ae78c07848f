"""The opening of a page of benchmarks: what it says, the aims, and how it was measured."""

import datetime
import os
import re
import textwrap
from pathlib import Path

#: columns of prose
WIDTH = 100
#: a reader must know this before any figure
CAUTION = (
    "One run on one machine that shares its processors and its disk with others: compare the figures"
    " with each other, do not quote them."
)


def machine() -> str:
    """Date, processors and kernel, in one sentence."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    release = re.match(r"[0-9.]+", os.uname().release)[0]
    model = cpu[1].strip() if cpu else os.uname().machine
    return f"{datetime.date.today()}, {os.cpu_count()} x {model}, Linux {release}."


def aims(rows: list[tuple[str, str, bool]]) -> str:
    """The table of aims: what was aimed at, what was measured, and whether that is enough."""
    lines = [f"| {aim} | {found} | {'met' if is_met else '**missed**'} |" for aim, found, is_met in rows]
    return "\n".join(["| aim | measured | |", "|---|---|---|", *lines]) + "\n"


def opening(title: str, about: str, rows: list[tuple[str, str, bool]], target: str, script: str, how: str) -> str:
    """Everything above the first table of figures. `target` makes the page by `script`."""
    written = f"`make {target}` writes this page: edit `{script}`, not the page. {machine()} {CAUTION}"
    parts = [f"# Benchmarks: {title}", fill(about), aims(rows), "## How it was measured", fill(written), fill(how)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def fill(text: str) -> str:
    """Wraps prose."""
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)
