"""Disks: what can be written to, and how to name one so that it cannot be another. Nothing here writes to a disk."""

from __future__ import annotations

import builtins

from . import _bty
from ._bty import Content, Disk, Partition, Use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from typing import Any, Callable, Optional, Union

    from ._bty import DiskLike

__all__ = ["Content", "Disk", "Partition", "Use", "boot_next", "create_file", "list", "list_disks", "only", "probe", "select", "wait"]


def list() -> builtins.list[Disk]:
    """All disks that a person might mean: whole disks and attached loop devices, sorted by path.

    Raises :class:`bty.HostError` when the system does not tell.

    >>> import bty
    >>> all(disk.size_bytes >= 0 for disk in bty.disks.list())
    True
    """
    return _bty.disks_list()


def probe(path: Union[str, PathLike[str]]) -> Disk:
    """The disk, partition, loop device or regular file at ``path``; links are followed.

    Raises :class:`bty.RefusedError` when nothing is there, or nothing that can be written like a disk.

    >>> import bty, tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.truncate(1 << 20)
    ...     bty.disks.probe(file.name).kind
    'file'
    """
    return _bty.disks_probe(path)


def select(selector: str) -> Disk:
    """The one disk that ``selector`` means: a path, ``serial:…``, ``wwn:…`` or ``where:transport=usb,size<64G``.

    Raises :class:`bty.RefusedError` with the candidates in ``hint`` unless exactly one matches, and :class:`bty.UsageError` when it cannot be
    understood.

    >>> import bty
    >>> try:
    ...     bty.disks.select("serial:NO-SUCH-DISK")
    ... except bty.RefusedError as error:
    ...     print(error)
    no disk matches serial:NO-SUCH-DISK
    """
    return _bty.disks_select(selector)


def only(filter: Callable[[Disk], bool]) -> Disk:
    """The one disk for which ``filter`` is true.

    Raises :class:`bty.RefusedError` with the candidates when there is none or more than one, or the disk has neither serial number nor world-wide name.

    >>> import bty
    >>> try:
    ...     bty.disks.only(lambda disk: disk.size_bytes > 1 << 60)
    ... except bty.RefusedError as error:
    ...     print(error)
    no disk is as wanted
    """
    from .errors import _make

    found = [disk for disk in list() if filter(disk)]
    if len(found) == 1 and (found[0].serial or found[0].wwn):
        return found[0]
    if len(found) == 1:
        path = str(found[0].path)
        message = f"{path} has neither serial number nor world-wide name"
        raise _make("refused", message, path=path, hint="name it by its path if you mean it")
    message = f"{len(found)} disks are as wanted, not one" if found else "no disk is as wanted"
    lines = [disk.summary() for disk in found or list()]
    raise _make("refused", message, hint="\n  ".join(["choose by something else; there are:", *lines]))


def wait(selector: str, seconds: float) -> Disk:
    """The same as :func:`select`, but waits up to ``seconds`` for the disk to appear: USB disks come late.

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


def create_file(path: Union[str, PathLike[str]], size_bytes: int) -> Disk:
    """Creates the regular file ``path`` of ``size_bytes``, all zero, to be used as a disk.

    Raises :class:`bty.RefusedError` when something is there already, :class:`bty.TargetError` when it cannot be made.

    >>> import bty, os, tempfile
    >>> disk = bty.disks.create_file(os.path.join(tempfile.mkdtemp(), "disk"), 4 << 20)
    >>> disk.size_bytes
    4194304
    """
    return _bty.disks_create_file(path, size_bytes)


def boot_next(disk: DiskLike, *, label: str = "bty flashed", efivars: Union[str, PathLike[str]] = "/sys/firmware/efi/efivars") -> int:
    """Lets UEFI boot ``disk`` next, once, and returns the number of the entry that it makes for that; earlier entries named ``label`` are deleted. The boot
    order stays as it is. ``bty.flash(…, uefi_boot=True)`` does the same at its end.

    Raises :class:`bty.HostError` when this machine was not started by UEFI, the disk has no EFI system partition, or a variable cannot be changed.

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
    """A size as ``lsblk`` writes it: ``465.8G``, ``512M``."""
    units = "BKMGTPE"
    value, unit = float(size), 0
    while value >= 1024 and unit < len(units) - 1:
        value, unit = value / 1024, unit + 1
    text = f"{value:.1f}"
    return (text[:-2] if text.endswith(".0") else text) + units[unit]


def list_disks() -> builtins.list[dict[str, Any]]:
    """Whole disks as plain dictionaries, in the reference's shape. No program is started.

    Keys: ``path``, ``size`` (text for people), ``type``, ``vendor``, ``model``, ``serial``, ``tran``, ``removable``, ``readonly`` and
    ``mountpoints`` (the disk's own, not those of its partitions).

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
