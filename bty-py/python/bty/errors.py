"""Exceptions, as one tree below :class:`Error`.

::

    Error                      kind, path, offset, hint
    ├── UsageError             also ValueError: an argument cannot be understood
    ├── SourceError            also OSError: unreachable, truncated, changed while it was read
    │   └── OrasError          of a registry
    ├── FormatError            also ValueError: nothing that can be written to a disk
    ├── CatalogError           a catalog cannot be read
    ├── HostError              also OSError: the system does not tell
    ├── FlashError             also RuntimeError: writing or comparing failed
    │   ├── RefusedError       a safety rule forbids it; nothing was written. Has ``refusals``
    │   │   └── FlashRaceError a disk changed after the plan was made; nothing was written
    │   ├── FlashIntegrityError a digest differs, or the disk reads back other than written
    │   ├── FlashCancelled     the caller cancelled; the disk does not boot
    │   └── TargetError        also OSError: the disk failed
    ├── ScriptError            a script failed. Has ``place`` and ``calls``
    └── ServerError            a server answered with an error. Has ``status``

Where Python has an exception for what the system said (``FileNotFoundError``, ``PermissionError``, ``IsADirectoryError``,
``NotADirectoryError``), the exception is also that.

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
    """What bty raises. Its text is one sentence, outermost context first.

    >>> import bty
    >>> try:
    ...     bty.size.parse("many")
    ... except bty.Error as error:
    ...     print(error.kind, "|", error, "|", error.hint)
    usage | "many" is not a size | write bytes, or a number with a unit: 4096, 512M, 8GiB, 500GB
    """

    #: A word to match on: ``usage``, ``refused``, ``source``, ``format``, ``catalog``, ``integrity``, ``target``, ``cancelled``, ``host`` …
    kind: str = "host"
    #: The file, device or address concerned.
    path: Optional[str] = None
    #: The offset concerned, in bytes from the start of ``path``.
    offset: Optional[int] = None
    #: The next step.
    hint: Optional[str] = None
    #: What happened to each target, when a flash failed after it had begun.
    report: Optional[FlashReport] = None

    def __reduce__(self) -> Any:
        return (_restore, (_base_of(type(self)), _system_of(type(self)), self.args, self.__dict__))


class UsageError(Error, ValueError):
    """An argument cannot be understood: a reference, a selector, a digest, a size."""

    kind = "usage"


class SourceError(Error, OSError):
    """The source is unreachable, truncated, longer than promised, or changed while it was read."""

    kind = "source"


class OrasError(SourceError):
    """A registry does not answer, or has no such artifact."""


class FormatError(Error, ValueError):
    """The bytes are in no format that can be written to a disk, or are damaged."""

    kind = "format"


class CatalogError(Error):
    """A catalog cannot be read or breaks its schema."""

    kind = "catalog"


class HostError(Error, OSError):
    """Anything else of the system: a missing ``/sys``, a file that cannot be created."""

    kind = "host"


class FlashError(Error, RuntimeError):
    """Writing to a disk, or comparing it, has failed."""

    kind = "target"


class RefusedError(FlashError):
    """A safety rule forbids it; nothing was written."""

    kind = "refused"
    #: All reasons.
    refusals: list[Refusal] = []


class FlashRaceError(RefusedError):
    """A disk changed after the plan was made; nothing was written."""


class FlashIntegrityError(FlashError):
    """A digest differs, or a disk reads back other than was written. The disk does not boot."""

    kind = "integrity"


class FlashCancelled(FlashError):
    """The caller cancelled. A disk that was being written does not boot."""

    kind = "cancelled"


class TargetError(FlashError, OSError):
    """The disk failed: an I/O error, a vanished device, no progress. The disk does not boot."""

    kind = "target"


class ScriptError(Error):
    """A script failed: its text shows the place."""

    kind = "script"
    #: ``file``, ``line``, ``column`` and the text of the line.
    place: Optional[dict[str, Any]] = None
    #: The calls that led there, innermost first.
    calls: list[dict[str, Any]] = []


class ServerError(Error):
    """A server answered with an error."""

    kind = "server"
    #: The HTTP status.
    status: int = 0
    #: The answer, as far as it is JSON.
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
    """The class that is both ``base`` and what the system says."""
    if system is None or issubclass(base, _SYSTEM[system]):
        return base
    if (base, system) not in _made:
        # known to users by its two bases; it is called like the one of this module
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
    """The exception for a failure of the native part."""
    base = _KINDS.get(kind, Error)
    error = _class_of(base, system)(message)
    # the others are the same kind by another name
    if kind not in ("race", "oras"):
        error.kind = kind
    error.path, error.offset, error.hint = path, offset, hint
    return error
