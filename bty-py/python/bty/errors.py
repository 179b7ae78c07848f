"""Exceptions, as one tree below :class:`Error`.

::

    Error                      kind, path, offset, hint
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

If the cause has a built-in exception (``FileNotFoundError``, ``PermissionError``,
``IsADirectoryError``, ``NotADirectoryError``), the exception is an instance of that too.

>>> import bty
>>> try:
...     bty.images.open("/nowhere/debian.img")
... except FileNotFoundError as error:
...     print(type(error).__mro__[1].__name__, error.kind, error.path)
SourceError source /nowhere/debian.img
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    #: The outcome for each target, if a flash failed after it had begun.
    report: Optional[FlashReport] = None

    def __reduce__(self) -> Any:
        return (_restore, (_base_of(type(self)), _system_of(type(self)), self.args, self.__dict__))


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
    #: All reasons for the refusal.
    refusals: list[Refusal] = []


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

_SYSTEM: dict[str, type[OSError]] = {
    "FileNotFoundError": FileNotFoundError,
    "PermissionError": PermissionError,
    "IsADirectoryError": IsADirectoryError,
    "NotADirectoryError": NotADirectoryError,
}

_made: dict[tuple[type[Error], str], type[Error]] = {}


def _class_of(base: type[Error], system: Optional[str]) -> type[Error]:
    """Returns a subclass of both ``base`` and the built-in exception ``system``."""
    if system is None or issubclass(base, _SYSTEM[system]):
        return base
    if (base, system) not in _made:
        # users know it by its two bases, so it has the name of the base in this module
        fields = {"__module__": __name__, "__doc__": base.__doc__, "_system": system, "_base": base}
        _made[base, system] = type(base.__name__, (base, _SYSTEM[system]), fields)
    return _made[base, system]


def _base_of(made: type[Error]) -> type[Error]:
    base: type[Error] = made.__dict__.get("_base", made)
    return base


def _system_of(made: type[Error]) -> Optional[str]:
    system: Optional[str] = made.__dict__.get("_system")
    return system


def _restore(base: type[Error], system: Optional[str], args: tuple[Any, ...], fields: dict[str, Any]) -> Error:
    error = _class_of(base, system)(*args)
    error.__dict__.update(fields)
    return error


def _make(
    kind: str,
    message: str,
    *,
    path: Optional[str] = None,
    offset: Optional[int] = None,
    hint: Optional[str] = None,
    system: Optional[str] = None,
) -> Error:
    """Creates the exception for an error of the native module."""
    base = _KINDS.get(kind, Error)
    error = _class_of(base, system)(message)
    # these two select a class only; their kind is that of the class
    if kind not in ("race", "oras"):
        error.kind = kind
    error.path, error.offset, error.hint = path, offset, hint
    return error
