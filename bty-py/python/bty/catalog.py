"""Catalogs: lists of images, in TOML, from files, web servers and registries."""

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

#: Where the public catalog of ready-made images is.
DEFAULT_URL: str = _bty.CATALOG_DEFAULT_URL
#: The version of the schema.
SCHEMA_VERSION = 1
#: A larger catalog is refused, in bytes.
REMOTE_CATALOG_MAX_BYTES: int = _bty.CATALOG_MAX_BYTES
#: A larger file of checksums is refused, in bytes.
_SHA_MANIFEST_MAX_BYTES = 1 << 20

if not TYPE_CHECKING:
    CatalogEntry = Entry


def load(
    reference: Union[str, PathLike[str]],
    *,
    client: Optional[Client] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
) -> Catalog:
    """The catalog at a path, or an ``http://``, ``https://``, ``oras://`` or ``file://`` address.

    Raises :class:`bty.CatalogError` with all that is wrong.

    >>> import bty
    >>> try:
    ...     bty.catalog.load("/nowhere.toml")
    ... except bty.CatalogError as error:
    ...     print(error.path)
    /nowhere.toml
    """
    return _bty.catalog_load(reference, client=client, cancel=cancel)


def parse(text: Union[str, bytes]) -> Catalog:
    """The catalog in a text.

    Raises :class:`bty.CatalogError` with all that is wrong, and where.

    >>> import bty
    >>> catalog = bty.catalog.parse('version = 1\\n[[images]]\\nname = "a"\\nsrc = "https://example.org/a.img"\\n')
    >>> [entry.src for entry in catalog]
    ['https://example.org/a.img']
    """
    return _bty.catalog_parse(text.encode() if isinstance(text, str) else text)


def canonical_src(src: str) -> str:
    """The canonical form of a source, from which its reference is made.

    Raises :class:`bty.UsageError`, a ``ValueError``.

    >>> import bty
    >>> bty.catalog.canonical_src("HTTPS://me@Example.org:443/A.img?x")
    'https://example.org/A.img?x'
    """
    return _bty.canonical_src(src)


def image_ref(src: str) -> str:
    """The reference of a source, by which machines are bound to it: 64 hexadecimal digits.

    Raises :class:`bty.UsageError`, a ``ValueError``.

    >>> import bty
    >>> bty.catalog.image_ref("https://example.org/a.img")[:12]
    'f582e00951cb'
    """
    return _bty.image_ref(src)


# What follows has the names, arguments and answers of the reference package.


def canonicalise_src(src: str) -> str:
    """The same as :func:`canonical_src`."""
    return _bty.canonical_src(src)


def image_ref_for_src(src: str) -> str:
    """The same as :func:`image_ref`."""
    return _bty.image_ref(src)


def load_bytes(raw_bytes: bytes, *, source: str = "<bytes>") -> Catalog:
    """The same as :func:`parse`; ``source`` is named in errors."""
    try:
        return _bty.catalog_parse(raw_bytes)
    except CatalogError as error:
        raise CatalogError(f"catalog at {source}: {error}") from error


def _patient(timeout: float) -> Client:
    return _bty.Client(connect_timeout=timeout, stall_timeout=timeout, attempts=2)


def classify_source(source: str) -> str:
    """``path``, ``http`` or ``oras``.

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
    """The bytes of a catalog, at most :data:`REMOTE_CATALOG_MAX_BYTES`.

    Raises :class:`bty.CatalogError`.
    """
    classify_source(source)
    try:
        return _bty.read_small(source, REMOTE_CATALOG_MAX_BYTES, client=_patient(timeout))
    except Error as error:
        raise CatalogError(str(error)) from error


def load_source(source: str, *, timeout: float = 30.0) -> Catalog:
    """The catalog at a path or an address."""
    classify_source(source)
    return _bty.catalog_load(source, client=_patient(timeout))


def default_manifest_path() -> Optional[Path]:
    """``BTY_CATALOG_FILE``, else ``catalog.toml`` in ``BTY_STATE_DIR`` (``/var/lib/bty``) when it is there."""
    import os

    given = os.environ.get("BTY_CATALOG_FILE")
    if given:
        return Path(given)
    path = Path(os.environ.get("BTY_STATE_DIR", "/var/lib/bty")) / "catalog.toml"
    return path if path.exists() else None


def stream_src(src: str, *, chunk_size: int = 1 << 20, timeout: float = 300.0) -> tuple[Iterator[bytes], Optional[int]]:
    """The bytes of an ``http(s)://`` or ``oras://`` object, and its length when it is known. A clean end means that all of it was there.

    Raises ``ValueError`` for other addresses, :class:`bty.CatalogError` when it is cut short.
    """
    if classify_source(src) == "path":
        raise ValueError(f"stream_src reads http(s):// and oras://: {src!r}")
    reader = _bty.Reader(src, client=_patient(timeout))
    return _chunks(reader, chunk_size), reader.len_bytes


def _chunks(reader: Any, chunk_size: int) -> Iterator[bytes]:
    try:
        while chunk := reader.read(chunk_size):
            yield chunk
    except Error as error:
        raise CatalogError(str(error)) from error


def parse_sha256_manifest(text: str, target_name: Optional[str] = None) -> str:
    """The digest of ``target_name`` in a file of checksums, or the only one in it.

    Raises :class:`bty.CatalogError`.

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

        odd = [line for line in lines if not is_sha256_hex(line.split()[0].lower())]
        if odd:
            raise CatalogError(f"malformed sha256 line in manifest: {odd[0]!r}")
        what = f"does not list a digest of {target_name!r}" if target_name else "lists several digests"
        raise CatalogError(f"the sha256 manifest {what}")
    return found


def fetch_sha256_for_url(image_url: str, sha_url: str, *, timeout: float = 30.0) -> str:
    """What the file of checksums at ``sha_url`` says about the image at ``image_url``.

    Raises :class:`bty.CatalogError`.
    """
    from urllib.parse import unquote, urlparse

    try:
        raw = _bty.read_small(sha_url, _SHA_MANIFEST_MAX_BYTES, client=_patient(timeout))
        return parse_sha256_manifest(raw.decode(), unquote(Path(urlparse(image_url).path).name))
    except (Error, UnicodeDecodeError) as error:
        raise CatalogError(f"GET {sha_url} failed: {error}") from error
