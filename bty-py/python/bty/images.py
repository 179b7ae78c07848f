"""Images: open them and detect their format, pack them, create them from disks; list directories of
image files.
"""

from __future__ import annotations

import builtins
from dataclasses import asdict, dataclass
from pathlib import Path

from . import _bty
from ._bty import Contents, CreateReport, Image, ImageFile, ImageInfo, PackCheck, PackReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from typing import Any, Callable, Optional, Union

    from ._bty import CancelToken, Client, Entry
    from .events import Event
    from .types import DiskLike, ImageLike, Size

__all__ = [
    "DEFAULT_IMAGE_ROOT",
    "Contents",
    "CreateReport",
    "Image",
    "ImageFile",
    "ImageInfo",
    "ImageSource",
    "PackCheck",
    "PackReport",
    "UnifiedImage",
    "architecture",
    "check_packed",
    "create",
    "default_image_root",
    "detect_arch_from_name",
    "detect_format",
    "format",
    "inspect_image",
    "is_sha256_hex",
    "is_tarball",
    "is_tarball_extension",
    "list",
    "list_images",
    "open",
    "pack",
    "read_fully",
    "sidecar_digest",
]

#: Default directory of images.
DEFAULT_IMAGE_ROOT = Path("/var/lib/bty/images")

_UNKNOWN = "unrecognised image: names end in .qcow2, .img, .img.gz, .img.xz, .img.zst, .img.bz2, .img.lz4, .raw or .iso"

#: Formats as detected from the content, and their names in lists of files.
_IDS = {"raw": "img", "gzip": "img.gz", "xz": "img.xz", "bzip2": "img.bz2", "zstd": "img.zst", "lz4": "img.lz4", "qcow2": "qcow2"}


def _known(name: str, found: str, hint: Optional[str] = None) -> Optional[str]:
    """Returns the format of an image: by its name, else ``hint``, else by its content. Raw content
    without a known name is none, because it could be anything.
    """
    by_bytes = _IDS.get(found) if found != "raw" and not is_tarball(name) else None
    return format(name) or hint or by_bytes


def open(
    reference: Union[str, PathLike[str], Entry, ImageFile],
    *,
    sha256: Optional[str] = None,
    ignore_sidecar: bool = False,
    client: Optional[Client] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
    sha512: Optional[str] = None,
    image_sha256: Optional[str] = None,
    member: Optional[str] = None,
    ignore_trailing: bool = False,
    compute_sha256: bool = False,
) -> Image:
    """Opens an image, and detects its format, size and partitions. ``reference`` is a path, an
    ``http://``, ``https://`` or ``oras://`` address, or an entry of a catalog.

    ``sha256`` and ``sha512`` are the expected digests of the file as published, ``image_sha256``
    that of the disk image after decoding. The digest in a ``.sha256`` or ``.sha512`` file beside a
    local image is expected too, unless ``ignore_sidecar`` is true. Digests are checked when the
    image is read. ``compute_sha256`` has the digest computed even if none is expected, so that
    reports have it.

    ``member`` is the name of the image in an archive, if it holds several. ``ignore_trailing``
    ignores bytes after the end of compressed data.

    Raises :class:`bty.SourceError` (also ``FileNotFoundError``, ``PermissionError``) if it cannot
    be opened, :class:`bty.FormatError` if it is not a disk image, and
    :class:`bty.FlashIntegrityError` if two expected digests differ.

    >>> import bty, tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".img") as file:
    ...     _ = file.write(bytes(4096)), file.flush()
    ...     with bty.images.open(file.name) as image:
    ...         print(image.info.format, image.info.disk_bytes)
    raw 4096
    """
    return _bty.images_open(
        reference,
        sha256=sha256,
        ignore_sidecar=ignore_sidecar,
        client=client,
        cancel=cancel,
        sha512=sha512,
        image_sha256=image_sha256,
        member=member,
        ignore_trailing=ignore_trailing,
        compute_sha256=compute_sha256,
    )


