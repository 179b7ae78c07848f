"""The native part."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, Optional, Union, final

PathLike = Union[str, os.PathLike[str]]
ImageLike = Union[Image, PathLike, Entry, ImageFile]
DiskLike = Union[Disk, PathLike]
Disks = Union[DiskLike, Sequence[DiskLike]]
Progress = Optional[Callable[[Event], object]]
Cancel = Union[CancelToken, Callable[[], bool], None]

__version__: str
CATALOG_DEFAULT_URL: str
CATALOG_MAX_BYTES: int

@final
class Content:
    """A signature that was recognised: of a file system, RAID or LVM."""

    @property
    def kind(self) -> str:
        """`ext4`, `vfat`, `luks` …"""
    @property
    def label(self) -> Optional[str]:
        """Its label."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Content:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> Content:
        """A copy with some fields changed."""

@final
class Partition:
    """A partition, from the table on the disk."""

    @property
    def path(self) -> Optional[Path]:
        """Device node, when the kernel has one."""
    @property
    def number(self) -> int:
        """Number in the table, from 1."""
    @property
    def start_bytes(self) -> int:
        """Offset of its first byte."""
    @property
    def size_bytes(self) -> int:
        """Size in bytes."""
    @property
    def type_id(self) -> Optional[str]:
        """Type: a GUID, or two hexadecimal digits."""
    @property
    def name(self) -> Optional[str]:
        """Name in the table."""
    @property
    def content(self) -> Optional[Content]:
        """What is in it."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Partition:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> Partition:
        """A copy with some fields changed."""

@final
class Use:
    """Somebody who uses a disk. Its text names the device, the user and the way out."""

    @property
    def kind(self) -> str:
        """`mounted`, `swap`, `held`, `loop`, `busy` or `system`."""
    @property
    def device(self) -> Path:
        """The disk or partition."""
    @property
    def message(self) -> str:
        """The sentence."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Use:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> Use:
        """A copy with some fields changed."""

@final
class Disk:
    """A disk as found. Sizes and offsets are bytes."""

    @property
    def path(self) -> Path:
        """Device node or file."""
    @property
    def kind(self) -> str:
        """`disk`, `loop`, `partition`, `file` or `other`."""
    @property
    def size_bytes(self) -> int:
        """Size in bytes."""
    @property
    def logical_sector_bytes(self) -> int:
        """The unit of partition tables and writes."""
    @property
    def physical_sector_bytes(self) -> int:
        """Physical sector size."""
    @property
    def vendor(self) -> Optional[str]:
        """Vendor."""
    @property
    def model(self) -> Optional[str]:
        """Model."""
    @property
    def serial(self) -> Optional[str]:
        """Serial number."""
    @property
    def wwn(self) -> Optional[str]:
        """World-wide name."""
    @property
    def transport(self) -> Optional[str]:
        """`nvme`, `sata`, `usb`, `loop`, `file` …"""
    @property
    def is_removable(self) -> bool:
        """The medium can be taken out."""
    @property
    def is_read_only(self) -> bool:
        """Writes are refused by the kernel."""
    @property
    def is_rotational(self) -> Optional[bool]:
        """A spinning disk."""
    @property
    def diskseq(self) -> Optional[int]:
        """Changes when another disk takes the same name."""
    @property
    def table(self) -> Optional[str]:
        """`gpt` or `mbr`."""
    @property
    def content(self) -> Optional[Content]:
        """Signature on the whole device."""
    @property
    def partitions(self) -> list[Partition]:
        """Partitions, in the order of their start."""
    @property
    def uses(self) -> list[Use]:
        """Who uses it: any entry forbids writing."""
    @property
    def file_holds(self) -> Optional[str]:
        """What a regular file holds that bty has not made a disk of; none for devices."""
    def summary(self) -> str:
        """One line for people: path, size, model, serial."""
    def contents(self) -> str:
        """One line for people: what is on it now, and would be lost."""
    def is_same_disk(self, other: Disk) -> bool:
        """True when ``other``, probed later, is the same piece of hardware."""
    @staticmethod
    def planned_file(path: PathLike, size_bytes: int) -> Disk:
        """A regular file that is to become a disk: for plans. Looks at nothing."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Disk:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> Disk:
        """A copy with some fields changed."""

@final
class ImageInfo:
    """What is known of an image. Sizes and offsets are bytes."""

    @property
    def source(self) -> str:
        """The reference it was opened from."""
    @property
    def name(self) -> str:
        """A short name for people."""
    @property
    def path(self) -> Optional[Path]:
        """The canonical path of a local image."""
    @property
    def format(self) -> str:
        """`raw`, `gzip`, `xz`, `bzip2`, `zstd`, `lz4` or `qcow2`, found from its bytes."""
    @property
    def detail(self) -> Optional[str]:
        """More about the format."""
    @property
    def source_bytes(self) -> Optional[int]:
        """Size as it comes over the wire."""
    @property
    def disk_bytes(self) -> Optional[int]:
        """Size of the disk image inside, when it can be known."""
    @property
    def expected_sha256(self) -> Optional[str]:
        """The SHA-256 its wire bytes must have."""
    @property
    def expected_sha512(self) -> Optional[str]:
        """The SHA-512 its wire bytes must have."""
    @property
    def expected_image_sha256(self) -> Optional[str]:
        """The SHA-256 that the disk image inside must have."""
    @property
    def sector_bytes(self) -> Optional[int]:
        """Logical sector size its partition table was made for."""
    @property
    def table(self) -> Optional[str]:
        """`gpt` or `mbr`."""
    @property
    def partitions(self) -> list[Partition]:
        """Its partitions."""
    @property
    def content(self) -> Optional[Content]:
        """File system, RAID or LVM signature on the whole image."""
    @property
    def is_recognized(self) -> bool:
        """True when a partition table, a file system or a boot sector was found in it."""
    def summary(self) -> str:
        """One line for people: format, sizes, partition table."""
    @property
    def least_bytes(self) -> Optional[int]:
        """How large a disk must be at least, in bytes, as far as is known."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> ImageInfo:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> ImageInfo:
        """A copy with some fields changed."""

