"""What Python adds: the time of an import, of a callback, and of a flash beside the reference
package on the same loop device.

usage: python.py LIBRARY REFERENCE OUTPUT     LIBRARY is target/release/lib_bty.so; REFERENCE a virtual environment with the reference package
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import page

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
ROUNDS = 5

ABOUT = "What the Python module adds to the time of a flash, beside the reference package."

FLASH = """
import sys, bty
bty.flash(sys.argv[1], sys.argv[2], verify=sys.argv[3] == "verify", progress=lambda event: None)
"""
REFERENCE = """
import sys
from pathlib import Path
from bty import flash
plan = flash.make_plan(flash.probe_image(Path(sys.argv[1])), flash.probe_target(Path(sys.argv[2])))
assert flash.validate_plan(plan) == [], flash.validate_plan(plan)
flash.execute_plan(plan, progress=lambda event: None)
"""
EVENTS = """
import sys, tempfile, time, pathlib, bty
image = pathlib.Path(tempfile.mkdtemp()) / "a.img"
image.write_bytes(bytes(4096))
seen = []
event = []
bty.images.open(image).read_fully(progress=event.append)
# the same way that an event of the library takes: a call into Python with a new event, and two of
# its fields
outcome = {}
def note(count):
    return 0
begun = time.perf_counter()
bty.script.run(text="for i in 0..20000 { note(i); }", functions={"note": note})
called = time.perf_counter() - begun
begun = time.perf_counter()
bty.script.run(text="for i in 0..20000 { i; }")
empty = time.perf_counter() - begun
copy = event[0]
begun = time.perf_counter()
for _ in range(20000):
    copy.source_bytes, copy.decoded_bytes
fields = time.perf_counter() - begun
print((called - empty) / 20000 * 1e6, fields / 20000 * 1e6)
"""


def timed(python, text, *args, env=None):
    begun = time.perf_counter()
    done = subprocess.run([python, "-c", text, *map(str, args)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - begun, done.stdout


def import_ms(python, env):
    """Of the module alone: what the interpreter reports for it and what it brings."""
    times = []
    for _ in range(15):
        text = "import time; begun = time.perf_counter(); import bty; print((time.perf_counter() - begun) * 1000)"
        times.append(float(timed(python, text, env=env)[1]))
    return statistics.median(times)


def make_image(path):
    with open(path, "wb") as file:
        for _ in range(512):
            file.write(os.urandom(MIB))
        file.truncate(1024 * MIB)


def main(library, reference, output):
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as work:
        work = Path(work)
        shutil.copytree(ROOT / "bty-py/python/bty", work / "package/bty", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        shutil.copy2(library, work / "package/bty/_bty.abi3.so")
        env = {**os.environ, "PYTHONPATH": str(work / "package")}
        theirs = str(Path(reference) / "bin/python")
        own_import = import_ms(sys.executable, env)
        their_import = import_ms(theirs, None)
        called, fields = map(float, timed(sys.executable, EVENTS, env=env)[1].split())
        make_image(work / "a.img")
        with open(work / "backing", "wb") as file:
            file.truncate(1280 * MIB)
        loop = subprocess.run(["losetup", "--find", "--show", work / "backing"], check=True, capture_output=True, text=True).stdout.strip()
        runs = {"bty, with proof": [], "bty, without": [], "reference": []}
        try:
            for _ in range(ROUNDS):
                runs["bty, with proof"].append(timed(sys.executable, FLASH, work / "a.img", loop, "verify", env=env)[0])
                runs["bty, without"].append(timed(sys.executable, FLASH, work / "a.img", loop, "write", env=env)[0])
                runs["reference"].append(timed(theirs, REFERENCE, work / "a.img", loop)[0])
        finally:
            subprocess.run(["losetup", "--detach", loop], check=True)
    base = statistics.median(runs["reference"])
    rows = "\n".join(f"| {name} | {statistics.median(times):.2f} | {statistics.median(times) / base:.2f} |" for name, times in runs.items())
    aims = [("`import bty` in at most 20 ms", f"{own_import:.1f} ms", own_import <= 20)]
    how = f"Load when it ended: {os.getloadavg()[0]:.1f}."
    opening = page.opening("Python", ABOUT, aims, "bench-python", "tests/bench/python.py", how)
    Path(output).write_text(opening + f"""
## Import

`import bty`, in a new interpreter, median of 15.

| | ms |
|---|---|
| bty | {own_import:.1f} |
| reference package (`import bty` alone, without its modules) | {their_import:.1f} |

## Callbacks

| | µs |
|---|---|
| a call from a worker into Python and back, with its answer | {called:.1f} |
| two fields of an event | {fields:.2f} |

Events come a few times a second.

## A flash

A raw image of 1 GiB, half of it data, is written to a loop device in {ROUNDS} rounds, each with all
three. The start of the interpreter is included. The reference reads nothing back.

| | median, s | of the reference |
|---|---|---|
{rows}
""")


if __name__ == "__main__":
    main(*sys.argv[1:4])
