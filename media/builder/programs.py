"""Builds static programs, which need no libraries where they run."""

import os
import subprocess
import sys
from pathlib import Path

from . import cross

ROOT = Path(__file__).resolve().parent.parent.parent
# programs and their crates
LIVE = {"bty": "bty-script", "bty-live": "bty-live"}
SERVER = {"bty-web": "bty-web"}
COMMANDS = {"bty": "bty-script", "bty-web": "bty-web", "bty-lab": "bty-lab"}


def programs(arch: str, work: Path, given: Path | None, selected: dict[str, str] = LIVE) -> dict[str, Path]:
    """Returns paths of stripped programs: from the directory `given`, else built."""
    packages = cargo_arguments(selected)
    if arch == "arm64":
        built = given or cross.build(ROOT, ROOT / "target/media-work", packages)
        return {name: built / name for name in selected}
    built = given or native(packages)
    stripped = work / f"programs-{arch}"
    stripped.mkdir(exist_ok=True)
    for name in selected:
        require_static(built / name)
        subprocess.run(["strip", "-o", stripped / name, built / name], check=True)
    return {name: stripped / name for name in selected}


def require_static(program: Path):
    """Exits if a program is linked dynamically: where it runs there are no shared libraries."""
    shown = subprocess.run(["readelf", "--program-headers", "--wide", program], check=True, text=True, stdout=subprocess.PIPE).stdout
    if " INTERP " in shown:
        sys.exit(f"{program} is linked dynamically: build it on a system with a static C library (libc.a), or omit --programs")


def cargo_arguments(selected: dict[str, str]) -> list[str]:
    """Returns the arguments of cargo that select these programs."""
    return [word for name, crate in selected.items() for word in ("-p", crate, "--bin", name)]


def native(packages: list[str]) -> Path:
    """Builds programs for x86_64. With an explicit target, flags do not apply to build scripts,
    which need not be static.
    """
    target = "x86_64-unknown-linux-gnu"
    dir = ROOT / "target/static"
    # so that panic messages do not contain paths of this machine
    flags = f"-C target-feature=+crt-static --remap-path-prefix={ROOT}=bty"
    # variables of an outer cargo would make build scripts run again
    outer = {name: value for name, value in os.environ.items() if name == "CARGO_HOME" or not name.startswith("CARGO_")}
    env = {**outer, "CARGO_TARGET_DIR": str(dir), "RUSTFLAGS": flags}
    cargo = [os.environ.get("CARGO", "cargo"), "build", "--release", "--target", target, *packages]
    subprocess.run(cargo, check=True, cwd=ROOT, env=env)
    return dir / target / "release"


if __name__ == "__main__":
    # usage, in media/: python3 -m builder.programs     builds the commands for x86_64
    print(native(cargo_arguments(COMMANDS)))
