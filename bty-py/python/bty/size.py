"""Parses and formats sizes."""

from __future__ import annotations

from . import _bty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .types import Size

__all__ = ["human", "parse"]


def parse(text: str) -> int:
    """Parses a size and returns bytes. ``K M G T`` and ``KiB …`` are powers of 1024,
    ``KB MB GB TB`` of 1000.

    Raises :class:`bty.UsageError` (also ``ValueError``) for an invalid size.

    >>> import bty
    >>> bty.size.parse("4G"), bty.size.parse("500GB")
    (4294967296, 500000000000)
    """
    return _bty.size_parse(text)


def human(bytes: Size) -> str:
    """Formats a size for display.

    >>> import bty
    >>> bty.size.human(4 << 20)
    '4.0 MiB'
    """
    return _bty.size_human(bytes)
