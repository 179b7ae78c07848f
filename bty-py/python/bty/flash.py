"""Plan, write, prove. The name of this module is that of its main function,
``bty.flash(image, disk)``, whose attributes are the names of the module: ``bty.flash.make_plan``.

The functions from ``probe_image`` on are compatible with the reference package. They create a
:class:`bty.Plan` and execute it.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import _bty, images
from ._bty import FlashOptions, FlashReport, Plan, Refusal, TargetReport, VerifyReport, verify
from .errors import Error, FlashCancelled, FlashError, FlashIntegrityError, FlashRaceError, FormatError, RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from typing import Any, Callable, Optional, Union

    from ._bty import CancelToken, Client
    from .events import Event
    from .types import DeltaMode, Disks, ImageLike, Size

    ProgressCallback = Callable[["FlashProgress"], None]
    CancelCheck = Callable[[], bool]

__all__ = [
    "FlashCancelled",
    "FlashError",
    "FlashIntegrityError",
    "FlashOptions",
    "FlashPlan",
    "FlashProgress",
    "FlashRaceError",
    "FlashReport",
    "ImageInfo",
    "Plan",
    "RefusedError",
    "Refusal",
    "TargetInfo",
    "TargetReport",
    "VerifyReport",
    "execute_plan",
    "flash",
    "make_plan",
    "probe_image",
    "probe_image_url",
    "probe_target",
    "register_uefi_boot_entry",
    "validate_plan",
    "verify",
]


def flash(
    image: ImageLike,
    disk: Disks,
    *,
    sha256: Optional[str] = None,
    progress: Optional[Callable[[Event], object]] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
    client: Optional[Client] = None,
    verify: bool = True,
    fix_gpt: bool = False,
    fit: bool = False,
    uefi_boot: bool = False,
    allow_partition: bool = False,
    raw: bool = False,
    overwrite: bool = False,
    efivars: Union[str, PathLike[str]] = "/sys/firmware/efi/efivars",
    stall_ms: int = 120_000,
    delta: DeltaMode = "auto",
    stash: Size = "64 MiB",
    proven_disk: bool = False,
) -> FlashReport:
    """Writes an image to one or more disks, and proves it by reading them back. Blocks the calling
    thread; other threads continue.

    ``image`` is a :class:`bty.Image`, a path, an address, or a catalog entry. ``disk`` is a
    :class:`bty.Disk`, a path, a selector (``serial:…``, ``wwn:…``, ``where:…``), or a sequence of
    them. ``sha256`` is the expected digest of the file as published.

    ``progress`` is called with each :class:`bty.Event`, a few times a second; an exception from it
    cancels the flash. ``cancel`` is a :class:`bty.CancelToken`, or a function that returns true to
    cancel. Ctrl-C cancels too. The other options are those of :class:`bty.FlashOptions`.

    ``raw`` allows an image without partition table, file system and boot sector. Without it, such
    an image is refused, because it is nearly always the wrong file. ``overwrite`` allows to write
    to a regular file that contains an image or an archive.

    ``delta`` says whether to keep and move what the disk already holds, if the image is packed:
    ``auto`` where that saves time, ``always`` or ``never``. ``stash`` is the memory for old content
    that is needed after its place was overwritten. ``proven_disk`` says that the disk has passed a
    full proof before, so that reading back what was written, and a sample of the rest, is enough.

    Raises :class:`bty.SourceError` or :class:`bty.FormatError` if the image cannot be opened, and
    :class:`bty.RefusedError` if a safety rule forbids the flash; nothing was written then. Raises
    :class:`bty.FlashIntegrityError`, :class:`bty.TargetError`, :class:`bty.SourceError` or
    :class:`bty.FlashCancelled` if it fails later; the disk does not boot then. The attribute
    ``report`` of the exception has the outcome for each disk.

    >>> import bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (dir / "system.img").write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(523776))
    >>> disk = bty.disks.create_file(dir / "disk", 1 << 20)
    >>> bty.flash(dir / "system.img", disk).disk_bytes
    524288
    """
    options = {
        "verify": verify,
        "fix_gpt": fix_gpt,
        "fit": fit,
        "uefi_boot": uefi_boot,
        "allow_partition": allow_partition,
        "raw": raw,
        "overwrite": overwrite,
        "efivars": efivars,
        "stall_ms": stall_ms,
        "delta": delta,
        "stash": stash,
        "proven_disk": proven_disk,
    }
    plan = Plan(image, disk, sha256=sha256, client=client, cancel=cancel, **options)  # type: ignore[arg-type]
    return plan.execute(progress=progress, cancel=cancel, client=client)


# What follows is compatible with the reference package.


@dataclass
class ImageInfo:
    """An image, as examined. Sizes are in bytes."""

    path: Optional[Path]
    format: Optional[str]
    size_bytes: int
    virtual_size_bytes: Optional[int]
    url: Optional[str] = None
    expected_sha: Optional[str] = None

    @property
    def display(self) -> str:
        """The address or path of the image."""
        return self.url or str(self.path)


@dataclass
class TargetInfo:
    """A target, as probed. ``size_bytes`` is in bytes, and ``None`` if it is not a block device."""

    path: Path
    exists: bool
    is_block_device: bool
    size_bytes: Optional[int]
    mountpoints: list[str]


@dataclass
class FlashPlan:
    """An image and the target to write it to. :class:`bty.Plan` has more details."""

    image: ImageInfo
    target: TargetInfo
    notes: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with paths as ``str``."""
        image, target = asdict(self.image), asdict(self.target)
        image["path"] = None if self.image.path is None else str(self.image.path)
        target["path"] = str(self.target.path)
        return {"image": image, "target": target, "notes": list(self.notes)}


