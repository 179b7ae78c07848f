"""Artifacts in OCI registries: ``oras://host/owner/repository:tag``, read without a log-in.

The module is also called ``withcache.oras`` in the reference; names and answers are the same here.
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
    """The blob that a reference stands for now: its digest, its length, its title.

    Raises :class:`bty.OrasError` when the registry does not answer or has no such artifact, :class:`bty.FormatError` when nothing in it can be a disk image,
    :class:`bty.UsageError` for an index of several platforms.

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
    """A reference in its parts."""

    host: str
    repository: str
    tag: Optional[str] = None
    digest: Optional[str] = None

    @property
    def manifest_locator(self) -> str:
        """The tag or the digest."""
        return self.digest or self.tag or ""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class ResolvedBlob:
    """A blob, and where it can be had."""

    blob_url: str
    headers: dict[str, str]
    digest: str
    size: Optional[int]
    title: Optional[str]


def is_oras_url(url: str) -> bool:
    """True for an ``oras://`` address.

    >>> import bty
    >>> bty.oras.is_oras_url("oras://ghcr.io/me/disk:1"), bty.oras.is_oras_url("https://ghcr.io")
    (True, False)
    """
    return url.lower().startswith("oras://")


def parse_ref(ref: str) -> OrasRef:
    """A reference in its parts.

    Raises :class:`bty.OrasError` when it is none.

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
    """The blob that a reference stands for, as of the reference package. ``headers`` is empty: tokens stay inside.

    Raises :class:`bty.OrasError`.

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
