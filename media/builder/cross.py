"""Cross-compiles Rust programs for arm64 in a root file system of Debian sid, whose Rust compiler
has a standard library for arm64.

Uses a mount namespace, so that the mounts of this system do not change."""

import os
import subprocess
from pathlib import Path

from .debian import KEYRING, mirror

PACKAGES = "rustc,cargo,libstd-rust-dev,libstd-rust-dev:arm64,gcc,libc6-dev,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross,ca-certificates"
TARGET = "aarch64-unknown-linux-gnu"
VARIABLES = {
    "HOME": "/root",
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    "LC_ALL": "C.UTF-8",
    "CARGO_HOME": "/cargo",
    "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER": "aarch64-linux-gnu-gcc",
    "CC_aarch64_unknown_linux_gnu": "aarch64-linux-gnu-gcc",
    "AR_aarch64_unknown_linux_gnu": "aarch64-linux-gnu-ar",
}


def build(source: Path, work: Path, packages: list[str]) -> Path:
    """Builds `packages`, given as arguments of cargo. Returns the directory of the results,
    which are stripped."""
    names = [name for flag, name in zip(packages, packages[1:]) if flag == "--bin"]
    out = f"target/arm64/{TARGET}/release"
    command = f"cargo build --release --target {TARGET} {' '.join(packages)} && cd {out} && aarch64-linux-gnu-strip {' '.join(names)}"
    run(source, work, command, "target/arm64", "-C target-feature=+crt-static")
    return source / out


def run(source: Path, work: Path, command: str, target: str, flags: str = ""):
    """Runs a shell command in `source`, with cargo set up to build for arm64 into `target`."""
    root = work / "cross-sid"
    if not root.exists():
        make(root)
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    script = f"""set -e
mount --rbind /proc {root}/proc
mkdir -p {root}/source {root}/cargo
mount --bind {source} {root}/source
mount --bind {cargo} {root}/cargo
cat /etc/ssl/certs/ca-certificates.crt >{root}/etc/ssl/certs/ca-certificates.crt
cat /etc/resolv.conf >{root}/etc/resolv.conf
cat /etc/hosts >{root}/etc/hosts
cd /
exec chroot {root} /bin/sh -c 'cd /source && {command}'
"""
    flags = f"{flags} --remap-path-prefix=/source=bty".strip()
    own = {"CARGO_TARGET_DIR": f"/source/{target}", "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS": flags}
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True, env={**proxies, **VARIABLES, **own})


def make(root: Path, arches: str = "amd64,arm64", packages: str = PACKAGES):
    """Creates a root file system of sid."""
    part = root.with_suffix(".part")
    subprocess.run(["rm", "-rf", part], check=True)
    command = ["mmdebstrap", "--quiet", "--variant=apt", f"--architectures={arches}", f"--include={packages}"]
    command += ["--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Check-Valid-Until \"false\""]
    command += ["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*"]
    source = f"deb [signed-by={KEYRING}] {mirror()} sid main"
    subprocess.run([*command, "sid", part, source], check=True)
    part.rename(root)
