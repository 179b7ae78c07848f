"""The machine around the disks."""

from __future__ import annotations

from . import _bty
from ._bty import Dmi, InventoryDisk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Dmi", "InventoryDisk", "collect", "dmi"]


def collect() -> dict[str, Any]:
    """Disks and hardware, as a machine posts them to a server: ``disks`` with the names of ``lsblk``, and ``lshw``, a tree.

    Raises :class:`bty.HostError` when the system does not tell.

    >>> import bty
    >>> sorted(bty.inventory.collect())
    ['disks', 'lshw']
    """
    return _bty.inventory()


def dmi() -> Dmi:
    """How the firmware names the machine. What only root may read is ``None`` for others.

    >>> import bty
    >>> sorted(bty.inventory.dmi().to_dict())[:3]
    ['asset_tag', 'bios_date', 'bios_vendor']
    """
    return _bty.dmi()
