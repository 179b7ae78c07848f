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
