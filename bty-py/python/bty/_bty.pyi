"""The native module behind the package ``bty``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, Literal, Optional, Union, final

from .events import Event
from .types import Cancel, DeltaMode, DiskLike, Disks, EraseWay, ImageLike, PathLike, Progress, Proof, Size

__version__: str
CATALOG_DEFAULT_URL: str
CATALOG_MAX_BYTES: int

@final
class Content:
    """A recognized signature of a file system, RAID or LVM."""

    def __new__(cls, **fields: Any) -> Content: ...
    @property
    def kind(self) -> str:
        """`ext4`, `vfat`, `luks` …"""
    @property
    def label(self) -> Optional[str]:
        """Label; none if it has none."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Content:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> Content:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class Partition:
    """A partition in the partition table of a disk or image."""

    def __new__(cls, **fields: Any) -> Partition: ...
    @property
    def path(self) -> Optional[Path]:
        """Device node; none if the kernel has none."""
    @property
    def number(self) -> int:
        """Number in the table, counted from 1."""
    @property
    def start_bytes(self) -> int:
        """Offset of the first byte from the start of the disk."""
    @property
    def size_bytes(self) -> int:
        """Size of the partition in bytes."""
    @property
    def type_id(self) -> Optional[str]:
        """Type: a GUID (GPT), or two hexadecimal digits (MBR)."""
    @property
    def name(self) -> Optional[str]:
        """Name in the table (GPT)."""
    @property
    def content(self) -> Optional[Content]:
        """Signature found in the partition."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Partition:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> Partition:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class Use:
    """A holder of a disk. ``str()`` names the device, the holder, and how to release it."""

    def __new__(cls, **fields: Any) -> Use: ...
    @property
    def kind(self) -> str:
        """`mounted`, `swap`, `held`, `loop`, `busy` or `system`."""
    @property
    def device(self) -> Path:
        """The disk or partition that is in use."""
    @property
    def message(self) -> str:
        """The text that ``str()`` returns."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Use:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> Use:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class Disk:
    """A disk, as probed. Sizes and offsets are in bytes."""

    def __new__(
        cls,
        path: PathLike,
        size_bytes: Size,
        *,
        kind: str = "disk",
        logical_sector_bytes: int = 512,
        physical_sector_bytes: int = 4096,
        vendor: Optional[str] = None,
        model: Optional[str] = None,
        serial: Optional[str] = None,
        wwn: Optional[str] = None,
        transport: Optional[str] = None,
        is_removable: bool = False,
        is_read_only: bool = False,
        is_rotational: Optional[bool] = None,
        diskseq: Optional[int] = None,
        table: Optional[str] = None,
        content: Optional[Content] = None,
        partitions: Optional[Sequence[Partition]] = None,
        uses: Optional[Sequence[Use]] = None,
        file_holds: Optional[str] = None,
    ) -> Disk: ...
    @property
    def path(self) -> Path:
        """Path of the device node or file."""
    @property
    def kind(self) -> str:
        """`disk`, `loop`, `partition`, `file` or `other`."""
    @property
    def size_bytes(self) -> int:
        """Size of the whole disk in bytes."""
    @property
    def logical_sector_bytes(self) -> int:
        """Logical sector size, in bytes: the unit of partition tables and writes."""
    @property
    def physical_sector_bytes(self) -> int:
        """Physical sector size, in bytes."""
    @property
    def vendor(self) -> Optional[str]:
        """Name of the vendor."""
    @property
    def model(self) -> Optional[str]:
        """Name of the model."""
    @property
    def serial(self) -> Optional[str]:
        """Serial number of the disk, as the kernel reports it."""
    @property
    def wwn(self) -> Optional[str]:
        """World-wide name (WWN), which no other disk has."""
    @property
    def by_path(self) -> Optional[str]:
        """Where it is attached, as in `/dev/disk/by-path`; none if unknown."""
    @property
    def transport(self) -> Optional[str]:
        """`nvme`, `sata`, `usb`, `loop`, `file` …"""
    @property
    def is_removable(self) -> bool:
        """True if the medium is removable."""
    @property
    def is_read_only(self) -> bool:
        """True if the kernel refuses writes."""
    @property
    def is_rotational(self) -> Optional[bool]:
        """True for spinning disks; none if unknown."""
    @property
    def diskseq(self) -> Optional[int]:
        """Sequence number of the kernel, which changes when another disk gets the same device name.
        """
    @property
    def table(self) -> Optional[str]:
        """Kind of the partition table: `gpt` or `mbr`; none if there is none."""
    @property
    def content(self) -> Optional[Content]:
        """Signature on the whole device, outside of partitions."""
    @property
    def partitions(self) -> list[Partition]:
        """Partitions, sorted by their start."""
    @property
    def uses(self) -> list[Use]:
        """Holders of the disk. A disk with any holder is not written."""
    @property
    def file_holds(self) -> Optional[str]:
        """What a regular file contains if bty did not create it as a disk; none for devices."""
    def summary(self) -> str:
        """One line for display: path, size, model, serial number."""
    def contents(self) -> str:
        """One line for display: the current contents, which a flash destroys."""
    def is_same_disk(self, other: Disk) -> bool:
        """True if ``other``, probed later, is the same hardware."""
    def refusals(self, *, allow_partition: bool = False, overwrite: bool = False) -> list[Refusal]:
        """Every reason not to write to the disk, whatever the image; empty if there is none."""
    @staticmethod
    def planned_file(path: PathLike, size_bytes: Size) -> Disk:
        """Describes a regular file that will be created as a disk, for use in plans. Reads nothing.
        """
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Disk:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> Disk:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class ImageInfo:
    """What is known about an image. Sizes and offsets are in bytes."""

    def __new__(cls, **fields: Any) -> ImageInfo: ...
    @property
    def source(self) -> str:
        """The reference from which it was opened."""
    @property
    def name(self) -> str:
        """Short name for display."""
    @property
    def path(self) -> Optional[Path]:
        """Canonical path of a local image; none for others."""
    @property
    def format(self) -> str:
        """Format, detected from the content: `raw`, `gzip`, `xz`, `bzip2`, `zstd`, `lz4` or
        `qcow2`.
        """
    @property
    def detail(self) -> Optional[str]:
        """Details of the format."""
    @property
    def source_bytes(self) -> Optional[int]:
        """Size of the file as published, in bytes; none if unknown."""
    @property
    def disk_bytes(self) -> Optional[int]:
        """Size of the disk image after decoding, in bytes; none if unknown."""
    @property
    def expected_sha256(self) -> Optional[str]:
        """Expected SHA-256 of the file as published."""
    @property
    def expected_sha512(self) -> Optional[str]:
        """Expected SHA-512 of the file as published."""
    @property
    def expected_image_sha256(self) -> Optional[str]:
        """Expected SHA-256 of the disk image after decoding."""
    @property
    def pack_index_sha256(self) -> Optional[str]:
        """SHA-256 of the index of a packed image; none if it is not packed."""
    @property
    def sector_bytes(self) -> Optional[int]:
        """Logical sector size for which the partition table was made, in bytes."""
    @property
    def table(self) -> Optional[str]:
        """Kind of the partition table: `gpt` or `mbr`; none if there is none."""
    @property
    def partitions(self) -> list[Partition]:
        """Partitions of the image, sorted by their start."""
    @property
    def content(self) -> Optional[Content]:
        """Signature of a file system, RAID or LVM on the whole image."""
    @property
    def is_recognized(self) -> bool:
        """True if it contains a partition table, a file system or a boot sector."""
    @property
    def erases(self) -> Optional[EraseWay]:
        """How it erases a disk: `zeros`, `random`, `discard` or `nvme_format`; none if it is an
        image of a system.
        """
    def summary(self) -> str:
        """One line for display: format, sizes, partition table."""
    @property
    def min_disk_bytes(self) -> Optional[int]:
        """Minimum size of a disk for this image, in bytes; none if unknown."""
    @property
    def least_bytes(self) -> Optional[int]:
        """Deprecated name of ``min_disk_bytes``: warns with ``DeprecationWarning``."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> ImageInfo:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> ImageInfo:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class FlashOptions:
    """Options of a flash."""

    def __new__(cls, **fields: Any) -> FlashOptions: ...
    @property
    def verify(self) -> bool:
        """Read the targets back and compare them with the image."""
    @property
    def fix_gpt(self) -> bool:
        """Move the backup GPT to the end of the disk."""
    @property
    def fit(self) -> bool:
        """On a disk that is smaller than the image, leave out what lies behind the last partition,
        when all of it is zero.
        """
    @property
    def uefi_boot(self) -> bool:
        """Have the firmware boot the target once, at the next boot."""
    @property
    def allow_partition(self) -> bool:
        """Write to a partition instead of a whole disk."""
    @property
    def raw(self) -> bool:
        """Write an image in which no partition table, file system or boot sector was found."""
    @property
    def overwrite(self) -> bool:
        """Write to a regular file that holds an image or an archive, and that bty did not make a
        disk of.
        """
    @property
    def delta(self) -> DeltaMode:
        """Whether to keep and move what the disk already holds: `auto`, `always` or `never`."""
    @property
    def stash_bytes(self) -> int:
        """Maximum memory for old content that is needed after its place was overwritten."""
    @property
    def proven_disk(self) -> bool:
        """The disk has passed a full proof before, so that a sample suffices for what is kept."""
    @property
    def efivars(self) -> Path:
        """Mount point of the firmware's variables (efivarfs)."""
    @property
    def stall_ms(self) -> int:
        """Fail a target that completes no request for this many milliseconds."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> FlashOptions:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> FlashOptions:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class Refusal:
    """A reason why a plan is refused. ``str()`` names the target, the reason, and what to do."""

    def __new__(cls, **fields: Any) -> Refusal: ...
    @property
    def target(self) -> Optional[str]:
        """The target concerned; none if the reason concerns the plan as a whole."""
    @property
    def reason(self) -> str:
        """Identifier for programs: `in_use`, `system`, `too_small`, `read_only`, `partition` …"""
    @property
    def message(self) -> str:
        """Message for display, without the hint."""
    @property
    def remedy(self) -> Optional[str]:
        """What helps, as a word: often the option, such as `fit` or `overwrite`. Lost by pickling
        and by ``to_dict()``.
        """
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Refusal:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> Refusal:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class Difference:
    """The first difference between disk and image."""

    def __new__(cls, **fields: Any) -> Difference: ...
    @property
    def offset(self) -> int:
        """Offset of the first different byte."""
    @property
    def found(self) -> str:
        """What the disk has there: `zeros`; `elsewhere`, data from another offset of the image;
        `old`, data from before the flash; or `other`.
        """
    @property
    def elsewhere_offset(self) -> Optional[int]:
        """For `elsewhere`: the offset in the image of the data that was found."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Difference:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> Difference:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class Failure:
    """An error in a report."""

    def __new__(cls, **fields: Any) -> Failure: ...
    @property
    def kind(self) -> str:
        """Kind, as :attr:`bty.Error.kind`: `target`, `integrity`, `cancelled` …"""
    @property
    def message(self) -> str:
        """Message for display, without the hint."""
    @property
    def hint(self) -> Optional[str]:
        """What to do next, if there is something that helps."""
    @property
    def offset(self) -> Optional[int]:
        """The offset concerned, in bytes from the start of the target."""
    @property
    def difference(self) -> Optional[Difference]:
        """The first difference, if the target did not read back as written."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Failure:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> Failure:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class DeltaReport:
    """How much of an image a disk already held. All sizes are in bytes; ``kept_bytes``,
    ``moved_bytes`` and ``fetched_bytes`` together are the data of the image.
    """

    def __new__(cls, **fields: Any) -> DeltaReport: ...
    @property
    def kept_bytes(self) -> int:
        """Data that was in its place already."""
    @property
    def moved_bytes(self) -> int:
        """Data that was somewhere else on the disk."""
    @property
    def fetched_bytes(self) -> int:
        """Data that was read from the source."""
    @property
    def source_bytes(self) -> int:
        """Bytes of the packed file that ``fetched_bytes`` take, compressed."""
    @property
    def stash_peak_bytes(self) -> int:
        """Maximum number of bytes in memory because their place was overwritten before they were
        needed.
        """
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> DeltaReport:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> DeltaReport:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class TargetReport:
    """The outcome for one target. All sizes are in bytes."""

    def __new__(cls, **fields: Any) -> TargetReport: ...
    @property
    def disk(self) -> Disk:
        """The disk, as probed immediately before the first write."""
    @property
    def failure(self) -> Optional[Failure]:
        """Why it failed; none on success."""
    @property
    def written_bytes(self) -> int:
        """Bytes of image data written."""
    @property
    def zeroed_bytes(self) -> int:
        """Bytes in zero ranges of the image, which were zeroed on the target."""
    @property
    def wiped_bytes(self) -> int:
        """Bytes zeroed beyond the end of the image, to erase old signatures."""
    @property
    def verified_bytes(self) -> int:
        """Bytes read back from the medium and found equal."""
    @property
    def backup_gpt_offset(self) -> Optional[int]:
        """Offset of the backup GPT, if it was moved to the end of the disk."""
    @property
    def boot_entry(self) -> Optional[str]:
        """Firmware variable that boots the target next, if one was set."""
    @property
    def proof(self) -> Proof:
        """What proves that the disk holds the image: `full`, `sample` or `none`."""
    @property
    def delta(self) -> Optional[DeltaReport]:
        """What the disk already held; none after a full flash."""
    @property
    def notes(self) -> list[str]:
        """Remarks for display: what was unusual, though it succeeded."""
    def __bool__(self) -> bool:
        """True if the target was flashed."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> TargetReport:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> TargetReport:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class PhaseTime:
    """Duration of a phase, over all targets."""

    def __new__(cls, **fields: Any) -> PhaseTime: ...
    @property
    def phase(self) -> str:
        """`scan`, `wipe`, `write`, `verify` or `finish`."""
    @property
    def elapsed_ms(self) -> int:
        """Wall-clock duration of the phase in milliseconds."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> PhaseTime:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> PhaseTime:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class FlashReport:
    """The outcome of a flash. All sizes are in bytes, all times in milliseconds."""

    def __new__(cls, **fields: Any) -> FlashReport: ...
    @property
    def image(self) -> ImageInfo:
        """The image, as examined."""
    @property
    def source_bytes(self) -> int:
        """Bytes read from the source."""
    @property
    def skipped_bytes(self) -> int:
        """Bytes of the source that did not have to be read."""
    @property
    def source_sha256(self) -> Optional[str]:
        """SHA-256 of the file as published, if all of it was read."""
    @property
    def is_digest_checked(self) -> bool:
        """True if a digest was expected and matches."""
    @property
    def disk_bytes(self) -> int:
        """Size of the disk image, in bytes."""
    @property
    def data_bytes(self) -> int:
        """Bytes of the disk image that are data; the rest is zeros."""
    @property
    def targets(self) -> list[TargetReport]:
        """The outcome for each target, in the order of the plan."""
    @property
    def phases(self) -> list[PhaseTime]:
        """Duration of each phase."""
    @property
    def is_success(self) -> bool:
        """True if every target was flashed and, unless disabled, verified."""
    def __bool__(self) -> bool:
        """The same as ``is_success``."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> FlashReport:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> FlashReport:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class VerifyReport:
    """The result of comparing a disk with an image. All sizes are in bytes."""

    def __new__(cls, **fields: Any) -> VerifyReport: ...
    @property
    def image(self) -> ImageInfo:
        """The image, as examined."""
    @property
    def disk(self) -> Disk:
        """The disk, as probed."""
    @property
    def is_equal(self) -> bool:
        """True if the disk has every byte of the image."""
    @property
    def first_difference(self) -> Optional[Difference]:
        """The first difference; none if they are equal."""
    @property
    def different_bytes(self) -> int:
        """Number of bytes that differ."""
    @property
    def compared_bytes(self) -> int:
        """Number of bytes compared."""
    @property
    def source_sha256(self) -> Optional[str]:
        """SHA-256 of the file as published; none if not all of it was read."""
    def __bool__(self) -> bool:
        """The same as ``is_equal``."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> VerifyReport:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> VerifyReport:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class EraseReport:
    """The result of erasing a disk. All sizes are in bytes."""

    def __new__(cls, **fields: Any) -> EraseReport: ...
    @property
    def disk(self) -> Disk:
        """The disk, as probed right before the first write."""
    @property
    def way(self) -> EraseWay:
        """How it was erased: `zeros`, `random`, `discard` or `nvme_format`."""
    @property
    def erased_bytes(self) -> int:
        """Bytes erased: all of the disk."""
    @property
    def verified_bytes(self) -> int:
        """Bytes read back from the medium and found right."""
    @property
    def is_attested(self) -> bool:
        """True if the disk itself has reported that it erased all user data, including what cannot
        be read.
        """
    @property
    def elapsed_ms(self) -> int:
        """Duration in milliseconds."""
    @property
    def notes(self) -> list[str]:
        """Warnings."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> EraseReport:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> EraseReport:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class Contents:
    """The result of reading an image completely. All sizes are in bytes."""

    def __new__(cls, **fields: Any) -> Contents: ...
    @property
    def source_bytes(self) -> int:
        """Bytes read from the source."""
    @property
    def source_sha256(self) -> str:
        """SHA-256 of the file as published, if all of it was read."""
    @property
    def disk_bytes(self) -> int:
        """Size of the disk image, in bytes."""
    @property
    def data_bytes(self) -> int:
        """Bytes of the disk image that are data; the rest is zeros."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Contents:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> Contents:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class PackReport:
    """The result of packing an image. All sizes are in bytes."""

    def __new__(cls, **fields: Any) -> PackReport: ...
    @property
    def source(self) -> str:
        """The image that was packed."""
    @property
    def path(self) -> Path:
        """Path of the packed image."""
    @property
    def disk_bytes(self) -> int:
        """Size of the decoded disk image."""
    @property
    def data_bytes(self) -> int:
        """Bytes of the disk image that are data; the rest is zeros."""
    @property
    def frames(self) -> int:
        """Number of parts of the packed image."""
    @property
    def index_bytes(self) -> int:
        """Size of the index."""
    @property
    def file_bytes(self) -> int:
        """Size of the packed image."""
    @property
    def sha256(self) -> str:
        """SHA-256 of the packed image, also written to the ``.sha256`` file beside it."""
    @property
    def index_sha256(self) -> str:
        """SHA-256 of its index, which proves the content of the whole image."""
    @property
    def elapsed_ms(self) -> int:
        """Wall-clock duration of packing in milliseconds."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> PackReport:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> PackReport:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class PackCheck:
    """The result of checking a packed image. All sizes are in bytes."""

    def __new__(cls, **fields: Any) -> PackCheck: ...
    @property
    def disk_bytes(self) -> int:
        """Size of the decoded disk image."""
    @property
    def data_bytes(self) -> int:
        """Bytes of the disk image that are data; the rest is zeros."""
    @property
    def frames(self) -> int:
        """Number of parts of the packed image."""
    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
    @property
    def index_sha256(self) -> str:
        """SHA-256 of its index."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> PackCheck:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> PackCheck:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class CreateReport:
    """The result of creating an image from a disk. All sizes are in bytes."""

    def __new__(cls, **fields: Any) -> CreateReport: ...
    @property
    def disk(self) -> Disk:
        """The disk that was read."""
    @property
    def path(self) -> Path:
        """Path of the image."""
    @property
    def format(self) -> str:
        """Format: `raw`, `zstd` or `qcow2`."""
    @property
    def disk_bytes(self) -> int:
        """Size of the decoded disk image."""
    @property
    def data_bytes(self) -> int:
        """Bytes of the disk image that are data; the rest is zeros."""
    @property
    def file_bytes(self) -> int:
        """Size of the image file."""
    @property
    def sha256(self) -> str:
        """SHA-256 of the image file, also written to the ``.sha256`` file beside it."""
    @property
    def elapsed_ms(self) -> int:
        """Wall-clock duration of the backup in milliseconds."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> CreateReport:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> CreateReport:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class ImageFile:
    """An image file in a directory, described by its name and directory entry; it is not opened."""

    def __new__(cls, **fields: Any) -> ImageFile: ...
    @property
    def name(self) -> str:
        """Name of the file, without its directory."""
    @property
    def path(self) -> Path:
        """Path of the file."""
    @property
    def format(self) -> str:
        """Format suggested by the name, such as `img.zst`."""
    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes."""
    @property
    def sha256(self) -> Optional[str]:
        """Digest from the `.sha256` file beside it, if there is one."""
    @property
    def arch(self) -> Optional[str]:
        """Architecture suggested by the name."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> ImageFile:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> ImageFile:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class OciBlob:
    """The blob to which an `oras://` reference resolves."""

    def __new__(cls, **fields: Any) -> OciBlob: ...
    @property
    def digest(self) -> str:
        """SHA-256 of the blob."""
    @property
    def size_bytes(self) -> Optional[int]:
        """Size in bytes; none if the reference contains the digest of the blob."""
    @property
    def title(self) -> Optional[str]:
        """File name with which it was pushed."""
    @property
    def media_type(self) -> Optional[str]:
        """Media type in the manifest."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> OciBlob:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> OciBlob:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class EntryCheck:
    """The result of checking the `src` of a catalog entry."""

    def __new__(cls, **fields: Any) -> EntryCheck: ...
    @property
    def name(self) -> str:
        """Name of the entry."""
    @property
    def src(self) -> str:
        """The address that was checked."""
    @property
    def size_bytes(self) -> Optional[int]:
        """Size of the file as published, in bytes."""
    @property
    def sha256(self) -> Optional[str]:
        """Digest that the origin declares for the file."""
    @property
    def problems(self) -> list[str]:
        """Problems, one message each."""
    @property
    def is_ok(self) -> bool:
        """True if there are no problems."""
    def __bool__(self) -> bool:
        """The same as ``is_ok``."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> EntryCheck:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> EntryCheck:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class InventoryDisk:
    """A disk in an inventory, with the field names of `lsblk`."""

    def __new__(cls, **fields: Any) -> InventoryDisk: ...
    @property
    def path(self) -> str:
        """Path of the device node."""
    @property
    def size(self) -> str:
        """Size for display: `465.8G`."""
    @property
    def size_bytes(self) -> int:
        """Size of the whole disk in bytes."""
    @property
    def type(self) -> str:
        """Always ``disk``, as ``lsblk`` calls whole disks."""
    @property
    def vendor(self) -> Optional[str]:
        """Name of the vendor."""
    @property
    def model(self) -> Optional[str]:
        """Name of the model."""
    @property
    def serial(self) -> Optional[str]:
        """Serial number of the disk."""
    @property
    def wwn(self) -> Optional[str]:
        """World-wide name (WWN)."""
    @property
    def by_path(self) -> Optional[str]:
        """Where it is attached, as in `/dev/disk/by-path`; none if unknown."""
    @property
    def tran(self) -> Optional[str]:
        """Transport, as ``lsblk`` calls it: ``nvme``, ``sata``, ``usb`` …"""
    @property
    def removable(self) -> bool:
        """True if the medium is removable."""
    @property
    def readonly(self) -> bool:
        """True if the kernel refuses writes."""
    @property
    def mountpoints(self) -> list[str]:
        """Mount points of the disk and its partitions."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> InventoryDisk:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> InventoryDisk:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class Dmi:
    """Identification of the machine by its firmware. Fields that only root may read are none for
    other users.
    """

    def __new__(cls, **fields: Any) -> Dmi: ...
    @property
    def vendor(self) -> Optional[str]:
        """Manufacturer of the machine."""
    @property
    def product(self) -> Optional[str]:
        """Product name of the machine."""
    @property
    def version(self) -> Optional[str]:
        """Version of the product."""
    @property
    def serial(self) -> Optional[str]:
        """Serial number of the machine."""
    @property
    def uuid(self) -> Optional[str]:
        """UUID of the machine."""
    @property
    def sku(self) -> Optional[str]:
        """Order number of the product (SKU)."""
    @property
    def family(self) -> Optional[str]:
        """Product family of the machine."""
    @property
    def chassis(self) -> Optional[str]:
        """Type of the chassis: `desktop`, `server` …"""
    @property
    def chassis_serial(self) -> Optional[str]:
        """Serial number of the chassis."""
    @property
    def asset_tag(self) -> Optional[str]:
        """Asset tag, set by the owner."""
    @property
    def board_vendor(self) -> Optional[str]:
        """Manufacturer of the main board."""
    @property
    def board_product(self) -> Optional[str]:
        """Product name of the main board."""
    @property
    def board_version(self) -> Optional[str]:
        """Version of the main board."""
    @property
    def board_serial(self) -> Optional[str]:
        """Serial number of the main board."""
    @property
    def bios_vendor(self) -> Optional[str]:
        """Manufacturer of the firmware."""
    @property
    def bios_version(self) -> Optional[str]:
        """Version of the firmware."""
    @property
    def bios_date(self) -> Optional[str]:
        """Release date of the firmware, in the manufacturer's notation."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Dmi:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> Dmi:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class TargetCounts:
    """Progress of one target. All counts are in bytes."""

    def __new__(cls, **fields: Any) -> TargetCounts: ...
    @property
    def target(self) -> str:
        """Path of the target."""
    @property
    def written_bytes(self) -> int:
        """Bytes passed to the device."""
    @property
    def durable_bytes(self) -> int:
        """Bytes flushed to the medium, which survive a power cut."""
    @property
    def zeroed_bytes(self) -> int:
        """Zero ranges of the image, zeroed on the target."""
    @property
    def verified_bytes(self) -> int:
        """Bytes read back and found equal."""
    @property
    def verify_total(self) -> Optional[int]:
        """Total bytes to read back; none while unknown."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> TargetCounts:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> TargetCounts:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class PhaseEvent:
    """A phase of the operation begins."""

    def __new__(cls, **fields: Any) -> PhaseEvent: ...
    @property
    def event(self) -> Literal["phase"]:
        """Always ``phase``."""
    @property
    def phase(self) -> Literal["read", "scan", "wipe", "write", "verify", "finish"]:
        """`read`, `scan`, `wipe`, `write`, `verify` or `finish`."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> PhaseEvent:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> PhaseEvent:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class ProgressEvent:
    """Progress, a few times a second and at the end of each phase. All counts are in bytes."""

    def __new__(cls, **fields: Any) -> ProgressEvent: ...
    @property
    def event(self) -> Literal["progress"]:
        """Always ``progress``."""
    @property
    def phase(self) -> Literal["read", "scan", "wipe", "write", "verify", "finish"]:
        """`read`, `scan`, `wipe`, `write`, `verify` or `finish`."""
    @property
    def elapsed_ms(self) -> int:
        """Milliseconds since the operation began."""
    @property
    def source_bytes(self) -> int:
        """Bytes read from the source so far."""
    @property
    def source_total(self) -> Optional[int]:
        """Total bytes of the source; none if unknown."""
    @property
    def decoded_bytes(self) -> int:
        """Bytes decoded so far: the position in the disk image."""
    @property
    def decoded_total(self) -> Optional[int]:
        """Size of the disk image, in bytes; none if unknown."""
    @property
    def targets(self) -> list[TargetCounts]:
        """Progress of each target."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> ProgressEvent:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> ProgressEvent:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class NoticeEvent:
    """A warning that does not stop the operation, such as the retry of a failed request."""

    def __new__(cls, **fields: Any) -> NoticeEvent: ...
    @property
    def event(self) -> Literal["notice"]:
        """Always ``notice``."""
    @property
    def message(self) -> str:
        """The warning: one sentence without a full stop."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> NoticeEvent:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> NoticeEvent:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class TargetFailedEvent:
    """One of several targets failed; the others continue."""

    def __new__(cls, **fields: Any) -> TargetFailedEvent: ...
    @property
    def event(self) -> Literal["target_failed"]:
        """Always ``target_failed``."""
    @property
    def target(self) -> str:
        """Path of the target."""
    @property
    def kind(self) -> str:
        """Kind of the failure, as :attr:`bty.Error.kind`."""
    @property
    def message(self) -> str:
        """Text of the error, with its causes."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> TargetFailedEvent:
        """Creates an object from the result of ``to_dict()``. Raises ``ValueError`` for invalid
        data.
        """
    def replace(self, **changes: Any) -> TargetFailedEvent:
        """Returns a copy with some fields changed. Raises ``TypeError`` for an unknown field."""

@final
class MemoryHost:
    """A machine whose disks are in memory. While it is in use as a context manager, all functions
    of bty, in all threads, see its disks and no others.

    Descriptions of disks stay as they were given, whatever is written. The machine has no UEFI.
    """

    def __new__(cls, *disks: Disk) -> MemoryHost: ...
    def add(self, disk: Disk, *, fail_from: Optional[Size] = None) -> Disk:
        """Adds a disk full of zeros, and returns its description. Writing at or after the offset
        ``fail_from`` fails with an I/O error.

        Raises :class:`bty.RefusedError` if there is a disk at its path, or if it does not consist
        of whole sectors.
        """
    def remove(self, disk: Union[Disk, PathLike]) -> None:
        """Unplugs a disk. Raises :class:`bty.RefusedError` if it is not there."""
    @property
    def disks(self) -> list[Disk]:
        """Descriptions of the disks, sorted by path."""
    def read(self, disk: Union[Disk, PathLike], offset: int = 0, length: Optional[Size] = None) -> bytes:
        """Returns ``length`` bytes of a disk from ``offset``, 1 GiB at most.

        Raises ``ValueError`` for a range that is not inside the disk.
        """
    def write(self, disk: Union[Disk, PathLike], data: bytes, offset: int = 0) -> None:
        """Overwrites bytes of a disk from ``offset``, for example to damage it.

        Raises ``ValueError`` for a range that is not inside the disk.
        """
    def __enter__(self) -> MemoryHost: ...
    def __exit__(self, *failure: object) -> None: ...

@final
class CancelToken:
    """Cancels long operations, also from another thread. Cannot be reset. As a context manager, it
    cancels at the end of the block.
    """

    def __new__(cls) -> CancelToken: ...
    def cancel(self) -> None:
        """Cancels all operations that use this token. They end within a second."""
    @property
    def is_cancelled(self) -> bool:
        """True once :meth:`cancel` has been called."""
    def __enter__(self) -> CancelToken: ...
    def __exit__(self, *failure: object) -> None: ...

@final
class Client:
    """How web servers and registries are accessed: proxies, certificates, timeouts, credentials.

    Times are in seconds. The default proxies are those of the environment (``HTTPS_PROXY`` …).
    ``attempts`` limits the attempts for each request. ``netrc`` and ``auth_file`` are files with
    credentials, as curl and ``podman login`` write them; without them none are sent.
    """

    def __new__(
        cls,
        *,
        http_proxy: Optional[str] = None,
        https_proxy: Optional[str] = None,
        no_proxy: Optional[str] = None,
        ca_files: Optional[Sequence[PathLike]] = None,
        plain_http: bool = False,
        connect_timeout: Optional[float] = None,
        stall_timeout: Optional[float] = None,
        attempts: Optional[int] = None,
        retry_delay: Optional[float] = None,
        spool_dir: Optional[PathLike] = None,
        netrc: Optional[PathLike] = None,
        auth_file: Optional[PathLike] = None,
    ) -> Client: ...

@final
class Image:
    """An open image. It may be read several times, also from several threads at once. A context
    manager that closes it.
    """

    @property
    def info(self) -> ImageInfo:
        """What is known about the image."""
    @property
    def closed(self) -> bool:
        """True once :meth:`close` has been called."""
    def close(self) -> None:
        """Closes its file or connection. Operations that are reading it continue."""
    def read_fully(self, *, progress: Progress = None, cancel: Cancel = None) -> Contents:
        """Reads and decodes the whole image. Raises :class:`bty.FlashIntegrityError` if its digest
        does not match.
        """
    def __enter__(self) -> Image: ...
    def __exit__(self, *failure: object) -> None: ...

@final
class Plan:
    """A plan to write an image to disks. Creating and validating it changes nothing.

    The constructor opens ``image`` and probes ``disks``. The options are those of
    :class:`FlashOptions`; without ``efivars`` it is ``/sys/firmware/efi/efivars``.
    """

    def __new__(
        cls,
        image: Union[ImageLike, ImageInfo],
        disks: Disks,
        *,
        sha256: Optional[str] = None,
        client: Optional[Client] = None,
        cancel: Cancel = None,
        verify: bool = True,
        fix_gpt: bool = False,
        fit: bool = False,
        uefi_boot: bool = False,
        allow_partition: bool = False,
        raw: bool = False,
        overwrite: bool = False,
        efivars: Optional[PathLike] = None,
        stall_ms: int = 120_000,
        delta: DeltaMode = "auto",
        stash: Optional[Size] = None,
        proven_disk: bool = False,
    ) -> Plan: ...
    @property
    def image(self) -> ImageInfo:
        """The image, as examined."""
    @property
    def targets(self) -> list[Disk]:
        """The disks, as probed when the plan was created."""
    @property
    def options(self) -> FlashOptions:
        """The options of the flash."""
    @property
    def notes(self) -> list[str]:
        """Remarks for display that do not prevent the flash."""
    def remedies(self) -> list[str]:
        """Returns words for what helps against the causes of ``notes``: `sha256`, `fix_gpt`."""
    def validate(self) -> list[Refusal]:
        """Returns every reason to refuse the plan; empty if it can be executed. Considers the plan
        only, and reads no disk.
        """
    def check(self) -> None:
        """Raises :class:`bty.RefusedError` with all reasons if the plan is refused."""
    def dry_run_report(self) -> FlashReport:
        """Returns the report of an execution without errors. Reads and writes nothing."""
    def foresee(self) -> FlashReport:
        """Deprecated name of :meth:`dry_run_report`: warns with ``DeprecationWarning``."""
    def execute(
        self, *, image: Optional[Image] = None, progress: Progress = None, cancel: Cancel = None, client: Optional[Client] = None
    ) -> FlashReport:
        """Writes the image to the targets and proves it. Raises the same exceptions as
        :func:`bty.flash`, and :class:`bty.FlashRaceError` if a disk has changed since the plan was
        created.
        """
    def to_dict(self) -> dict[str, Any]:
        """Returns the plan as plain data, from which :meth:`from_dict` creates it again."""
    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        """Creates a plan from the result of ``to_dict()``. The image is opened when the plan is
        executed.
        """

@final
class Entry:
    """An image of a catalog. ``size_bytes`` is the size of the file as published."""

    def __new__(
        cls,
        name: str,
        src: str,
        sha256: Optional[str] = None,
        format: Optional[str] = None,
        size_bytes: Optional[Size] = None,
        description: Optional[str] = None,
        arch: Optional[str] = None,
        sha512: Optional[str] = None,
        raw: bool = False,
        index_sha256: Optional[str] = None,
        packed: Optional[str] = None,
    ) -> Entry: ...
    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Entry:
        """Creates an entry from a table of a catalog. Raises :class:`bty.CatalogError` if it is
        invalid.
        """
    @property
    def name(self) -> str: ...
    @property
    def src(self) -> str: ...
    @property
    def sha256(self) -> Optional[str]: ...
    @property
    def sha512(self) -> Optional[str]: ...
    @property
    def index_sha256(self) -> Optional[str]:
        """SHA-256 of the index of the packed image: the one at ``packed``, or the image itself."""
    @property
    def packed(self) -> Optional[str]:
        """Address of the same disk image as a packed image, which :func:`bty.flash` reads unless
        ``delta`` is ``never``.
        """
    @property
    def format(self) -> Optional[str]: ...
    @property
    def size_bytes(self) -> Optional[int]: ...
    @property
    def description(self) -> Optional[str]: ...
    @property
    def arch(self) -> Optional[str]: ...
    @property
    def raw(self) -> bool:
        """True if the image may be written even if no partition table, file system or boot sector
        is found in it.
        """
    @property
    def ref(self) -> str:
        """The reference that assignments of machines use: 64 hexadecimal digits."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""

