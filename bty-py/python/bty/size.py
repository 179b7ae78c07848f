"""Sizes in bytes: how people write them, and how they are shown."""

from __future__ import annotations

from . import _bty

__all__ = ["human", "parse"]


def parse(text: str) -> int:
    """The bytes that a text means. ``K M G T`` and ``KiB …`` are powers of 1024, ``KB MB GB TB`` of 1000.

    Raises :class:`bty.UsageError` when it is no size.

    >>> import bty
    >>> bty.size.parse("4G"), bty.size.parse("500GB")
    (4294967296, 500000000000)
    """
    return _bty.size_parse(text)


def human(bytes: int) -> str:
    """A size as people read it.

    >>> import bty
    >>> bty.size.human(4 << 20)
    '4.0 MiB'
    """
    return _bty.size_human(bytes)
