-- Times are milliseconds since 1970, in UTC. Columns named *_json hold JSON.

CREATE TABLE machines (
    mac            TEXT PRIMARY KEY,
    plan           TEXT NOT NULL,
    image_ref      TEXT,
    target_serial  TEXT,
    sanboot_drive  TEXT,
    extra_args     TEXT NOT NULL,
    params_json    TEXT NOT NULL,
    labels_json    TEXT NOT NULL,
    state_json     TEXT NOT NULL,
    hold           TEXT,
    cycle_json     TEXT,
    answers_json   TEXT NOT NULL,
    history_json   TEXT NOT NULL,
    disks_json     TEXT,
    disks_at       INTEGER,
    hardware_json  TEXT NOT NULL,
    flashed_json   TEXT,
    discovered_at  INTEGER,
    last_seen_at   INTEGER,
    last_seen_ip   TEXT,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- as it was posted; apart, because it can be megabytes
CREATE TABLE machine_lshw (
    mac        TEXT PRIMARY KEY REFERENCES machines (mac) ON DELETE CASCADE,
    lshw_json  TEXT NOT NULL,
    lshw_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE plans (
    name        TEXT PRIMARY KEY,
    revision    INTEGER NOT NULL,
    deleted_at  INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE plan_revisions (
    name           TEXT NOT NULL REFERENCES plans (name),
    revision       INTEGER NOT NULL,
    source         TEXT NOT NULL,
    declared_json  TEXT NOT NULL,
    note           TEXT NOT NULL,
    saved_by       TEXT NOT NULL,
    saved_at       INTEGER NOT NULL,
    PRIMARY KEY (name, revision)
) STRICT, WITHOUT ROWID;

-- a deleted entry leaves its row, so that no import brings it back
CREATE TABLE catalog_entries (
    src            TEXT PRIMARY KEY,
    image_ref      TEXT NOT NULL UNIQUE,
    name           TEXT NOT NULL,
    sha256         TEXT,
    sha_url        TEXT,
    resolved_src   TEXT,
    resolved_at    INTEGER,
    format         TEXT,
    size_bytes     INTEGER,
    description    TEXT,
    arch           TEXT,
    is_tag         INTEGER NOT NULL,
    added_at       INTEGER NOT NULL,
    deleted_at     INTEGER
) STRICT;

CREATE TABLE events (
    id            INTEGER PRIMARY KEY,
    ts            INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    subject_kind  TEXT NOT NULL,
    subject_id    TEXT NOT NULL,
    actor         TEXT NOT NULL,
    source_ip     TEXT,
    summary       TEXT NOT NULL,
    details_json  TEXT NOT NULL,
    acknowledged  INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX events_by_subject ON events (subject_kind, subject_id, id);
CREATE INDEX events_by_kind ON events (kind, id);
-- the tripwire counts these with every look at a page
CREATE INDEX events_to_acknowledge ON events (id) WHERE acknowledged = 0 AND kind LIKE '%failed';

CREATE TABLE settings (
    key         TEXT PRIMARY KEY,
    value       TEXT NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- only digests of tokens are kept
CREATE TABLE sessions (
    token_sha256  TEXT PRIMARY KEY,
    csrf          TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    source_ip     TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE api_tokens (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL,
    token_sha256  TEXT NOT NULL UNIQUE,
    scopes        TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER,
    last_used_at  INTEGER,
    revoked_at    INTEGER
) STRICT;
