"""`bty` and `bty-live` as static programs, which run without anything else."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ["-p", "bty-script", "--bin", "bty", "-p", "bty-live", "--bin", "bty-live"]
NAMES = ["bty", "bty-live"]


def programs(arch: str, work: Path, given: Path | None) -> dict[str, Path]:
    """Their paths: those in `given`, else they are built."""
    built = given or native()
    stripped = work / f"programs-{arch}"
    stripped.mkdir(exist_ok=True)
    strip = "aarch64-linux-gnu-strip" if arch == "arm64" else "strip"
    for name in NAMES:
        shutil.copy(built / name, stripped / name)
        if shutil.which(strip):
            subprocess.run([strip, stripped / name], check=True)
    return {name: stripped / name for name in NAMES}


def native() -> Path:
    """Builds them for this machine's architecture. A target that is named keeps build scripts from being linked statically."""
    target = "x86_64-unknown-linux-gnu"
    dir = ROOT / "target/static"
    # paths of this machine would be in the messages of panics
    flags = f"-C target-feature=+crt-static --remap-path-prefix={ROOT}=bty"
    env = {**os.environ, "CARGO_TARGET_DIR": str(dir), "RUSTFLAGS": flags}
    cargo = [os.environ.get("CARGO", "cargo"), "build", "--release", "--target", target, *PACKAGES]
    subprocess.run(cargo, check=True, cwd=ROOT, env=env)
    return dir / target / "release"