@final
class FlashOptions:
    """What to do besides writing."""

    @property
    def verify(self) -> bool:
        """Read the targets back and compare."""
    @property
    def fix_gpt(self) -> bool:
        """Move the backup GPT to the end of the disk."""
    @property
    def fit(self) -> bool:
        """On a disk that is smaller than the image, leave out what lies behind the last partition, when all of it is zero."""
    @property
    def uefi_boot(self) -> bool:
        """Let the firmware boot the target next, once."""
    @property
    def allow_partition(self) -> bool:
        """Write to a partition instead of a whole disk."""
    @property
    def raw(self) -> bool:
        """Write an image in which no partition table, file system or boot sector was found."""
    @property
    def overwrite(self) -> bool:
        """Write to a regular file that holds an image or an archive, and that bty did not make a disk of."""
    @property
    def efivars(self) -> Path:
        """Where the firmware's variables are mounted."""
    @property
    def stall_ms(self) -> int:
        """A target that finishes no request for so many milliseconds is given up."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> FlashOptions:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> FlashOptions:
        """A copy with some fields changed."""

@final
class Refusal:
    """A reason not to write. Its text names the target, the reason and the way out."""

    @property
    def target(self) -> Optional[str]:
        """The target concerned; none when it is the plan as a whole."""
    @property
    def reason(self) -> str:
        """A word to match on: `in_use`, `system`, `too_small`, `read_only`, `partition` …"""
    @property
    def message(self) -> str:
        """One sentence without a full stop."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Refusal:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> Refusal:
        """A copy with some fields changed."""

@final
class Difference:
    """Where a disk differs first, and what is there instead."""

    @property
    def offset(self) -> int:
        """Offset of the first differing byte."""
    @property
    def found(self) -> str:
        """`zeros`, `elsewhere`, `old` or `other`."""
    @property
    def elsewhere_offset(self) -> Optional[int]:
        """Where in the image that belongs, when it is `elsewhere`."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Difference:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> Difference:
        """A copy with some fields changed."""

@final
class Failure:
    """An error as data."""

    @property
    def kind(self) -> str:
        """Its kind: `target`, `integrity`, `cancelled` …"""
    @property
    def message(self) -> str:
        """Its text."""
    @property
    def hint(self) -> Optional[str]:
        """The next step."""
    @property
    def offset(self) -> Optional[int]:
        """The offset on the target concerned."""
    @property
    def difference(self) -> Optional[Difference]:
        """The first difference, when it read back other than written."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Failure:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> Failure:
        """A copy with some fields changed."""

