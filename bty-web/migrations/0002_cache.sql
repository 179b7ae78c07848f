-- version of the live environment's files; empty for the server's
ALTER TABLE machines ADD COLUMN netboot_version TEXT NOT NULL DEFAULT '';

-- What the cache host holds; the bytes are files beside the database, named by their keys.

-- whole objects
CREATE TABLE cache_objects (
    key         TEXT PRIMARY KEY,
    address     TEXT NOT NULL,
    etag        TEXT NOT NULL,
    version     TEXT,
    sha256      TEXT NOT NULL,
    size_bytes  INTEGER NOT NULL,
    is_fixed    INTEGER NOT NULL,
    is_pinned   INTEGER NOT NULL,
    hits        INTEGER NOT NULL,
    fetched_at  INTEGER NOT NULL,
    checked_at  INTEGER NOT NULL,
    used_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- fills that have not ended: so much of them is durable
CREATE TABLE cache_parts (
    key         TEXT PRIMARY KEY,
    address     TEXT NOT NULL,
    etag        TEXT NOT NULL,
    version     TEXT NOT NULL,
    kept_bytes  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- what tags and manifests of registries stand for
CREATE TABLE cache_tags (
    address     TEXT PRIMARY KEY,
    sha256      TEXT NOT NULL,
    checked_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- what was asked for and not there
CREATE TABLE cache_misses (
    key         TEXT PRIMARY KEY,
    address     TEXT NOT NULL,
    count       INTEGER NOT NULL,
    first_at    INTEGER NOT NULL,
    last_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
