"""Hardware of this machine."""

from __future__ import annotations

from . import _bty
from ._bty import Dmi, InventoryDisk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Dmi", "InventoryDisk", "collect", "dmi"]


def collect() -> dict[str, Any]:
    """Returns the inventory that a machine posts to its server: ``disks``, a list with the field
    names of ``lsblk``, and ``lshw``, the hardware as a tree in the format of ``lshw -json``.

    Raises :class:`bty.HostError` if the system cannot list its disks.

    >>> import bty
    >>> sorted(bty.inventory.collect())
    ['disks', 'lshw']
    """
    return _bty.inventory()


def dmi() -> Dmi:
    """Returns the identification of the machine by its firmware. Fields that only root may read are
    ``None`` for other users.

    >>> import bty
    >>> sorted(bty.inventory.dmi().to_dict())[:3]
    ['asset_tag', 'bios_date', 'bios_vendor']
    """
    return _bty.dmi()