@final
class TargetReport:
    """The outcome of one target. All sizes are bytes."""

    @property
    def disk(self) -> Disk:
        """The disk, as probed right before the first write."""
    @property
    def failure(self) -> Optional[Failure]:
        """Why it failed; none on success."""
    @property
    def written_bytes(self) -> int:
        """Data written."""
    @property
    def zeroed_bytes(self) -> int:
        """Image ranges made zero."""
    @property
    def wiped_bytes(self) -> int:
        """Ranges beyond the image made zero."""
    @property
    def verified_bytes(self) -> int:
        """Read back from the medium and found equal."""
    @property
    def backup_gpt_offset(self) -> Optional[int]:
        """Offset of the backup GPT that was written at the end."""
    @property
    def boot_entry(self) -> Optional[str]:
        """The firmware variable that boots it next."""
    @property
    def notes(self) -> list[str]:
        """What a person should know."""
    def __bool__(self) -> bool:
        """True when it was flashed."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> TargetReport:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> TargetReport:
        """A copy with some fields changed."""

@final
class PhaseTime:
    """How long a phase took, over all targets."""

    @property
    def phase(self) -> str:
        """`wipe`, `write`, `verify` or `finish`."""
    @property
    def elapsed_ms(self) -> int:
        """Milliseconds."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> PhaseTime:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> PhaseTime:
        """A copy with some fields changed."""

@final
class FlashReport:
    """What happened. All sizes are bytes, all times milliseconds."""

    @property
    def image(self) -> ImageInfo:
        """The image."""
    @property
    def source_bytes(self) -> int:
        """Bytes that came over the wire."""
    @property
    def skipped_bytes(self) -> int:
        """Bytes of the source that needed no reading."""
    @property
    def source_sha256(self) -> Optional[str]:
        """SHA-256 of the wire bytes."""
    @property
    def is_digest_checked(self) -> bool:
        """True when that digest was promised by somebody, and is equal."""
    @property
    def disk_bytes(self) -> int:
        """Size of the disk image."""
    @property
    def data_bytes(self) -> int:
        """How much of it is data; the rest is zeros."""
    @property
    def targets(self) -> list[TargetReport]:
        """The outcome of each target, in the order of the plan."""
    @property
    def phases(self) -> list[PhaseTime]:
        """How long each phase took."""
    @property
    def is_success(self) -> bool:
        """True when every target was flashed and, unless switched off, verified."""
    def __bool__(self) -> bool:
        """The same as ``is_success``."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> FlashReport:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> FlashReport:
        """A copy with some fields changed."""

@final
class VerifyReport:
    """What a disk and an image have in common."""

    @property
    def image(self) -> ImageInfo:
        """The image."""
    @property
    def disk(self) -> Disk:
        """The disk."""
    @property
    def is_equal(self) -> bool:
        """True when every byte of the image is on the disk."""
    @property
    def first_difference(self) -> Optional[Difference]:
        """The first difference."""
    @property
    def different_bytes(self) -> int:
        """How many bytes differ."""
    @property
    def compared_bytes(self) -> int:
        """How many bytes were compared."""
    @property
    def source_sha256(self) -> Optional[str]:
        """SHA-256 of the wire bytes, when all were read."""
    def __bool__(self) -> bool:
        """The same as ``is_equal``."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> VerifyReport:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> VerifyReport:
        """A copy with some fields changed."""

@final
class Contents:
    """All of an image, read once."""

    @property
    def source_bytes(self) -> int:
        """Bytes that came over the wire."""
    @property
    def source_sha256(self) -> str:
        """SHA-256 of the wire bytes."""
    @property
    def disk_bytes(self) -> int:
        """Size of the disk image."""
    @property
    def data_bytes(self) -> int:
        """How much of it is data."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Contents:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> Contents:
        """A copy with some fields changed."""

@final
class ImageFile:
    """An image file in a directory, as its name and directory entry describe it."""

    @property
    def name(self) -> str:
        """File name."""
    @property
    def path(self) -> Path:
        """Directory and file name."""
    @property
    def format(self) -> str:
        """Format id that the name suggests, such as `img.zst`."""
    @property
    def size_bytes(self) -> int:
        """Size in bytes."""
    @property
    def sha256(self) -> Optional[str]:
        """The digest in its `.sha256` file."""
    @property
    def arch(self) -> Optional[str]:
        """Architecture that the name suggests."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> ImageFile:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> ImageFile:
        """A copy with some fields changed."""

