"""Artifacts in OCI registries: ``oras://host/owner/repository:tag``, read anonymously unless a
:class:`bty.Client` has credentials.

Compatible with the module ``withcache.oras`` of the reference.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from . import _bty
from ._bty import OciBlob
from .errors import OrasError, SourceError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Union

    from ._bty import CancelToken, Client

__all__ = ["OciBlob", "OrasError", "OrasRef", "ResolvedBlob", "is_oras_url", "parse_ref", "resolve", "resolve_ref"]


def resolve(
    reference: str,
    *,
    client: Optional[Client] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
) -> OciBlob:
    """Resolves a reference to its current blob: digest, size and title.

    Raises :class:`bty.OrasError` if the registry does not answer or does not have the artifact,
    :class:`bty.FormatError` if the artifact contains no disk image, and :class:`bty.UsageError` for
    an index of several platforms.

    >>> import bty
    >>> try:
    ...     bty.oras.resolve("oras://localhost:1/me/disk:1", client=bty.Client(attempts=1))
    ... except bty.OrasError as error:
    ...     print(error.kind)
    source
    """
    return _bty.oci_resolve(reference, client=client, cancel=cancel)


@dataclass(frozen=True)
class OrasRef:
    """The parts of a reference."""

    host: str
    repository: str
    tag: Optional[str] = None
    digest: Optional[str] = None

    @property
    def manifest_locator(self) -> str:
        """The digest, else the tag."""
        return self.digest or self.tag or ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the reference as plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ResolvedBlob:
    """A blob and its URL. ``size`` is in bytes."""

    blob_url: str
    headers: dict[str, str]
    digest: str
    size: Optional[int]
    title: Optional[str]


def is_oras_url(url: str) -> bool:
    """Returns true for an ``oras://`` address.

    >>> import bty
    >>> bty.oras.is_oras_url("oras://ghcr.io/me/disk:1"), bty.oras.is_oras_url("https://ghcr.io")
    (True, False)
    """
    return url.lower().startswith("oras://")


def parse_ref(ref: str) -> OrasRef:
    """Splits a reference into its parts.

    Raises :class:`bty.OrasError` for an invalid reference.

    >>> import bty
    >>> bty.oras.parse_ref("oras://ghcr.io/me/disk:1")
    OrasRef(host='ghcr.io', repository='me/disk', tag='1', digest=None)
    """
    try:
        host, repository, tag, digest = _bty.oci_parse(ref)
    except UsageError as error:
        raise OrasError(str(error)) from error
    return OrasRef(host, repository, tag, digest)


def resolve_ref(ref: Union[str, OrasRef], *, timeout: float = 30.0) -> ResolvedBlob:
    """Resolves a reference like :func:`resolve`, compatible with the reference package. ``headers``
    is always empty, because tokens are not handed out.

    Raises :class:`bty.OrasError` if the reference is invalid or cannot be resolved.

    >>> import bty
    >>> try:
    ...     bty.oras.resolve_ref("oras://localhost:1/me/disk:1", timeout=1)
    ... except OSError as error:
    ...     print(type(error).__name__)
    OrasError
    """
    parsed = parse_ref(ref) if isinstance(ref, str) else ref
    separator = "@" if parsed.digest else ":"
    reference = f"oras://{parsed.host}/{parsed.repository}{separator}{parsed.manifest_locator}"
    try:
        blob = resolve(reference, client=_bty.Client(connect_timeout=timeout, stall_timeout=timeout, attempts=3))
    except (SourceError, UsageError) as error:
        if isinstance(error, OrasError):
            raise
        raise OrasError(str(error)) from error
    digest = f"sha256:{blob.digest}"
    url = f"https://{parsed.host}/v2/{parsed.repository}/blobs/{digest}"
    return ResolvedBlob(url, {}, digest, blob.size_bytes, blob.title)
