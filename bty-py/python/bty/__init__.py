"""Writes operating-system images onto disks, and proves it.

>>> import bty, tempfile, pathlib
>>> dir = pathlib.Path(tempfile.mkdtemp())
>>> _ = (dir / "system.img").write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(523776))
>>> disk = bty.disks.create_file(dir / "disk", 1 << 20)
>>> report = bty.flash(dir / "system.img", disk)
>>> report.is_success, report.targets[0].verified_bytes
(True, 524288)

All sizes and offsets are in bytes, as ``int``. Paths may be ``str`` or path-like objects. Every
write is a :class:`Plan` that is validated, executed, and proven by reading the disk back. Where a
size is wanted, text works too: ``"8 GiB"``.

===================  =================================================================
:mod:`bty.disks`     lists and selects disks
:mod:`bty.images`    opens images: files, web servers, registries; packs and creates them
:mod:`bty.catalog`   lists of images
:mod:`bty.oras`      artifacts in OCI registries
:mod:`bty.flash`     plan, write, prove; also a function: ``bty.flash(image, disk)``
:mod:`bty.events`    progress
:mod:`bty.aio`       the same for ``async`` programs
:mod:`bty.script`    checks and runs scripts, also on simulated machines
:mod:`bty.client`    client for the HTTP API of a bty-web server
:mod:`bty.inventory` hardware of this machine
:mod:`bty.size`      parses and formats sizes
:mod:`bty.errors`    exceptions
:mod:`bty.types`     types of arguments
:mod:`bty.testing`   machines in memory, for tests
===================  =================================================================
"""

from __future__ import annotations

import sys as _sys

from . import errors
from ._bty import (
    CancelToken,
    Catalog,
    Client,
    Content,
    Contents,
    CreateReport,
    DeltaReport,
    Difference,
    Disk,
    Dmi,
    Entry,
    EntryCheck,
    EraseReport,
    Failure,
    FlashOptions,
    FlashReport,
    Image,
    ImageFile,
    ImageInfo,
    InventoryDisk,
    NoticeEvent,
    OciBlob,
    PackCheck,
    PackReport,
    Partition,
    PhaseEvent,
    PhaseTime,
    Plan,
    ProgressEvent,
    Refusal,
    TargetCounts,
    TargetFailedEvent,
    TargetReport,
    Use,
    VerifyReport,
    __version__,
    verify,
)
from .errors import (
    CatalogError,
    Error,
    FlashCancelled,
    FlashError,
    FlashIntegrityError,
    FlashRaceError,
    FormatError,
    HostError,
    OrasError,
    RefusedError,
    ScriptError,
    ServerError,
    SourceError,
    TargetError,
    UsageError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import aio, catalog, client, disks, events, images, inventory, oras, script, size, testing, types
    from ._flash import flash
    from .aio import aflash, averify
    from .events import Event
    from .images import pack
    from .work import Flashing, flashing

__all__ = [
    "CancelToken",
    "Catalog",
    "CatalogError",
    "Client",
    "Content",
    "Contents",
    "CreateReport",
    "DeltaReport",
    "Difference",
    "Disk",
    "Dmi",
    "Entry",
    "EntryCheck",
    "EraseReport",
    "Error",
    "Event",
    "Failure",
    "FlashCancelled",
    "FlashError",
    "FlashIntegrityError",
    "FlashOptions",
    "FlashRaceError",
    "FlashReport",
    "Flashing",
    "FormatError",
    "HostError",
    "Image",
    "ImageFile",
    "ImageInfo",
    "InventoryDisk",
    "NoticeEvent",
    "OciBlob",
    "OrasError",
    "PackCheck",
    "PackReport",
    "Partition",
    "PhaseEvent",
    "PhaseTime",
    "Plan",
    "ProgressEvent",
    "RefusedError",
    "Refusal",
    "ScriptError",
    "ServerError",
    "SourceError",
    "TargetCounts",
    "TargetError",
    "TargetFailedEvent",
    "TargetReport",
    "UsageError",
    "Use",
    "VerifyReport",
    "__version__",
    "aflash",
    "aio",
    "averify",
    "catalog",
    "client",
    "disks",
    "errors",
    "events",
    "flash",
    "flashing",
    "images",
    "inventory",
    "oras",
    "pack",
    "script",
    "size",
    "testing",
    "types",
    "verify",
]

#: Names that are imported on first use, and their modules: a program that only lists disks needs
#: neither threads nor sockets.
_LAZY = {"Event": "events", "aflash": "aio", "averify": "aio", "Flashing": "work", "flashing": "work", "pack": "images"}
_MODULES = ("aio", "catalog", "client", "disks", "events", "flash", "images", "inventory", "oras", "script", "size", "testing", "types")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        __import__(f"{__name__}.{name}")
        return _sys.modules[f"{__name__}.{name}"]
    if name in _LAZY:
        __import__(f"{__name__}.{_LAZY[name]}")
        found = getattr(_sys.modules[f"{__name__}.{_LAZY[name]}"], name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