@final
class OciBlob:
    """The blob that an `oras://` reference stands for."""

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes."""
    @property
    def size_bytes(self) -> Optional[int]:
        """Its length in bytes; unknown when the reference named the blob itself."""
    @property
    def title(self) -> Optional[str]:
        """The file name it was pushed under."""
    @property
    def media_type(self) -> Optional[str]:
        """What the manifest says it is."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> OciBlob:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> OciBlob:
        """A copy with some fields changed."""

@final
class EntryCheck:
    """What was found at the `src` of a catalog's entry."""

    @property
    def name(self) -> str:
        """Name of the entry."""
    @property
    def src(self) -> str:
        """Where was looked."""
    @property
    def size_bytes(self) -> Optional[int]:
        """Size over the wire in bytes."""
    @property
    def sha256(self) -> Optional[str]:
        """Digest that the origin declares."""
    @property
    def problems(self) -> list[str]:
        """What is wrong, one sentence each."""
    @property
    def is_ok(self) -> bool:
        """True when nothing is wrong."""
    def __bool__(self) -> bool:
        """The same as ``is_ok``."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> EntryCheck:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> EntryCheck:
        """A copy with some fields changed."""

@final
class InventoryDisk:
    """A disk in an inventory, with the names of `lsblk`."""

    @property
    def path(self) -> str:
        """Device node."""
    @property
    def size(self) -> str:
        """Size for people: `465.8G`."""
    @property
    def size_bytes(self) -> int:
        """Size in bytes."""
    @property
    def type(self) -> str:
        """Always `disk`."""
    @property
    def vendor(self) -> Optional[str]:
        """Vendor."""
    @property
    def model(self) -> Optional[str]:
        """Model."""
    @property
    def serial(self) -> Optional[str]:
        """Serial number."""
    @property
    def tran(self) -> Optional[str]:
        """Transport."""
    @property
    def removable(self) -> bool:
        """The medium can be taken out."""
    @property
    def readonly(self) -> bool:
        """Writes are refused by the kernel."""
    @property
    def mountpoints(self) -> list[str]:
        """Where it and its partitions are mounted."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> InventoryDisk:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> InventoryDisk:
        """A copy with some fields changed."""

@final
class Dmi:
    """How the firmware names the machine. What only root may read is absent for others."""

    @property
    def vendor(self) -> Optional[str]:
        """Who made the machine."""
    @property
    def product(self) -> Optional[str]:
        """What it is called."""
    @property
    def version(self) -> Optional[str]:
        """The version of that."""
    @property
    def serial(self) -> Optional[str]:
        """Its serial number."""
    @property
    def uuid(self) -> Optional[str]:
        """Its UUID."""
    @property
    def sku(self) -> Optional[str]:
        """The number it is ordered by."""
    @property
    def family(self) -> Optional[str]:
        """The family of products it belongs to."""
    @property
    def chassis(self) -> Optional[str]:
        """The kind of its case: `desktop`, `server` …"""
    @property
    def chassis_serial(self) -> Optional[str]:
        """The serial number of the case."""
    @property
    def asset_tag(self) -> Optional[str]:
        """The number its owner has given it."""
    @property
    def board_vendor(self) -> Optional[str]:
        """Who made the main board."""
    @property
    def board_product(self) -> Optional[str]:
        """What the main board is called."""
    @property
    def board_version(self) -> Optional[str]:
        """The version of the main board."""
    @property
    def board_serial(self) -> Optional[str]:
        """The serial number of the main board."""
    @property
    def bios_vendor(self) -> Optional[str]:
        """Who made the firmware."""
    @property
    def bios_version(self) -> Optional[str]:
        """The version of the firmware."""
    @property
    def bios_date(self) -> Optional[str]:
        """The date of the firmware, as its maker wrote it."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Dmi:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> Dmi:
        """A copy with some fields changed."""

@final
class TargetCounts:
    """How far one target is. All counts are bytes."""

    @property
    def target(self) -> str:
        """Which target."""
    @property
    def written_bytes(self) -> int:
        """Data handed to the device."""
    @property
    def durable_bytes(self) -> int:
        """Data that survives a power cut."""
    @property
    def zeroed_bytes(self) -> int:
        """Ranges made zero."""
    @property
    def verified_bytes(self) -> int:
        """Read back and found equal."""
    @property
    def verify_total(self) -> Optional[int]:
        """How much there is to read back, once it is known."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> TargetCounts:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> TargetCounts:
        """A copy with some fields changed."""