def pack(
    image: ImageLike,
    path: Union[str, PathLike[str]],
    *,
    level: int = 3,
    frame_bytes: Size = "64 KiB",
    sha256: Optional[str] = None,
    progress: Optional[Callable[[Event], object]] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
    client: Optional[Client] = None,
) -> PackReport:
    """Writes an image to ``path`` as a packed image, reads it back, and checks it; also
    :func:`bty.pack`. A packed image is a zstd file whose parts can be found and read alone. Uses
    all cores.

    ``level`` is the compression level of zstd, 1 to 19. ``frame_bytes`` is the size of a part, a
    power of two from 16 KiB to 1 MiB: smaller parts make the file larger, and an update fetch less.

    Raises :class:`bty.RefusedError` if the name does not end in ``.zst``, or the file exists
    already. On failure no file is left.

    >>> import bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (dir / "system.img").write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(523776))
    >>> report = bty.pack(dir / "system.img", dir / "system.img.zst")
    >>> report.disk_bytes, bty.images.check_packed(report.path).index_sha256 == report.index_sha256
    (524288, True)
    """
    return _bty.images_pack(
        image,
        path,
        level=level,
        frame_bytes=frame_bytes,
        sha256=sha256,
        progress=progress,
        cancel=cancel,
        client=client,
    )


def check_packed(
    image: ImageLike,
    *,
    sha256: Optional[str] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
    client: Optional[Client] = None,
) -> PackCheck:
    """Compares every part of a packed image with its index.

    Raises :class:`bty.FlashIntegrityError` if a part differs, and :class:`bty.FormatError` if the
    image is not packed, or if its beginning is damaged.

    >>> import bty, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "system.img"
    >>> _ = file.write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(3584))
    >>> try:
    ...     bty.images.check_packed(file)
    ... except bty.FormatError as error:
    ...     print(error.hint)
    pack it first
    """
    return _bty.images_check_packed(image, sha256=sha256, cancel=cancel, client=client)


def create(
    disk: DiskLike,
    path: Union[str, PathLike[str]],
    *,
    shrink: bool = False,
    progress: Optional[Callable[[Event], object]] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
) -> CreateReport:
    """Reads a disk, writes an image of it to ``path``, and compares the two. The name decides the
    format: ``.img``, ``.img.zst`` or ``.qcow2``. A ``.sha256`` file beside it holds its digest.

    ``shrink`` ends the image after the last partition.

    Raises :class:`bty.RefusedError` if the disk is in use, the file exists already, or its name has
    no known ending; :class:`bty.SourceError` if the disk cannot be read. On failure no file is
    left.

    >>> import bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> disk = bty.disks.create_file(dir / "disk", "1 MiB")
    >>> report = bty.images.create(disk, dir / "backup.img.zst")
    >>> report.format, report.disk_bytes, report.data_bytes
    ('zstd', 1048576, 0)
    """
    return _bty.images_create(disk, path, shrink=shrink, progress=progress, cancel=cancel)


def list(dir: Union[str, PathLike[str]]) -> builtins.list[ImageFile]:
    """Returns the image files in a directory, sorted by name; skips links, subdirectories, and
    files without the name of an image.

    Raises :class:`bty.SourceError` (also ``FileNotFoundError``) if the directory cannot be read.

    >>> import bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (dir / "debian-13-amd64.img").write_bytes(b"boot")
    >>> [(file.name, file.format, file.size_bytes, file.arch) for file in bty.images.list(dir)]
    [('debian-13-amd64.img', 'img', 4, 'x86_64')]
    """
    return _bty.images_list(dir)


def read_fully(
    image: Image,
    *,
    progress: Optional[Callable[[Event], object]] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
) -> Contents:
    """Reads an image completely without writing it, like :meth:`bty.Image.read_fully`.

    Raises :class:`bty.FlashIntegrityError` if its digest does not match.

    >>> import bty, tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".img") as file:
    ...     _ = file.write(bytes(4096)), file.flush()
    ...     bty.images.read_fully(bty.images.open(file.name)).disk_bytes
    4096
    """
    return image.read_fully(progress=progress, cancel=cancel)


def sidecar_digest(path: Union[str, PathLike[str]]) -> Optional[str]:
    """Returns the digest in the ``.sha256`` file beside an image; ``None`` if there is no such
    file.

    Raises :class:`bty.FlashIntegrityError` if the file exists but has no digest of the image.

    >>> import bty
    >>> bty.images.sidecar_digest("/nowhere/debian.img") is None
    True
    """
    return _bty.images_sidecar(path)


def architecture(name: str) -> Optional[str]:
    """Returns the architecture suggested by a name, for display only.

    >>> import bty
    >>> bty.images.architecture("debian-13-amd64.img.zst")
    'x86_64'
    """
    return _bty.images_architecture(name)


def format(name: str) -> Optional[str]:
    """Returns the format suggested by a name. Flashing detects the format from the content instead.

    >>> import bty
    >>> bty.images.format("Debian-13.IMG.ZST")
    'img.zst'
    """
    return _bty.images_format(name)