@final
class Catalog:
    """A list of images with unique names. Immutable: :meth:`with_entry` returns a new catalog."""

    def __new__(cls, entries: Optional[Sequence[Entry]] = None) -> Catalog: ...
    @property
    def version(self) -> int: ...
    @property
    def entries(self) -> tuple[Entry, ...]: ...
    def by_name(self, name: str) -> Optional[Entry]:
        """Returns the image whose name is exactly ``name``, or none."""
    def find(self, text: str) -> Entry:
        """Returns the image with this name or reference. Raises :class:`bty.UsageError` with
        similar names.
        """
    def with_entry(self, entry: Entry) -> Catalog:
        """Returns a copy of the catalog with another entry at the end. Raises
        :class:`bty.CatalogError` if the name exists already.
        """
    def to_toml(self) -> str:
        """Returns the catalog as TOML."""
    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, with the names and units of the command's ``--json``."""
    def check(self, *, client: Optional[Client] = None, cancel: Cancel = None) -> list[EntryCheck]:
        """Checks every image without downloading it."""
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Entry: ...
    def __iter__(self) -> Iterator[Entry]: ...
    def __contains__(self, name: str) -> bool: ...

@final
class Reader:
    def __new__(cls, reference: PathLike, *, client: Optional[Client] = None) -> Reader: ...
    @property
    def len_bytes(self) -> Optional[int]: ...
    def read(self, size: int) -> bytes: ...

