"""Catalogs: lists of images in TOML, loaded from files, web servers and registries."""

from __future__ import annotations

from pathlib import Path

from . import _bty
from ._bty import Catalog, Entry, EntryCheck
from .errors import CatalogError, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike
    from typing import Any, Callable, Optional, Union

    from ._bty import CancelToken, Client

    CatalogEntry = Entry

__all__ = [
    "Catalog",
    "CatalogEntry",
    "CatalogError",
    "DEFAULT_URL",
    "Entry",
    "EntryCheck",
    "canonical_src",
    "canonicalise_src",
    "classify_source",
    "default_manifest_path",
    "fetch_bytes",
    "fetch_sha256_for_url",
    "image_ref",
    "image_ref_for_src",
    "load",
    "load_bytes",
    "load_source",
    "parse",
    "parse_sha256_manifest",
    "stream_src",
]

#: Address of the public catalog of ready-made images.
DEFAULT_URL: str = _bty.CATALOG_DEFAULT_URL
#: Version of the schema.
SCHEMA_VERSION = 1
#: Maximum size of a catalog, in bytes.
REMOTE_CATALOG_MAX_BYTES: int = _bty.CATALOG_MAX_BYTES
#: Maximum size of a checksum file, in bytes.
_SHA_MANIFEST_MAX_BYTES = 1 << 20

if not TYPE_CHECKING:
    CatalogEntry = Entry


def load(
    reference: Union[str, PathLike[str]],
    *,
    client: Optional[Client] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
) -> Catalog:
    """Loads a catalog from a path, or from an ``http(s)://``, ``oras://`` or ``file://`` address.

    Raises :class:`bty.CatalogError` with all problems if it cannot be read or is invalid.

    >>> import bty
    >>> try:
    ...     bty.catalog.load("/nowhere.toml")
    ... except bty.CatalogError as error:
    ...     print(error.path)
    /nowhere.toml
    """
    return _bty.catalog_load(reference, client=client, cancel=cancel)


def parse(text: Union[str, bytes]) -> Catalog:
    """Parses a catalog.

    Raises :class:`bty.CatalogError` with all problems, and where they are, if it is invalid.

    >>> import bty
    >>> catalog = bty.catalog.parse('version = 1\\n[[images]]\\nname = "a"\\nsrc = "https://example.org/a.img"\\n')
    >>> [entry.src for entry in catalog]
    ['https://example.org/a.img']
    """
    return _bty.catalog_parse(text.encode() if isinstance(text, str) else text)


def canonical_src(src: str) -> str:
    """Returns the canonical form of a source address, which determines its image reference.

    Raises :class:`bty.UsageError` (also ``ValueError``) for an invalid address.

    >>> import bty
    >>> bty.catalog.canonical_src("HTTPS://me@Example.org:443/A.img?x")
    'https://example.org/A.img?x'
    """
    return _bty.canonical_src(src)


def image_ref(src: str) -> str:
    """Returns the image reference of a source address: the 64 hexadecimal digits that assignments
    of machines use.

    Raises :class:`bty.UsageError` (also ``ValueError``) for an invalid address.

    >>> import bty
    >>> bty.catalog.image_ref("https://example.org/a.img")[:12]
    'f582e00951cb'
    """
    return _bty.image_ref(src)


# What follows is compatible with the reference package.


def canonicalise_src(src: str) -> str:
    """Another name of :func:`canonical_src`."""
    return _bty.canonical_src(src)


def image_ref_for_src(src: str) -> str:
    """Another name of :func:`image_ref`."""
    return _bty.image_ref(src)


def load_bytes(raw_bytes: bytes, *, source: str = "<bytes>") -> Catalog:
    """Parses a catalog like :func:`parse`. Error messages contain ``source``."""
    try:
        return _bty.catalog_parse(raw_bytes)
    except CatalogError as error:
        raise CatalogError(f"catalog at {source}: {error}") from error


def _client(timeout: float) -> Client:
    return _bty.Client(connect_timeout=timeout, stall_timeout=timeout, attempts=2)