@final
class Event:
    """Something that happened in long work. What an event of its kind has not is `None`. All counts are bytes."""

    @property
    def event(self) -> str:
        """`phase`, `progress`, `notice` or `target_failed`."""
    @property
    def phase(self) -> Optional[str]:
        """`read`, `wipe`, `write`, `verify` or `finish`."""
    @property
    def elapsed_ms(self) -> Optional[int]:
        """Milliseconds since the work began."""
    @property
    def source_bytes(self) -> Optional[int]:
        """Read from the source, as it came over the wire."""
    @property
    def source_total(self) -> Optional[int]:
        """How many the source will give, when known."""
    @property
    def decoded_bytes(self) -> Optional[int]:
        """Decoded so far: the position in the disk image."""
    @property
    def decoded_total(self) -> Optional[int]:
        """Size of the disk image, when known."""
    @property
    def targets(self) -> list[TargetCounts]:
        """Each target's side."""
    @property
    def message(self) -> Optional[str]:
        """The sentence of a notice or a failure."""
    @property
    def target(self) -> Optional[str]:
        """The target that failed."""
    @property
    def kind(self) -> Optional[str]:
        """The kind of its failure."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the names and units of the command's ``--json``."""
    @staticmethod
    def from_dict(data: dict[str, Any]) -> Event:
        """Makes it from what ``to_dict()`` gave. Raises ``ValueError``."""
    def replace(self, **changes: Any) -> Event:
        """A copy with some fields changed."""

@final
class CancelToken:
    """Cancels long work from another thread. Cannot be undone. As a context manager it cancels at the end of the block."""

    def __init__(self) -> None: ...
    def cancel(self) -> None:
        """Cancels. The work ends within a second."""
    @property
    def is_cancelled(self) -> bool:
        """True once cancelled."""
    def __enter__(self) -> CancelToken: ...
    def __exit__(self, *failure: object) -> None: ...

@final
class Client:
    """The door to all origins. Times are seconds; proxies are those of the environment unless given. Retries ``attempts`` times.

    ``netrc`` and ``auth_file`` name files of users and passwords, as curl and ``podman login`` have them; none is read otherwise.
    """

    def __init__(
        self,
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
    ) -> None: ...

@final
class Image:
    """An opened image. Reads any number of times, also from several threads at once. A context manager that closes it."""

    @property
    def info(self) -> ImageInfo:
        """What is known of it."""
    @property
    def closed(self) -> bool:
        """True once closed."""
    def close(self) -> None:
        """Lets go of its file or connection. Work that reads it goes on."""
    def read_fully(self, *, progress: Progress = None, cancel: Cancel = None) -> Contents:
        """Reads and decodes all of it, and checks its digest. Raises :class:`bty.FlashIntegrityError`."""
    def __enter__(self) -> Image: ...
    def __exit__(self, *failure: object) -> None: ...

@final
class Plan:
    """What will be written where. Making and validating it touches nothing."""

    def __init__(
        self,
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
        efivars: PathLike = "/sys/firmware/efi/efivars",
        stall_ms: int = 120_000,
    ) -> None: ...
    @property
    def image(self) -> ImageInfo:
        """The image, as examined."""
    @property
    def targets(self) -> list[Disk]:
        """The disks, as probed when the plan was made."""
    @property
    def options(self) -> FlashOptions:
        """The options."""
    @property
    def notes(self) -> list[str]:
        """What a person should know that forbids nothing."""
    def validate(self) -> list[Refusal]:
        """Every reason against the plan; empty when it may be carried out. Looks at the plan and at nothing else."""
    def check(self) -> None:
        """Raises :class:`bty.RefusedError` with all reasons unless it may be carried out."""
    def foresee(self) -> FlashReport:
        """The report of an execution in which all goes well. Nothing is read or written."""
    def execute(
        self, *, image: Optional[Image] = None, progress: Progress = None, cancel: Cancel = None, client: Optional[Client] = None
    ) -> FlashReport:
        """Carries the plan out. Raises as :func:`bty.flash`, and :class:`bty.FlashRaceError` when a disk is no longer as planned."""
    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        """Makes it from what ``to_dict()`` gave; the image is opened when it is carried out."""

