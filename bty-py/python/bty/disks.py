"""Disks: list, probe and select them. Only :func:`erase` writes to a disk."""

from __future__ import annotations

import builtins

from . import _bty
from ._bty import Content, Disk, EraseReport, Partition, Use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from typing import Any, Callable, Optional, Union

    from .types import Cancel, DiskLike, EraseWay, Progress, Size

__all__ = ["Content", "Disk", "EraseReport", "Partition", "Use", "boot_next", "create_file", "erase", "list", "list_disks", "only", "probe", "select", "wait"]


def list() -> builtins.list[Disk]:
    """Returns whole disks and attached loop devices, sorted by path.

    Raises :class:`bty.HostError` if the system cannot list its disks.

    >>> import bty
    >>> all(disk.size_bytes >= 0 for disk in bty.disks.list())
    True
    """
    return _bty.disks_list()


def probe(path: Union[str, PathLike[str]]) -> Disk:
    """Returns the disk, partition, loop device or regular file at ``path``; follows links.

    Raises :class:`bty.RefusedError` if ``path`` does not exist, or cannot be used as
    a disk.

    >>> import bty, tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.truncate(1 << 20)
    ...     bty.disks.probe(file.name).kind
    'file'
    """
    return _bty.disks_probe(path)


def select(selector: str) -> Disk:
    """Returns the only disk that matches ``selector``: a path, ``serial:…``, ``wwn:…`` or
    ``where:transport=usb,size<64G``.

    Raises :class:`bty.RefusedError`, with the candidates in ``hint``, unless exactly one disk
    matches, and :class:`bty.UsageError` for an invalid selector.

    >>> import bty
    >>> try:
    ...     bty.disks.select("serial:NO-SUCH-DISK")
    ... except bty.RefusedError as error:
    ...     print(error)
    no disk matches serial:NO-SUCH-DISK
    """
    return _bty.disks_select(selector)


def only(filter: Callable[[Disk], bool]) -> Disk:
    """Returns the only disk for which ``filter`` returns true.

    Raises :class:`bty.RefusedError`, with the candidates in ``hint``, unless exactly one disk
    matches, and if that disk has neither a serial number nor a world-wide name.

    >>> import bty
    >>> try:
    ...     bty.disks.only(lambda disk: disk.size_bytes > 1 << 60)
    ... except bty.RefusedError as error:
    ...     print(error)
    the filter of disks.only() matches no disk
    """
    from .errors import _make

    found = [disk for disk in list() if filter(disk)]
    if len(found) == 1 and (found[0].serial or found[0].wwn):
        return found[0]
    if len(found) == 1:
        path = str(found[0].path)
        message = f"{path} has neither a serial number nor a WWN"
        raise _make("refused", message, path=path, hint="if you mean this disk, select it by its path")
    if found:
        message = f"disks.only() expected one matching disk, found {len(found)}"
    else:
        message = "the filter of disks.only() matches no disk"
    lines = [disk.summary() for disk in found or list()]
    raise _make("refused", message, hint="\n  ".join(["use another filter; candidates:", *lines]))


def wait(selector: str, seconds: float) -> Disk:
    """Returns a disk like :func:`select`, but waits up to ``seconds`` for it to appear, because USB
    disks may take seconds.

    >>> import bty
    >>> try:
    ...     bty.disks.wait("serial:NO-SUCH-DISK", 0.1)
    ... except bty.RefusedError as error:
    ...     print(error)
    no disk matches serial:NO-SUCH-DISK
    """
    import time

    from .errors import RefusedError

    end = time.monotonic() + seconds
    while True:
        try:
            return select(selector)
        except RefusedError:
            left = end - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(0.2, left))


def create_file(path: Union[str, PathLike[str]], size_bytes: Size) -> Disk:
    """Creates a regular file of ``size_bytes`` zeros at ``path``, for use as a disk.

    Raises :class:`bty.RefusedError` if ``path`` exists already, and :class:`bty.TargetError` if the
    file cannot be created.

    >>> import bty, os, tempfile
    >>> disk = bty.disks.create_file(os.path.join(tempfile.mkdtemp(), "disk"), "4 MiB")
    >>> disk.size_bytes
    4194304
    """
    return _bty.disks_create_file(path, size_bytes)


