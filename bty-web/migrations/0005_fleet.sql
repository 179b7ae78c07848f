-- the machines with an open boot cycle, which the server looks through for stalled ones
CREATE INDEX machines_open ON machines (mac)
    WHERE cycle_json ->> '$.stage' IN ('offered', 'booting', 'working');

-- boards without an address of their own: all of them shared one of these rows
DELETE FROM machine_lshw WHERE mac = '00:00:00:00:00:00'
    OR substr(mac, 2, 1) IN ('1', '3', '5', '7', '9', 'b', 'd', 'f');
DELETE FROM machines WHERE mac = '00:00:00:00:00:00'
    OR substr(mac, 2, 1) IN ('1', '3', '5', '7', '9', 'b', 'd', 'f');

-- when the digest of an image last changed
ALTER TABLE catalog_entries ADD COLUMN moved_at INTEGER;

-- digest that the image of a machine had when it was assigned
ALTER TABLE machines ADD COLUMN image_sha256 TEXT;


-- how far each webhook of the configuration has come in the log of events
CREATE TABLE webhooks (
    name          TEXT PRIMARY KEY,
    last_id       INTEGER NOT NULL,
    delivered_at  INTEGER
) STRICT, WITHOUT ROWID;
