"""Static programs, which run without anything else."""

import os
import subprocess
import sys
from pathlib import Path

from . import cross

ROOT = Path(__file__).resolve().parent.parent.parent
# a program, and the crate that it is in
LIVE = {"bty": "bty-script", "bty-live": "bty-live"}
SERVER = {"bty-web": "bty-web"}
COMMANDS = {"bty": "bty-script", "bty-web": "bty-web", "bty-lab": "bty-lab"}


def programs(arch: str, work: Path, given: Path | None, wanted: dict[str, str] = LIVE) -> dict[str, Path]:
    """Paths of the programs without debug information: those in `given`, else they are built."""
    packages = words(wanted)
    if arch == "arm64":
        built = given or cross.build(ROOT, ROOT / "target/media-work", packages)
        return {name: built / name for name in wanted}
    built = given or native(packages)
    stripped = work / f"programs-{arch}"
    stripped.mkdir(exist_ok=True)
    for name in wanted:
        require_static(built / name)
        subprocess.run(["strip", "-o", stripped / name, built / name], check=True)
    return {name: stripped / name for name in wanted}


def require_static(program: Path):
    """Nothing that a program would be linked with at its start is there where it runs."""
    shown = subprocess.run(["readelf", "--program-headers", "--wide", program], check=True, text=True, stdout=subprocess.PIPE).stdout
    if " INTERP " in shown:
        sys.exit(f"{program} is linked dynamically: build it where there is a static C library (libc.a), or leave --programs out")


def words(wanted: dict[str, str]) -> list[str]:
    """The same, as cargo wants it."""
    return [word for name, crate in wanted.items() for word in ("-p", crate, "--bin", name)]


def native(packages: list[str]) -> Path:
    """Builds them for this machine's architecture. A target that is named keeps build scripts from being linked statically."""
    target = "x86_64-unknown-linux-gnu"
    dir = ROOT / "target/static"
    # paths of this machine would be in the messages of panics
    flags = f"-C target-feature=+crt-static --remap-path-prefix={ROOT}=bty"
    # what an outer cargo tells its children would have build scripts run again
    outer = {name: value for name, value in os.environ.items() if name == "CARGO_HOME" or not name.startswith("CARGO_")}
    env = {**outer, "CARGO_TARGET_DIR": str(dir), "RUSTFLAGS": flags}
    cargo = [os.environ.get("CARGO", "cargo"), "build", "--release", "--target", target, *packages]
    subprocess.run(cargo, check=True, cwd=ROOT, env=env)
    return dir / target / "release"


if __name__ == "__main__":
    # usage, in media/: python3 -m builder.programs     builds the commands for this machine's architecture
    print(native(words(COMMANDS)))
