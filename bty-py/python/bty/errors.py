"""Exceptions, as one tree below :class:`Error`.

::

    Error                      kind, path, offset, hint, remedy
    ├── UsageError             also ValueError: an invalid argument
    ├── SourceError            also OSError: the source is unreachable, truncated, or changed
    │   └── OrasError          the same for a registry
    ├── FormatError            also ValueError: not a disk image, or damaged
    ├── CatalogError           a catalog is unreadable or invalid
    ├── HostError              also OSError: this system lacks something
    ├── FlashError             also RuntimeError: writing or comparing failed
    │   ├── RefusedError       a safety rule forbids it; nothing was written. Has ``refusals``
    │   │   └── FlashRaceError a disk changed after the plan was created; nothing was written
    │   ├── FlashIntegrityError a digest does not match, or the disk did not read back as written
    │   ├── FlashCancelled     the caller canceled; the disk does not boot
    │   └── TargetError        also OSError: the disk failed
    ├── ScriptError            a script failed. Has ``place`` and ``calls``
    └── ServerError            a server answered with an error. Has ``status``

If the operating system caused the error, the exception is also the ``OSError`` for that cause, such
as ``FileNotFoundError`` or ``PermissionError``, with ``errno`` and ``filename``.

>>> import bty
>>> try:
...     bty.images.open("/nowhere/debian.img")
... except FileNotFoundError as error:
...     print(type(error).__mro__[1].__name__, error.kind, error.errno, error.filename)
SourceError source 2 /nowhere/debian.img

From Python 3.11 on, a traceback shows the hint, as a note of the exception.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Optional

    from ._bty import FlashReport, Refusal

__all__ = [
    "CatalogError",
    "Error",
    "FlashCancelled",
    "FlashError",
    "FlashIntegrityError",
    "FlashRaceError",
    "FormatError",
    "HostError",
    "OrasError",
    "RefusedError",
    "ScriptError",
    "ServerError",
    "SourceError",
    "TargetError",
    "UsageError",
]


class Error(Exception):
    """Base class of all exceptions of bty. The text begins with the outermost context.

    >>> import bty
    >>> try:
    ...     bty.size.parse("many")
    ... except bty.Error as error:
    ...     print(error.kind, "|", error, "|", error.hint)
    usage | "many" is not a size | write bytes, or a number with a unit: 4096, 512M, 8GiB, 500GB
    """

    #: Identifier for programs: ``usage``, ``refused``, ``source``, ``format``, ``catalog``,
    #: ``integrity``, ``target``, ``cancelled``, ``host`` …
    kind: str = "host"
    #: The file, device or address concerned.
    path: Optional[str] = None
    #: The offset concerned, in bytes from the start of ``path``.
    offset: Optional[int] = None
    #: What to do next.
    hint: Optional[str] = None
    #: The hint as a word for programs, often the option that helps, such as ``ignore_trailing``.
    remedy: Optional[str] = None
    #: The outcome for each target, if a flash failed after it had begun.
    report: Optional[FlashReport] = None

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    # not that of OSError, which would show the error number and the file name a second time
    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> Any:
        return (_restore, (_base_of(type(self)), self.args[0], getattr(self, "errno", None), self.__dict__))


class UsageError(Error, ValueError):
    """An argument is invalid: a reference, a selector, a digest, a size."""

    kind = "usage"


class SourceError(Error, OSError):
    """The source is unreachable, truncated, longer than declared, or changed while it was read."""

    kind = "source"


class OrasError(SourceError):
    """A registry does not answer, or does not have the artifact."""


class FormatError(Error, ValueError):
    """The content is not a disk image in a supported format, or is damaged."""

    kind = "format"


class CatalogError(Error):
    """A catalog cannot be read, or is invalid."""

    kind = "catalog"


class HostError(Error, OSError):
    """Another failure of this system: a missing ``/sys``, a file that cannot be created."""

    kind = "host"


class FlashError(Error, RuntimeError):
    """Writing to a disk, or comparing it with an image, failed."""

    kind = "target"


class RefusedError(FlashError):
    """A safety rule forbids the flash; nothing was written."""

    kind = "refused"
    _refusals: Sequence[Refusal] = ()

    @property
    def refusals(self) -> list[Refusal]:
        """All reasons for the refusal, at least one.

        The reason ``no_target`` also stands for a disk that does not exist, or is not the one that
        was chosen.
        """
        if self._refusals:
            return [*self._refusals]
        from ._bty import Refusal

        return [Refusal(target=self.path, reason="no_target", message=str(self))]


class FlashRaceError(RefusedError):
    """A disk changed after the plan was created; nothing was written."""


class FlashIntegrityError(FlashError):
    """A digest does not match, or a disk did not read back as written. The disk does not boot."""

    kind = "integrity"


class FlashCancelled(FlashError):
    """The caller canceled. A disk that was being written does not boot."""

    kind = "cancelled"


class TargetError(FlashError, OSError):
    """The disk failed: an I/O error, a removed device, a stall. The disk does not boot."""

    kind = "target"


class ScriptError(Error):
    """A script failed. The text contains the source line.

    ``kind`` is that of the error in the script: ``script`` for an error of the script itself.
    """

    kind = "script"
    #: Where it failed: ``file``, ``line``, ``column``, and the text of the line.
    place: Optional[dict[str, Any]] = None
    #: The call stack, innermost first.
    calls: list[dict[str, Any]] = []


class ServerError(Error):
    """A server answered with an error."""

    kind = "server"
    #: The HTTP status code.
    status: int = 0
    #: The body of the response, if it is JSON.
    details: Any = None


_KINDS: dict[str, type[Error]] = {
    "usage": UsageError,
    "refused": RefusedError,
    "race": FlashRaceError,
    "source": SourceError,
    "format": FormatError,
    "catalog": CatalogError,
    "integrity": FlashIntegrityError,
    "target": TargetError,
    "cancelled": FlashCancelled,
    "host": HostError,
    "oras": OrasError,
    "script": ScriptError,
}

_made: dict[tuple[type[Error], type[OSError]], type[Error]] = {}


def _class_of(base: type[Error], errno: Optional[int]) -> type[Error]:
    """Returns ``base``, or a subclass of it and of the built-in exception for ``errno``."""
    if errno is None:
        return base
    system = type(OSError(errno, ""))
    if issubclass(base, system):
        return base
    if (base, system) not in _made:
        # users know it by its two bases, so it has the name of the base in this module
        fields = {"__module__": __name__, "__doc__": base.__doc__, "_base": base}
        _made[base, system] = type(base.__name__, (base, system), fields)
    return _made[base, system]


def _base_of(made: type[Error]) -> type[Error]:
    base: type[Error] = made.__dict__.get("_base", made)
    return base


def _restore(base: type[Error], message: str, errno: Optional[int], fields: dict[str, Any]) -> Error:
    error = _class_of(base, errno)(message)
    error.__dict__.update(fields)
    _set_os_fields(error, errno)
    return error


def _set_os_fields(error: Error, errno: Optional[int]) -> None:
    """Sets the attributes that every ``OSError`` has."""
    if isinstance(error, OSError):
        error.filename = error.path
        if errno is not None:
            error.errno, error.strerror = errno, os.strerror(errno)


def _make(
    kind: str,
    message: str,
    *,
    path: Optional[str] = None,
    offset: Optional[int] = None,
    hint: Optional[str] = None,
    remedy: Optional[str] = None,
    errno: Optional[int] = None,
) -> Error:
    """Creates the exception for an error of the native module."""
    base = _KINDS.get(kind, Error)
    error = _class_of(base, errno)(message)
    # these two select a class only; their kind is that of the class
    if kind not in ("race", "oras"):
        error.kind = kind
    error.path, error.offset, error.hint, error.remedy = path, offset, hint, remedy
    _set_os_fields(error, errno)
    add_note: Any = getattr(error, "add_note", None)
    if hint is not None and add_note is not None:
        add_note(f"next: {hint}")
    return error
