"""Types of arguments, for annotations.

>>> import bty
>>> def show(event: bty.Event) -> None: ...
>>> def write(image: bty.types.ImageLike, disk: bty.types.DiskLike) -> bty.FlashReport: ...
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Callable, Literal, Optional, Union

from ._bty import CancelToken, Disk, Entry, Image, ImageFile
from .events import Event

__all__ = ["Cancel", "DeltaMode", "DiskLike", "Disks", "EraseWay", "ImageLike", "PathLike", "Progress", "Proof", "Size"]

#: A path.
PathLike = Union[str, "os.PathLike[str]"]
#: Bytes, or text with a unit, such as ``"8 GiB"``.
Size = Union[int, str]
#: An image: opened, or a path, an address, an entry of a catalog, or a file of a directory.
ImageLike = Union[Image, PathLike, Entry, ImageFile]
#: A disk, a path, or a selector.
DiskLike = Union[Disk, PathLike]
#: One disk, or several.
Disks = Union[DiskLike, Sequence[DiskLike]]
#: Whether a flash keeps and moves what a disk already holds.
DeltaMode = Literal["auto", "always", "never"]
#: How a disk is erased.
EraseWay = Literal["zeros", "random", "discard", "nvme_format"]
#: What proves that a disk holds the image.
Proof = Literal["full", "sample", "none"]
#: Called with each event.
Progress = Optional[Callable[[Event], object]]
#: Cancels an operation: a token, or a function that returns true to cancel.
Cancel = Union[CancelToken, Callable[[], bool], None]
