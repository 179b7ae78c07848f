-- What became of packing the cached objects with a digest. Without a failure, the index is that of
-- the packed form, or, without a file, of the object itself, which is packed already.
CREATE TABLE cache_packed (
    sha256        TEXT PRIMARY KEY,
    file_sha256   TEXT,
    index_sha256  TEXT,
    size_bytes    INTEGER NOT NULL,
    failure       TEXT,
    packed_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- digest of the index of an image that is published packed
ALTER TABLE catalog_entries ADD COLUMN index_sha256 TEXT;