def verify(
    image: ImageLike,
    disk: DiskLike,
    *,
    fix_gpt: bool = False,
    sha256: Optional[str] = None,
    progress: Progress = None,
    cancel: Cancel = None,
    client: Optional[Client] = None,
) -> VerifyReport:
    """Compares a disk with an image, byte by byte, as read from the medium. Writes nothing. A
    difference does not raise: see ``is_equal``.
    """

def disks_list() -> list[Disk]: ...
def disks_probe(path: PathLike) -> Disk: ...
def disks_select(selector: str) -> Disk: ...
def disks_create_file(path: PathLike, size_bytes: Size) -> Disk: ...
def disks_erase(
    disk: DiskLike, way: EraseWay = "zeros", *, progress: Progress = None, cancel: Cancel = None
) -> EraseReport: ...
def disks_boot_next(disk: DiskLike, label: str, efivars: PathLike) -> tuple[Optional[int], str]: ...
def event_from_dict(data: dict[str, Any]) -> Event: ...
def inventory() -> dict[str, Any]: ...
def dmi() -> Dmi: ...
def size_parse(text: str) -> int: ...
def size_human(bytes: Size) -> str: ...
def images_open(
    reference: Union[PathLike, Entry, ImageFile],
    *,
    sha256: Optional[str] = None,
    ignore_sidecar: bool = False,
    client: Optional[Client] = None,
    cancel: Cancel = None,
    sha512: Optional[str] = None,
    image_sha256: Optional[str] = None,
    member: Optional[str] = None,
    ignore_trailing: bool = False,
    compute_sha256: bool = False,
) -> Image: ...
def images_pack(
    image: ImageLike,
    path: PathLike,
    *,
    level: int,
    frame_bytes: Size,
    sha256: Optional[str] = None,
    progress: Progress = None,
    cancel: Cancel = None,
    client: Optional[Client] = None,
) -> PackReport: ...
def images_check_packed(
    image: ImageLike, *, sha256: Optional[str] = None, cancel: Cancel = None, client: Optional[Client] = None
) -> PackCheck: ...
def images_create(
    disk: DiskLike, path: PathLike, *, shrink: bool = False, progress: Progress = None, cancel: Cancel = None
) -> CreateReport: ...
def images_list(dir: PathLike) -> list[ImageFile]: ...
def images_sidecar(path: PathLike) -> Optional[str]: ...
def images_architecture(name: str) -> Optional[str]: ...
def images_format(name: str) -> Optional[str]: ...
def images_is_tarball(name: str) -> bool: ...
def oci_resolve(reference: str, *, client: Optional[Client] = None, cancel: Cancel = None) -> OciBlob: ...
def oci_parse(reference: str) -> tuple[str, str, Optional[str], Optional[str]]: ...
def catalog_parse(text: bytes) -> Catalog: ...
def catalog_load(reference: PathLike, *, client: Optional[Client] = None, cancel: Cancel = None) -> Catalog: ...
def read_small(reference: PathLike, limit_bytes: Size, *, client: Optional[Client] = None, cancel: Cancel = None) -> bytes: ...
def canonical_src(src: str) -> str: ...
def image_ref(src: str) -> str: ...
def find_in_checksums(text: str, name: str) -> Optional[str]: ...
def script_check(name: str, text: str, root: Optional[PathLike], functions: dict[str, list[int]]) -> list[dict[str, Any]]: ...
def script_run(
    name: str,
    text: str,
    root: Optional[PathLike],
    args: list[str],
    world: Optional[str],
    dry: bool,
    function: Optional[str],
    values: list[Any],
    functions: dict[str, tuple[list[int], Callable[..., Any]]],
    capabilities: list[str],
    timeout: Optional[float],
    print: Optional[Callable[[str], object]],
    progress: Progress,
    cancel: Cancel,
    client: Optional[Client],
) -> dict[str, Any]: ...
def script_decide(
    name: str, text: str, function: str, machine: Optional[dict[str, Any]], args: list[Any], catalog: str
) -> dict[str, Any]: ...
