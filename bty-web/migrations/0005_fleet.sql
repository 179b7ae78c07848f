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

-- what people call a machine; empty for none
ALTER TABLE machines ADD COLUMN name TEXT NOT NULL DEFAULT '';

-- The texts of each machine that a search compares with, in lower case. The program writes them
-- together with the machine, and those that are missing when it starts.
CREATE TABLE machine_texts (
    id         INTEGER PRIMARY KEY,
    mac        TEXT NOT NULL UNIQUE REFERENCES machines (mac) ON DELETE CASCADE,
    phase      TEXT NOT NULL,
    state      TEXT NOT NULL,
    plan       TEXT NOT NULL,
    image_ref  TEXT NOT NULL,
    name       TEXT NOT NULL,
    labels     TEXT NOT NULL,
    texts      TEXT NOT NULL
) STRICT;

CREATE INDEX machine_texts_by_phase ON machine_texts (phase);
CREATE INDEX machine_texts_by_state ON machine_texts (state);
CREATE INDEX machine_texts_by_plan ON machine_texts (plan);
CREATE INDEX machine_texts_by_image ON machine_texts (image_ref);
CREATE INDEX machine_texts_by_name ON machine_texts (name);

-- finds any part of a text that has at least three characters
CREATE VIRTUAL TABLE machine_index USING fts5 (
    texts, content = 'machine_texts', content_rowid = 'id', tokenize = 'trigram case_sensitive 1'
);

CREATE TRIGGER machine_texts_inserted AFTER INSERT ON machine_texts BEGIN
    INSERT INTO machine_index (rowid, texts) VALUES (new.id, new.texts);
END;

CREATE TRIGGER machine_texts_deleted AFTER DELETE ON machine_texts BEGIN
    INSERT INTO machine_index (machine_index, rowid, texts) VALUES ('delete', old.id, old.texts);
END;

CREATE TRIGGER machine_texts_changed AFTER UPDATE OF texts ON machine_texts
WHEN old.texts <> new.texts BEGIN
    INSERT INTO machine_index (machine_index, rowid, texts) VALUES ('delete', old.id, old.texts);
    INSERT INTO machine_index (rowid, texts) VALUES (new.id, new.texts);
END;

-- the name of the user or token that caused an event
ALTER TABLE events ADD COLUMN actor_name TEXT;

-- people besides the admin, whose password is in the configuration; without a hash, only a proxy can log one in
CREATE TABLE users (
    name           TEXT PRIMARY KEY COLLATE NOCASE,
    role           TEXT NOT NULL,
    password_hash  TEXT,
    created_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- null for the admin
ALTER TABLE sessions ADD COLUMN user TEXT REFERENCES users (name) ON DELETE CASCADE;

-- what the firmware of a machine says about it; null until it has said anything
ALTER TABLE machines ADD COLUMN identity_json TEXT;
CREATE INDEX machines_by_uuid ON machines (identity_json ->> '$.current.uuid') WHERE identity_json IS NOT NULL;
CREATE INDEX machines_by_serial ON machines (identity_json ->> '$.current.serial') WHERE identity_json IS NOT NULL;

-- further network cards of a machine
ALTER TABLE machines ADD COLUMN macs_json TEXT NOT NULL DEFAULT '[]';
CREATE INDEX machines_with_macs ON machines (mac) WHERE macs_json <> '[]';
