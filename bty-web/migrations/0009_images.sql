-- when the digest of an image last changed
ALTER TABLE catalog_entries ADD COLUMN moved_at INTEGER;

-- digest that the image of a machine had when it was assigned
ALTER TABLE machines ADD COLUMN image_sha256 TEXT;
