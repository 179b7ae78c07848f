"""The images of the delta benchmark: one real Debian disk, and what becomes of it.

old      as it was published
rebuilt  its root file system upgraded, then built into a new disk image
inplace  the same upgrade in the file system of the disk
used     the old disk after its system has run
"""

import contextlib
import json
import subprocess
from pathlib import Path

from images import BLOCK, MIB, NO_DOCS, SUITE, count_used, run

#: large enough for the upgrade in place, and mostly full, like images for devices
SIZE_BYTES = 704 * MIB
PACKAGES = "systemd-sysv,openssh-server,build-essential,python3,udev,ca-certificates,dbus,less,nano"
ADDED = "git vim-tiny curl"
REMOVED = "nano less"
MIRROR = "http://deb.debian.org"
UPDATES = f"""\
deb {MIRROR}/debian {SUITE}-updates main
deb {MIRROR}/debian-security {SUITE}-security main
"""
APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root"
UPGRADE = [
    f"{APT} update",
    f"{APT} --with-new-pkgs upgrade",
    f"{APT} install --no-install-recommends {ADDED}",
    f"{APT} purge {REMOVED}",
    f"{APT} autoremove --purge",
    f"{APT} clean",
]
#: folders that packages and lists of them would fill
OUTSIDE = ("tmp", "var/cache/apt", "var/lib/apt/lists")
#: what a system does in its first weeks: keys, its identity, caches, logs; and data of its user, in
#: the places of files that were removed
USE = [
    "systemd-machine-id-setup",
    "ssh-keygen -A",
    "ldconfig",
    "systemd-hwdb update",
    "for i in $(seq 40000); do echo \"Nov 30 12:00:00 host sshd[$i]: Accepted publickey for root\"; done >> /var/log/auth.log",
    # nothing is written to the rest of the disk, but it is taken
    "mkdir -p /home/user; n=0; for size in 64M 8M 1M 64K 4K;"
    " do while fallocate -l $size /home/user/taken.$n 2> /dev/null; do n=$((n + 1)); done; done; sync",
    "rm -r /usr/lib/x86_64-linux-gnu/gconv; sync",
    "dd if=/dev/urandom of=/home/user/data bs=1M count=7 status=none || true; sync; rm /home/user/taken.*",
]


class DeltaStore:
    """Builds what is asked for, once, in one directory."""

    def __init__(self, directory: Path, bty: str):
        self.directory, self.bty = directory, bty
        directory.mkdir(parents=True, exist_ok=True)

    def raw(self, name: str) -> Path:
        """The disk image `name`; builds it."""
        out = self.directory / f"delta-{name}.raw"
        if not out.exists():
            part = out.with_name(f"part.{out.name}")
            make = {"old": self._build, "rebuilt": self._build, "inplace": self._change, "used": self._change}
            make[name](name, part)
            part.rename(out)
        return out

    def packed(self, name: str) -> Path:
        """The disk image `name`, packed by the bty that is measured."""
        out = self.directory / f"delta-{name}.img.zst"
        if not out.exists():
            run(f"rm -f {out}.*")
            run(f"{self.bty} pack {self.raw(name)} --out {out} --json > {out}.json")
        return out

    def pack_report(self, name: str) -> dict:
        """What packing said about the disk image `name`."""
        lines = Path(f"{self.packed(name)}.json").read_text().splitlines()
        return next(event for event in map(json.loads, reversed(lines)) if event["event"] == "report")

    def changed(self, name: str, other: str) -> int:
        """Bytes of image `name` in 4 KiB blocks that are not zero, and differ from `other`."""
        changed, zeros = 0, bytes(BLOCK)
        with open(self.raw(name), "rb") as one, open(self.raw(other), "rb") as two:
            while left := one.read(MIB):
                right = two.read(MIB)
                if left != right:
                    starts = range(0, len(left), BLOCK)
                    changed += sum(BLOCK for at in starts if zeros != left[at : at + BLOCK] != right[at : at + BLOCK])
        return changed

    def made(self, name: str, suffix: str, command: str) -> Path:
        """What `command` makes of the raw image `name`, for another tool."""
        out = self.directory / f"delta-{name}.{suffix}"
        if not out.exists():
            part = out.with_name(f"part.{out.name}")
            run(command.format(raw=self.raw(name), out=part, directory=self.directory))
            part.rename(out)
        return out

    def used_bytes(self, name: str) -> int:
        """Bytes of the image in 4 KiB blocks that are not all zero."""
        return count_used(self.raw(name))

    def _root(self, name: str) -> Path:
        root = self.directory / f"root-delta-{name}"
        if root.exists():
            return root
        part = self.directory / f"part.root-delta-{name}"
        run(f"rm -rf {part}")
        if name == "old":
            options = " ".join(f"'{option}'" for option in NO_DOCS)
            run(f"mmdebstrap --quiet --variant=minbase {options} --include={PACKAGES} {SUITE} {part}"
                f" 'deb {MIRROR}/debian {SUITE} main'")
        else:
            run(f"cp -a {self._root('old')} {part}")
            with mounts_in(part):
                commands_in(part, UPGRADE)
        part.rename(root)
        return root

    def _build(self, name: str, out: Path) -> None:
        root = self._root(name)
        out.unlink(missing_ok=True)
        run(f"truncate -s {SIZE_BYTES} {out}")
        run(f"sgdisk -n 1:1MiB:0 -t 1:8304 {out} > /dev/null")
        # the backup table needs the last 33 sectors; a whole MiB keeps the file system aligned
        blocks = (SIZE_BYTES - 2 * MIB) // BLOCK
        run(f"mke2fs -q -F -t ext4 -L root -b {BLOCK} -d {root} -E offset={MIB} {out} {blocks}")

    def _change(self, name: str, out: Path) -> None:
        """Mounts a copy of the old disk, and runs commands of its own system in it."""
        run(f"cp --sparse=always {self.raw('old')} {out}")
        root = self.directory / "mnt"
        root.mkdir(exist_ok=True)
        run(f"mount -o loop,offset={MIB} {out} {root}")
        try:
            with mounts_in(root):
                commands_in(root, {"inplace": UPGRADE, "used": USE}[name])
            if name == "inplace":
                # like everybody who publishes an image: what no file uses becomes zero
                run(f"sync && fstrim {root}")
        finally:
            run(f"umount {root}")


@contextlib.contextmanager
def mounts_in(root: Path):
    """Lets commands of the system in `root` run. What apt downloads stays outside of it."""
    run(f"mount -t proc proc {root}/proc && mount --bind /dev {root}/dev")
    for folder in OUTSIDE:
        run(f"mkdir -p {root}/{folder} && mount -t tmpfs tmpfs {root}/{folder}")
    run(f"mkdir -p {root}/var/lib/apt/lists/partial {root}/var/cache/apt/archives/partial")
    resolv = root / "etc/resolv.conf"
    resolv.write_text(Path("/etc/resolv.conf").read_text())
    (root / "etc/apt/sources.list.d/updates.list").write_text(UPDATES)
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    try:
        yield
    finally:
        (root / "usr/sbin/policy-rc.d").unlink()
        run("umount " + " ".join(f"{root}/{folder}" for folder in (*OUTSIDE, "dev", "proc")))


def commands_in(root: Path, commands: list[str]) -> None:
    for command in commands:
        print(f"  chroot {root.name}: {command}", flush=True)
        subprocess.run(["chroot", str(root), "bash", "-ec", command], check=True, stdout=subprocess.DEVNULL)
