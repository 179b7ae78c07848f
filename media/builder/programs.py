"""`bty` and `bty-live` as static programs, which run without anything else."""

import os
import subprocess
from pathlib import Path

from . import cross

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ["-p", "bty-script", "--bin", "bty", "-p", "bty-live", "--bin", "bty-live"]
NAMES = ["bty", "bty-live"]


def programs(arch: str, work: Path, given: Path | None) -> dict[str, Path]:
    """Their paths: those in `given`, else they are built."""
    if given:
        return {name: given / name for name in NAMES}
    if arch == "arm64":
        built = cross.build(ROOT, work, PACKAGES)
        return {name: built / name for name in NAMES}
    built = native()
    stripped = work / f"programs-{arch}"
    stripped.mkdir(exist_ok=True)
    for name in NAMES:
        subprocess.run(["strip", "-o", stripped / name, built / name], check=True)
    return {name: stripped / name for name in NAMES}


def native() -> Path:
    """Builds them for this machine's architecture. A target that is named keeps build scripts from being linked statically."""
    target = "x86_64-unknown-linux-gnu"
    dir = ROOT / "target/static"
    # paths of this machine would be in the messages of panics
    flags = f"-C target-feature=+crt-static --remap-path-prefix={ROOT}=bty"
    # what an outer cargo tells its children would have build scripts run again
    outer = {name: value for name, value in os.environ.items() if name == "CARGO_HOME" or not name.startswith("CARGO_")}
    env = {**outer, "CARGO_TARGET_DIR": str(dir), "RUSTFLAGS": flags}
    cargo = [os.environ.get("CARGO", "cargo"), "build", "--release", "--target", target, *PACKAGES]
    subprocess.run(cargo, check=True, cwd=ROOT, env=env)
    return dir / target / "release"