@final
class Entry:
    """One image of a catalog. ``size_bytes`` is the size over the wire."""

    def __init__(
        self,
        name: str,
        src: str,
        sha256: Optional[str] = None,
        format: Optional[str] = None,
        size_bytes: Optional[int] = None,
        description: Optional[str] = None,
        arch: Optional[str] = None,
        sha512: Optional[str] = None,
        raw: bool = False,
    ) -> None: ...
    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Entry:
        """Makes it from a table of a catalog. Raises :class:`bty.CatalogError`."""
    @property
    def name(self) -> str: ...
    @property
    def src(self) -> str: ...
    @property
    def sha256(self) -> Optional[str]: ...
    @property
    def sha512(self) -> Optional[str]: ...
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
        """True when it is written although nothing in it may say that it is a disk."""
    @property
    def ref(self) -> str:
        """What machines are bound by."""
    def to_dict(self) -> dict[str, Any]: ...

@final
class Catalog:
    """A list of images, each with a name of its own. Immutable: ``with_entry`` gives a longer one."""

    def __init__(self, entries: Sequence[Entry] = ...) -> None: ...
    @property
    def version(self) -> int: ...
    @property
    def entries(self) -> tuple[Entry, ...]: ...
    def by_name(self, name: str) -> Optional[Entry]:
        """The image called exactly ``name``."""
    def find(self, text: str) -> Entry:
        """The image that ``text`` means: a name, or a reference. Raises :class:`bty.UsageError` with names that are close."""
    def with_entry(self, entry: Entry) -> Catalog:
        """The same catalog with another entry at the end. Raises :class:`bty.CatalogError` when it is there already."""
    def to_toml(self) -> str:
        """The file."""
    def to_dict(self) -> dict[str, Any]: ...
    def check(self, *, client: Optional[Client] = None, cancel: Cancel = None) -> list[EntryCheck]:
        """Looks at every image without fetching it."""
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Entry: ...
    def __iter__(self) -> Iterator[Entry]: ...
    def __contains__(self, name: str) -> bool: ...

@final
class Reader:
    def __init__(self, reference: PathLike, *, client: Optional[Client] = None) -> None: ...
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
    """Compares a disk with an image, byte by byte, from the medium. Writes nothing. A difference is no error."""

def disks_list() -> list[Disk]: ...
def disks_probe(path: PathLike) -> Disk: ...
def disks_select(selector: str) -> Disk: ...
def disks_create_file(path: PathLike, size_bytes: int) -> Disk: ...
def disks_boot_next(disk: DiskLike, label: str, efivars: PathLike) -> tuple[Optional[int], str]: ...
def inventory() -> dict[str, Any]: ...
def dmi() -> Dmi: ...
def size_parse(text: str) -> int: ...
def size_human(bytes: int) -> str: ...
def images_open(
    reference: Union[PathLike, Entry, ImageFile],
    *,
    sha256: Optional[str] = None,
    ignore_sidecar: bool = False,
    client: Optional[Client] = None,
    cancel: Cancel = None,
    sha512: Optional[str] = None,
    image_sha256: Optional[str] = None,
) -> Image: ...
def images_list(dir: PathLike) -> list[ImageFile]: ...
def images_sidecar(path: PathLike) -> Optional[str]: ...
def images_architecture(name: str) -> Optional[str]: ...
def images_format(name: str) -> Optional[str]: ...
def images_is_tarball(name: str) -> bool: ...
def oci_resolve(reference: str, *, client: Optional[Client] = None, cancel: Cancel = None) -> OciBlob: ...
def oci_parse(reference: str) -> tuple[str, str, Optional[str], Optional[str]]: ...
def boot_flashed_next() -> None: ...
def catalog_parse(text: bytes) -> Catalog: ...
def catalog_load(reference: PathLike, *, client: Optional[Client] = None, cancel: Cancel = None) -> Catalog: ...
def read_small(reference: PathLike, limit_bytes: int, *, client: Optional[Client] = None, cancel: Cancel = None) -> bytes: ...
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