def classify_source(source: str) -> str:
    """Returns the kind of a catalog's source: ``path``, ``http`` or ``oras``.

    Raises ``ValueError`` for other schemes, and for an address without a host.

    >>> import bty
    >>> [bty.catalog.classify_source(text) for text in ("a.toml", "https://example.org/a.toml", "oras://ghcr.io/me/a:1")]
    ['path', 'http', 'oras']
    """
    from urllib.parse import urlparse

    scheme = source.split("://", 1)[0].lower() if "://" in source else "file"
    if scheme in ("http", "https"):
        if not urlparse(source).netloc:
            raise ValueError(f"catalog URL has no host: {source!r}")
        return "http"
    if scheme in ("file", "oras"):
        return "path" if scheme == "file" else "oras"
    raise ValueError(f"unsupported catalog source: {source!r} (a path, file://, http(s):// or oras://)")


def fetch_bytes(source: str, *, timeout: float = 30.0) -> bytes:
    """Returns the bytes of a catalog.

    Raises :class:`bty.CatalogError` if it cannot be read, or has more than
    :data:`REMOTE_CATALOG_MAX_BYTES`, and ``ValueError`` as :func:`classify_source`.
    """
    classify_source(source)
    try:
        return _bty.read_small(source, REMOTE_CATALOG_MAX_BYTES, client=_client(timeout))
    except Error as error:
        raise CatalogError(str(error)) from error


def load_source(source: str, *, timeout: float = 30.0) -> Catalog:
    """Loads a catalog from a path or an address, like :func:`load`; ``timeout`` is in seconds."""
    classify_source(source)
    return _bty.catalog_load(source, client=_client(timeout))


def default_manifest_path() -> Optional[Path]:
    """Returns ``BTY_CATALOG_FILE``, else ``catalog.toml`` in ``BTY_STATE_DIR`` (``/var/lib/bty``)
    if it exists, else ``None``.
    """
    import os

    given = os.environ.get("BTY_CATALOG_FILE")
    if given:
        return Path(given)
    path = Path(os.environ.get("BTY_STATE_DIR", "/var/lib/bty")) / "catalog.toml"
    return path if path.exists() else None


def stream_src(src: str, *, chunk_size: int = 1 << 20, timeout: float = 300.0) -> tuple[Iterator[bytes], Optional[int]]:
    """Returns an iterator over the bytes at an ``http(s)://`` or ``oras://`` address, and the
    length in bytes, ``None`` if unknown. If the iterator ends without an exception, all bytes were
    received.

    Raises ``ValueError`` for other addresses, and :class:`bty.CatalogError` if it is truncated.
    """
    if classify_source(src) == "path":
        raise ValueError(f"stream_src reads http(s):// and oras://: {src!r}")
    reader = _bty.Reader(src, client=_client(timeout))
    return _chunks(reader, chunk_size), reader.len_bytes


def _chunks(reader: Any, chunk_size: int) -> Iterator[bytes]:
    try:
        while chunk := reader.read(chunk_size):
            yield chunk
    except Error as error:
        raise CatalogError(str(error)) from error


def parse_sha256_manifest(text: str, target_name: Optional[str] = None) -> str:
    """Returns the digest of ``target_name`` in a checksum file, or the only digest in it.

    Raises :class:`bty.CatalogError` if there is none, or if a line is malformed.

    >>> import bty
    >>> bty.catalog.parse_sha256_manifest("0" * 64 + "  a.img", "a.img")[:4]
    '0000'
    """
    found = _bty.find_in_checksums(text, target_name or "")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if found is None and len(lines) == 1 and not target_name:
        found = _bty.find_in_checksums(lines[0].split()[0], "")
    if found is None:
        if not lines:
            raise CatalogError("empty sha256 manifest")
        from .images import is_sha256_hex

        malformed = [line for line in lines if not is_sha256_hex(line.split()[0].lower())]
        if malformed:
            raise CatalogError(f"malformed sha256 line in manifest: {malformed[0]!r}")
        what = f"does not list a digest of {target_name!r}" if target_name else "lists several digests"
        raise CatalogError(f"the sha256 manifest {what}")
    return found


def fetch_sha256_for_url(image_url: str, sha_url: str, *, timeout: float = 30.0) -> str:
    """Returns the digest of the image at ``image_url`` from the checksum file at ``sha_url``.

    Raises :class:`bty.CatalogError` if the file cannot be read, or lists no digest of the image.
    """
    from urllib.parse import unquote, urlparse

    try:
        raw = _bty.read_small(sha_url, _SHA_MANIFEST_MAX_BYTES, client=_client(timeout))
        return parse_sha256_manifest(raw.decode(), unquote(Path(urlparse(image_url).path).name))
    except (Error, UnicodeDecodeError) as error:
        raise CatalogError(f"GET {sha_url} failed: {error}") from error