@dataclass(frozen=True)
class FlashProgress:
    """An event of :func:`execute_plan`.

    ``event`` is ``started``, ``writing``, ``writing_progress``, ``downloading_progress``,
    ``synced``, ``partprobed``, ``done`` or ``failed``.
    """

    event: str
    note: str = ""
    total_bytes: Optional[int] = None
    bytes_written: Optional[int] = None
    bytes_downloaded: Optional[int] = None


def _digest(sha: Optional[str]) -> Optional[str]:
    """Returns 64 hexadecimal digits; ``None`` if ``sha`` is not a SHA-256."""
    digits = (sha or "").strip().lower()
    if digits.startswith("sha256:"):
        digits = digits[len("sha256:") :]
    return digits if images.is_sha256_hex(digits) else None


def _info(reference: str, format_hint: Optional[str], sha: Optional[str], **where: Any) -> ImageInfo:
    with images.open(reference, sha256=sha, ignore_sidecar=True) as image:
        found = image.info
    format = images._known(found.name, found.format, format_hint)
    return ImageInfo(
        format=format,
        size_bytes=found.source_bytes or 0,
        virtual_size_bytes=found.disk_bytes if format else None,
        expected_sha=found.expected_sha256,
        **where,
    )


def probe_image(path: Path) -> ImageInfo:
    """Examines an image file. ``format`` is ``None`` for a file that cannot be flashed.

    Raises ``FileNotFoundError``.

    >>> import bty, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "system.img"
    >>> _ = file.write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(3584))
    >>> bty.flash.probe_image(file).virtual_size_bytes
    4096
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"image not found: {path}")
    try:
        return _info(str(path), None, None, path=path)
    except FormatError:
        # the name may be that of an image; flashing decides by the content
        return ImageInfo(path, images.detect_format(path), path.stat().st_size, None)


def probe_image_url(url: str, format_hint: Optional[str] = None, *, expected_sha: Optional[str] = None) -> ImageInfo:
    """Examines an image at an ``http://``, ``https://`` or ``oras://`` address.

    Raises ``ValueError`` for other addresses, and ``FileNotFoundError`` if it cannot be opened.

    >>> import bty
    >>> bty.flash.probe_image_url("ftp://example.org/a.img")
    Traceback (most recent call last):
    ValueError: image URL must be http://, https://, or oras://: ftp://example.org/a.img
    """
    if url.split("://", 1)[0].lower() not in ("http", "https", "oras"):
        raise ValueError(f"image URL must be http://, https://, or oras://: {url}")
    is_oras = url.lower().startswith("oras://")
    try:
        return _info(url, format_hint or ("img.gz" if is_oras else None), None if is_oras else _digest(expected_sha), path=None, url=url)
    except Error as error:
        what = "oras ref not resolvable" if is_oras else "image URL not reachable"
        raise FileNotFoundError(f"{what}: {url} ({error})") from error


def probe_target(path: Path) -> TargetInfo:
    """Probes a target. Never raises.

    >>> import bty, pathlib
    >>> bty.flash.probe_target(pathlib.Path("/dev/no-such-disk")).exists
    False
    """
    path = Path(path)
    try:
        if not path.is_block_device():
            return TargetInfo(path, path.exists(), False, None, [])
        disk = _bty.disks_probe(path)
    except (OSError, Error):
        return TargetInfo(path, path.exists(), path.is_block_device(), None, [])
    mounted = [use["mountpoint"] for use in disk.to_dict()["uses"] if use["use"] == "mounted"]
    return TargetInfo(path, True, True, disk.size_bytes, mounted)


def make_plan(image: ImageInfo, target: TargetInfo) -> FlashPlan:
    """Combines image and target into a plan. Reads nothing.

    >>> import bty, pathlib
    >>> image = bty.flash.ImageInfo(pathlib.Path("a.img"), "img", 4096, 4096)
    >>> bty.flash.make_plan(image, bty.flash.probe_target(pathlib.Path("/dev/no-such-disk"))).notes
    []
    """
    unknown = image.format is not None and image.virtual_size_bytes is None
    note = "image virtual size could not be determined; size-fits-target check skipped"
    return FlashPlan(image, target, [note] if unknown else [])


def _format_problem(image: ImageInfo) -> str:
    if images.is_tarball(image.display):
        return f"image is a tarball, not a disk image: {image.display}. Extract first, and flash what is in it"
    return f"image format not recognised: {image.display}"


def validate_plan(plan: FlashPlan) -> list[str]:
    """Returns reasons to refuse the plan, found from its data alone; empty if there are none.

    Reads no disk. :func:`execute_plan` probes the disk again, and also refuses for all reasons of
    :meth:`bty.Plan.validate`.

    >>> import bty, pathlib
    >>> image = bty.flash.ImageInfo(pathlib.Path("a.img"), "img", 4096, 4096)
    >>> bty.flash.validate_plan(bty.flash.make_plan(image, bty.flash.probe_target(pathlib.Path("/dev/no-such-disk"))))
    ['target does not exist: /dev/no-such-disk']
    """
    image, target = plan.image, plan.target
    problems = [_format_problem(image)] if image.format is None else []
    if not target.exists:
        problems.append(f"target does not exist: {target.path}")
    elif not target.is_block_device:
        problems.append(f"target is not a block device: {target.path}")
    if target.mountpoints:
        problems.append(f"target has mounted partitions: {', '.join(target.mountpoints)} (unmount them)")
    needed, there = image.virtual_size_bytes, target.size_bytes
    if needed is not None and there is not None and needed > there:
        problems.append(f"image ({needed} bytes) is larger than target ({there} bytes)")
    return problems


def execute_plan(plan: FlashPlan, *, progress: Optional[ProgressCallback] = None, cancel: Optional[CancelCheck] = None) -> None:
    """Writes the image to the target, and proves it by reading it back, as
    :meth:`bty.Plan.execute`.

    Raises :class:`bty.FlashRaceError` if the target has changed since it was probed, and
    :class:`bty.FlashError` or a subclass if the flash fails.

    >>> import bty, pathlib
    >>> image = bty.flash.ImageInfo(pathlib.Path("a.img"), "img", 4096, 4096)
    >>> target = bty.flash.TargetInfo(pathlib.Path("/dev/no-such-disk"), True, True, 8192, [])
    >>> try:
    ...     bty.flash.execute_plan(bty.flash.make_plan(image, target))
    ... except bty.FlashRaceError as error:
    ...     print(error)
    target is no longer a block device: /dev/no-such-disk
    """

    def notify(event: str, **facts: Any) -> None:
        if progress:
            progress(FlashProgress(event, **facts))

    notify("started", total_bytes=plan.image.virtual_size_bytes)
    try:
        _check(plan)
        _execute(plan, notify, cancel)
    except FlashCancelled as error:
        error.args = ("flash cancelled by operator",)
        notify("failed", note=str(error))
        raise
    except FlashError as error:
        notify("failed", note=str(error))
        raise
    except Error as error:
        notify("failed", note=str(error))
        raise FlashError(str(error)) from error
    notify("done")


def _check(plan: FlashPlan) -> None:
    """Raises for the cases that have a message in the reference package. The library checks
    everything else afterwards.
    """
    planned, now = plan.target, probe_target(plan.target.path)
    if not now.is_block_device:
        raise FlashRaceError(f"target is no longer a block device: {planned.path}")
    if now.mountpoints:
        raise FlashRaceError(f"target has mounted partitions: {', '.join(now.mountpoints)} (unmount them)")
    if plan.image.format is None:
        # a tarball or a text file, for example
        raise FlashError(f"cannot flash image of format {plan.image.format!r}: {_format_problem(plan.image)}")
    if planned.size_bytes is not None and now.size_bytes != planned.size_bytes:
        raise FlashRaceError(f"target size changed: {planned.size_bytes} bytes when planned, {now.size_bytes} now: {planned.path}")


def _execute(plan: FlashPlan, notify: Callable[..., None], cancel: Optional[CancelCheck]) -> None:
    image = plan.image
    sha = _digest(image.expected_sha)
    planned = Plan(image.url or str(image.path), Path(plan.target.path), sha256=sha, cancel=cancel)
    total = planned.image.disk_bytes

    def forward(event: Event) -> None:
        if event.event == "phase" and event.phase == "write":
            notify("writing", note=image.format or "?")
        elif event.event == "progress" and event.phase == "write":
            notify("writing_progress", total_bytes=total, bytes_written=event.decoded_bytes)
            if image.url:
                notify(
                    "downloading_progress",
                    total_bytes=event.source_total,
                    bytes_downloaded=event.source_bytes,
                )

    planned.execute(progress=forward, cancel=cancel)
    notify("synced")
    notify("partprobed")


def register_uefi_boot_entry(target_disk: Path, *, label: str = "bty flashed") -> str:
    """Has UEFI boot the disk once, at the next boot, and returns a message about the result.
    :func:`bty.disks.boot_next` returns the number of the boot entry, or raises, instead.

    Raises :class:`bty.HostError` if the firmware's variables cannot be changed.

    >>> import bty, inspect
    >>> inspect.signature(bty.flash.register_uefi_boot_entry).parameters["label"].default
    'bty flashed'
    """
    entry, reason = _bty.disks_boot_next(target_disk, label, "/sys/firmware/efi/efivars")
    if entry is None:
        return f"skipped UEFI boot entry: {reason}"
    return f"registered UEFI boot entry Boot{entry:04X} -> {target_disk}; BootNext set for the next boot, BootOrder untouched"


# The function takes the place of the module, so that `bty.flash(…)`, `help(bty.flash)` and
# `from bty.flash import make_plan` all work. It shares the namespace of the module: replacing
# `bty.flash.probe_target` in a test replaces what the functions here call.
flash.__dict__ = globals()
sys.modules[__name__] = flash  # type: ignore[assignment]
