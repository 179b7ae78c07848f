"""What scripts cost, and how soon bty can be talked to, beside the reference system. Writes
docs/benchmarks-scripts.md.

usage: scripts.py BTY ENGINE_COST REFERENCE_VENV OUTPUT
"""

import json
import os
import pty
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import page

ROUNDS = 15
PATIENCE_S = 60

ABOUT = "What a script costs, and how soon `bty` shows a prompt, beside the reference."

PAGE = """\
## A script

| | microseconds |
|---|---|
| an engine, with all functions | {engine_us} |
| compile a plan of {lines} lines | {compile_us} |
| call it in the same process | {call_us} |
| call it in a worker process, with its memory bounded | {worker_call_us} |
| the first call of a worker: start, compile, call | {worker_first_us} |

A call in a worker costs {worker_ratio} times as much as the call itself, and one worker answers
{worker_rate} calls a second. So a server can afford to run its scripts in workers, where a script
that takes too much memory ends only its worker.

## The prompt

From the start of the command on a terminal to the prompt, with one image in the image directory.

| | until the prompt, ms | memory at the prompt, MiB |
|---|---|---|
| `bty` (the wizard) | {wizard_ms} | {wizard_mib} |
| `bty repl` | {repl_ms} | {repl_mib} |
| the reference's wizard | {reference_ms} | {reference_mib} |

Ratio of the wizards: {ratio} of the reference's time, {memory_ratio} of its memory.

## Commands

```sh
make bench-scripts    # builds a release, installs the reference into target/reference, writes this page
```
"""


def start(command: list[str], prompt: bytes, images: str) -> tuple[float, float]:
    """Starts `command` on a terminal; milliseconds until `prompt`, and MiB in memory then."""
    begun = time.monotonic()
    pid, screen = pty.fork()
    if pid == 0:
        os.environ.update(BTY_IMAGE_ROOT=images, TERM="linux", HOME=images)
        os.environ.pop("XDG_STATE_HOME", None)
        os.execv(command[0], command)
    shown = b""
    while prompt not in re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown):
        if not select.select([screen], [], [], PATIENCE_S)[0]:
            sys.exit(f"{command} shows no prompt: {shown!r}")
        shown += os.read(screen, 4096)
    millis = (time.monotonic() - begun) * 1000
    status = Path(f"/proc/{pid}/status").read_text()
    kib = int(re.search(r"VmRSS:\s+(\d+)", status)[1])
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(screen)
    return millis, kib / 1024


def median(command: list[str], prompt: bytes, images: str) -> tuple[float, float]:
    start(command, prompt, images)  # files come from the page cache afterwards
    runs = [start(command, prompt, images) for _ in range(ROUNDS)]
    return statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs)


def main() -> None:
    bty, engine_cost, reference, output = sys.argv[1:]
    costs = json.loads(subprocess.run([engine_cost, bty], check=True, capture_output=True, text=True).stdout)
    with tempfile.TemporaryDirectory() as images:
        Path(images, "debian.img").write_bytes(b"\1" * 1048576)
        wizard = median([bty], b"> Pick an image:", images)
        repl = median([bty, "repl"], b"bty> ", images)
        peer = median([f"{reference}/bin/bty"], b"> Pick an image to flash:", images)
    slowest, largest = max(wizard[0], repl[0]), max(wizard[1], repl[1])
    aims = [
        ("a prompt in at most 50 ms", f"{slowest:.1f} ms", slowest <= 50),
        ("at most 20 MiB at the prompt", f"{largest:.1f} MiB", largest <= 20),
    ]
    how = f"Medians of {ROUNDS} starts."
    text = page.opening("scripts", ABOUT, aims, "bench-scripts", "tests/bench/scripts.py", how) + "\n" + PAGE.format(
        worker_ratio=round(costs["worker_call_us"] / costs["call_us"], 1), worker_rate=round(1e6 / costs["worker_call_us"]),
        wizard_ms=round(wizard[0], 1), wizard_mib=round(wizard[1], 1), repl_ms=round(repl[0], 1), repl_mib=round(repl[1], 1),
        reference_ms=round(peer[0]), reference_mib=round(peer[1], 1), ratio=f"{wizard[0] / peer[0]:.2f}",
        memory_ratio=f"{wizard[1] / peer[1]:.2f}", **costs,
    )  # fmt: skip
    Path(output).write_text(text)
    print(text)


main()