def is_tarball(name: str) -> bool:
    """Returns true for the name of a tarball, which must be extracted before flashing.

    >>> import bty
    >>> bty.images.is_tarball("rootfs.tar.gz")
    True
    """
    return _bty.images_is_tarball(name)


# What follows is compatible with the reference package.


@dataclass(frozen=True)
class ImageSource:
    """A location of an image: ``kind`` is ``local`` (a path) or ``manifest`` (an address)."""

    kind: str
    location: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the source as plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class UnifiedImage:
    """An image with all of its names and locations. ``size_bytes`` is the size of the file.

    For programs that keep such lists; no function of bty returns it.
    """

    ref: str
    sha256: Optional[str]
    names: tuple[str, ...]
    format: Optional[str]
    size_bytes: Optional[int]
    sources: tuple[ImageSource, ...]
    cached: bool
    arch: Optional[str] = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data.

        >>> import bty
        >>> source = bty.images.ImageSource("local", "/srv/a.img")
        >>> bty.images.UnifiedImage("0" * 64, None, ("a",), "img", 4096, (source,), False).to_dict()["sources"]
        [{'kind': 'local', 'location': '/srv/a.img'}]
        """
        return {**asdict(self), "names": [*self.names], "sources": [source.to_dict() for source in self.sources]}


def default_image_root() -> Path:
    """Returns the directory of images: ``BTY_IMAGE_ROOT``, else :data:`DEFAULT_IMAGE_ROOT`.

    >>> import bty
    >>> str(bty.images.default_image_root()).startswith("/")
    True
    """
    import os

    root = os.environ.get("BTY_IMAGE_ROOT")
    return Path(root) if root else DEFAULT_IMAGE_ROOT


def detect_format(path: Union[str, PathLike[str]]) -> Optional[str]:
    """Returns :func:`format` for the name in a path.

    >>> import bty
    >>> bty.images.detect_format("/srv/debian.qcow2")
    'qcow2'
    """
    return format(Path(path).name)


def detect_arch_from_name(name: str) -> Optional[str]:
    """Another name of :func:`architecture`.

    >>> import bty
    >>> bty.images.detect_arch_from_name("alpine-aarch64.img")
    'arm64'
    """
    return architecture(name)


def is_tarball_extension(name: str) -> bool:
    """Another name of :func:`is_tarball`.

    >>> import bty
    >>> bty.images.is_tarball_extension("debian.img")
    False
    """
    return is_tarball(name)


def is_sha256_hex(s: str) -> bool:
    """Returns true for 64 lower-case hexadecimal digits.

    >>> import bty
    >>> bty.images.is_sha256_hex("0" * 64), bty.images.is_sha256_hex("A" * 64)
    (True, False)
    """
    return len(s) == 64 and all(digit in "0123456789abcdef" for digit in s)


def list_images(root: Union[str, PathLike[str]]) -> builtins.list[ImageFile]:
    """Returns :func:`list`, or an empty list if there is no such directory.

    >>> import bty
    >>> bty.images.list_images("/nowhere")
    []
    """
    return list(root) if Path(root).is_dir() else []


def inspect_image(path: Union[str, PathLike[str]]) -> dict[str, Any]:
    """Returns a dictionary with ``path``, ``format``, ``size_bytes`` and ``detail``, or
    ``detail_error`` if the image cannot be examined. Starts no program.

    Raises ``FileNotFoundError`` if there is no such file, and ``IsADirectoryError`` for a
    directory.

    >>> import bty, tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".img") as file:
    ...     _ = file.write(bytes(4096)), file.flush()
    ...     found = bty.images.inspect_image(file.name)
    >>> found["format"], found["size_bytes"]
    ('img', 4096)
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(path)
    if not path.exists():
        raise FileNotFoundError(path)
    info: dict[str, Any] = {"path": str(path), "format": detect_format(path), "size_bytes": path.stat().st_size}
    try:
        with open(path, ignore_sidecar=True) as image:
            info["format"] = _known(path.name, image.info.format)
            info["detail"] = image.info.to_dict()
    except _bty_error() as error:
        info["detail_error"] = str(error)
    if info["format"] is None:
        info["detail_error"] = f"{path.name} is a tarball: extract it, and use the image in it" if is_tarball(path.name) else _UNKNOWN
    return info


def _bty_error() -> type[Exception]:
    from .errors import Error

    return Error
