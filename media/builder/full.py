"""The full environment: a root file system with systemd and tools for people. It has no kernel and
no modules: `bty-live` copies those of the small environment."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .debian import Archive

HERE = Path(__file__).resolve().parent.parent / "full"
EPOCH = "315532800"
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)


def build(archive: Archive, version: str, work: Path) -> Path:
    """Returns the squashfs. Builds it only if packages or sources have changed."""
    packages = [line for line in (HERE / "packages").read_text().split("\n") if line and not line.startswith("#")]
    lists = sorted((archive.dir / "lists").glob("*_Packages*"))
    files = [Path(__file__), *sorted(path for path in HERE.rglob("*") if path.is_file())]
    key = hashlib.sha256(version.encode() + b"".join(hashlib.sha256(path.read_bytes()).digest() for path in [*files, *lists])).hexdigest()
    out, stamp = work / f"full-{archive.arch}.squashfs", work / f"full-{archive.arch}.key"
    if not (out.exists() and stamp.exists() and stamp.read_text() == key):
        make(archive, version, packages, out)
        stamp.write_text(key)
    archive.record((work / f"full-{archive.arch}.packages").read_text().split())
    return out


def check(arch: str):
    """Exits unless this system can run programs for `arch`: packages run programs while they are
    installed.
    """
    if not shutil.which("arch-test") or subprocess.run(["arch-test", arch], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        sys.exit(
            f"media/build: cannot build the full environment: this system cannot run programs for {arch}. Install arch-test, qemu-user-static "
            "and binfmt-support, and mount binfmt_misc on /proc/sys/fs/binfmt_misc; or build only ramdisk, which needs none of these"
        )


def make(archive: Archive, version: str, packages: list[str], out: Path):
    if archive.arch != NATIVE:
        check(archive.arch)
    tar = out.with_suffix(".tar")
    hooks = [
        # host keys and ids must not be the same on all machines
        'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/nvme/host* "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id "$1"/etc/resolv.conf "$1"/etc/hostname',
        'rm -rf "$1"/var/log/* "$1"/var/cache/* "$1"/var/lib/apt/lists/* "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/*',
        f'sed -i "s/@VERSION@/{version}/" "$1"/etc/issue "$1"/etc/motd',
        # no password: consoles log root in automatically, and ssh accepts keys only
        'sed -i "s#^root:.*#root:*:19000:0:99999:7:::#" "$1"/etc/shadow && rm -f "$1"/etc/*-',
        # it would start ssh on the vsock of a virtual machine
        'mkdir -p "$1"/etc/systemd/system-generators && ln -s /dev/null "$1"/etc/systemd/system-generators/systemd-ssh-generator',
        'chroot "$1" systemctl -q enable bty-on-tty1.service bty-ssh-keys.service systemd-networkd.service',
        'chroot "$1" systemctl -q mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer',
        'chroot "$1" systemctl -q set-default multi-user.target',
    ]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--architectures={archive.arch}", "--format=tar"]
    command += ["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*"]
    command += [f"--include={','.join(packages)}", f'--customize-hook=tar -C {HERE}/root -c --owner=0 --group=0 . | tar -C "$1" -x --no-same-permissions']
    names = out.with_suffix(".packages")
    listing = f"chroot \"$1\" dpkg-query -W -f '${{Package}}\\n' > {names}"
    command += [f"--customize-hook={hook}" for hook in [*hooks, listing]]
    env = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    subprocess.run([*command, archive.suite, tar, archive.source()], check=True, env=env)
    out.unlink(missing_ok=True)
    squash = ["mksquashfs", "-", out, "-tar", "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "15", "-b", "256K"]
    with open(tar, "rb") as stream:
        subprocess.run([*squash, "-mkfs-time", EPOCH, "-all-time", EPOCH, "-root-mode", "755", "-exports", "-xattrs"], check=True, stdin=stream, env={k: v for k, v in env.items() if k != "SOURCE_DATE_EPOCH"})
    tar.unlink()