def erase(disk: DiskLike, way: EraseWay = "zeros", *, progress: Progress = None, cancel: Cancel = None) -> EraseReport:
    """Erases all of ``disk`` and reads it back. ALL DATA ON IT WILL BE LOST.

    ``way`` is ``"zeros"`` or ``"random"``, which overwrite every sector; ``"discard"``, which has the
    disk zero every sector and frees flash memory; or ``"nvme_format"``, by which an NVMe disk also
    erases what cannot be read, and says so in ``is_attested``.

    Raises :class:`bty.RefusedError` if the disk is in use, has changed, or does not know the way;
    nothing was written then. Raises :class:`bty.IntegrityError` if it still holds something else.

    >>> import bty, os, tempfile
    >>> disk = bty.disks.create_file(os.path.join(tempfile.mkdtemp(), "disk"), "4 MiB")
    >>> report = bty.disks.erase(disk, "random")
    >>> report.verified_bytes, report.is_attested
    (4194304, False)
    """
    return _bty.disks_erase(disk, way, progress=progress, cancel=cancel)


def boot_next(disk: DiskLike, *, label: str = "bty flashed", efivars: Union[str, PathLike[str]] = "/sys/firmware/efi/efivars") -> int:
    """Has UEFI boot ``disk`` once, at the next boot, and returns the number of the boot entry that
    it creates. Earlier entries named ``label`` are deleted; the boot order is unchanged.
    ``bty.flash(…, uefi_boot=True)`` does the same after a flash.

    Raises :class:`bty.HostError` if this machine was not started by UEFI, if the disk has no EFI
    system partition, or if a variable cannot be changed.

    >>> import bty, os, tempfile
    >>> disk = bty.disks.create_file(os.path.join(tempfile.mkdtemp(), "disk"), 4 << 20)
    >>> try:
    ...     bty.disks.boot_next(disk, efivars="/nowhere")
    ... except bty.HostError as error:
    ...     print(error)
    this machine was not started by UEFI
    """
    entry, reason = _bty.disks_boot_next(disk, label, efivars)
    if entry is None:
        from .errors import _make

        raise _make("host", reason)
    return entry


def _lsblk_size(size: int) -> str:
    """Formats a size like ``lsblk``: ``465.8G``, ``512M``."""
    units = "BKMGTPE"
    value, unit = float(size), 0
    while value >= 1024 and unit < len(units) - 1:
        value, unit = value / 1024, unit + 1
    text = f"{value:.1f}"
    return (text[:-2] if text.endswith(".0") else text) + units[unit]


def list_disks() -> builtins.list[dict[str, Any]]:
    """Returns whole disks as plain dictionaries, compatible with the reference package. Starts no
    program.

    Keys: ``path``, ``size`` (text for display), ``type``, ``vendor``, ``model``, ``serial``,
    ``tran``, ``removable``, ``readonly`` and ``mountpoints`` (of the disk itself, not of its
    partitions).

    >>> import bty
    >>> all(disk["type"] == "disk" for disk in bty.disks.list_disks())
    True
    """
    return [_as_lsblk(disk) for disk in list() if disk.kind == "disk"]


def _as_lsblk(disk: Disk) -> dict[str, Any]:
    uses = disk.to_dict()["uses"]
    own = [use["mountpoint"] for use in uses if use["use"] == "mounted" and use["device"] == str(disk.path)]
    transport: Optional[str] = disk.transport
    return {
        "path": str(disk.path),
        "size": _lsblk_size(disk.size_bytes),
        "type": "disk",
        "vendor": disk.vendor,
        "model": disk.model,
        "serial": disk.serial,
        "tran": transport,
        "removable": disk.is_removable,
        "readonly": disk.is_read_only,
        "mountpoints": own,
    }
