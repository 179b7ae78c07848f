-- A state of this schema, as a server wrote it. Kept for ever: a later program must open it.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
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
INSERT INTO api_tokens VALUES(1,'ci','e1dd5a3566d34b3b4bdacbc820b141a6ed85ed4b39cf32f079ba7d303b1b4e62','read',1795527272079,NULL,NULL,NULL);
CREATE TABLE cache_misses (
    key         TEXT PRIMARY KEY,
    address     TEXT NOT NULL,
    count       INTEGER NOT NULL,
    first_at    INTEGER NOT NULL,
    last_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO cache_misses VALUES('0101010101010101010101010101010101010101010101010101010101010101','http://h/c.img',2,5,6);
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
INSERT INTO cache_objects VALUES('abababababababababababababababababababababababababababababababab','http://h/a.img','"e"','"1"','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',5,0,1,3,1,2,3);
CREATE TABLE cache_parts (
    key         TEXT PRIMARY KEY,
    address     TEXT NOT NULL,
    etag        TEXT NOT NULL,
    version     TEXT NOT NULL,
    kept_bytes  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO cache_parts VALUES('efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef','http://h/b.img','"f"','"2"',9);
CREATE TABLE cache_tags (
    address     TEXT PRIMARY KEY,
    sha256      TEXT NOT NULL,
    checked_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO cache_tags VALUES('oras://r/a/b:t','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',4);
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
, index_sha256 TEXT, moved_at INTEGER) STRICT;
INSERT INTO catalog_entries VALUES('http://127.0.0.1:9/demo.img','8693e1157550ba7555aa7a8b4394e3712b4ea3b96127ea08ede3dc604d0b6e3c','demo','e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',NULL,NULL,NULL,'img',NULL,'d',NULL,0,1795527271747,NULL,'abababababababababababababababababababababababababababababababab',1795527271999);
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
, count INTEGER NOT NULL DEFAULT 1, last_ts INTEGER, actor_name TEXT) STRICT;
INSERT INTO events VALUES(1,1795527271047,'system.started','system','server','system',NULL,'bty-web 0.1.0 serves at 127.0.0.1:8099','{}',0,1,NULL,NULL);
INSERT INTO events VALUES(2,1795527271748,'catalog.entries.imported','catalog','/srv/catalog.toml','operator','127.0.0.1','1 images were imported from /srv/catalog.toml, 0 updated','{"source":"/srv/catalog.toml","imported":1,"updated":0,"skipped":0,"errors":[]}',0,1,NULL,NULL);
INSERT INTO events VALUES(3,1795527272010,'machine.created','machine','52:54:00:12:34:56','operator','127.0.0.1','52:54:00:12:34:56: added with the plan bty-flash-once','{"boot_mode":"bty-flash-once","bty_image_ref":"8693e1157550ba7555aa7a8b4394e3712b4ea3b96127ea08ede3dc604d0b6e3c","target_disk_serial":"S1","labels":["lab"],"params":{},"extra_args":"","changed":[],"is_order":true}',0,1,NULL,NULL);
INSERT INTO events VALUES(4,1795527272021,'netboot.pxe.offered','machine','52:54:00:12:34:56','pxe-client','127.0.0.1','52:54:00:12:34:56: bty-flash-once','{"boot_mode":"bty-flash-once","offer":"live","offer_kind":"bty-flash-once","bty_image_ref":"8693e1157550ba7555aa7a8b4394e3712b4ea3b96127ea08ede3dc604d0b6e3c","target_disk_serial":"S1"}',0,40,1795527277021,NULL);
INSERT INTO events VALUES(5,1795527272030,'machine.inventory','machine','52:54:00:12:34:56','pxe-client','127.0.0.1','52:54:00:12:34:56: inventory, 1 disk','{"disks":1,"has_lshw":true,"counts":true}',0,1,NULL,NULL);
INSERT INTO events VALUES(6,1795527272037,'netboot.pxe.plan','machine','52:54:00:12:34:56','pxe-client','127.0.0.1','52:54:00:12:34:56: plan:flash:bty-flash-once','{"boot_mode":"bty-flash-once","mode":"flash","plan_kind":"plan:flash:bty-flash-once","bty_image_ref":"8693e1157550ba7555aa7a8b4394e3712b4ea3b96127ea08ede3dc604d0b6e3c","image_name":"demo","image":"http://127.0.0.1:9/demo.img","disk_image_sha":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","target_disk_serial":"S1"}',0,1,NULL,NULL);
INSERT INTO events VALUES(7,1795527272045,'machine.flashed','machine','52:54:00:12:34:56','pxe-client','127.0.0.1','52:54:00:12:34:56: demo is on S1','{"boot_mode":"bty-flash-once","bty_image_ref":"8693e1157550ba7555aa7a8b4394e3712b4ea3b96127ea08ede3dc604d0b6e3c","image_name":"demo","disk_image_sha":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","target_disk_serial":"S1","disks":[]}',0,1,NULL,NULL);
INSERT INTO events VALUES(8,1795527272064,'plan.created','plan','mine','operator','127.0.0.1','mine is at revision 1','{"revision":1,"note":"first","saved_by":"operator"}',0,1,NULL,NULL);
INSERT INTO events VALUES(9,1795527272072,'settings.display.updated','settings','display.timezone','operator','127.0.0.1','display.timezone is "UTC"','{"key":"display.timezone","old":"UTC","new":"UTC"}',0,1,NULL,NULL);
INSERT INTO events VALUES(10,1795527272079,'auth.token.created','auth','1','operator','127.0.0.1','a token for ci was made','{"name":"ci","scopes":["read"]}',0,1,NULL,'ci');
CREATE TABLE machine_lshw (
    mac        TEXT PRIMARY KEY REFERENCES machines (mac) ON DELETE CASCADE,
    lshw_json  TEXT NOT NULL,
    lshw_at    INTEGER NOT NULL
) STRICT;
INSERT INTO machine_lshw VALUES('52:54:00:12:34:56','{"product":"Rack"}',1795527272029);
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
, netboot_version TEXT NOT NULL DEFAULT '', image_sha256 TEXT, name TEXT NOT NULL DEFAULT '', identity_json TEXT, macs_json TEXT NOT NULL DEFAULT '[]') STRICT, WITHOUT ROWID;
INSERT INTO machines VALUES('52:54:00:12:34:56','bty-flash-once','8693e1157550ba7555aa7a8b4394e3712b4ea3b96127ea08ede3dc604d0b6e3c','S1',NULL,'','{}','["lab"]','{"flashed":true}',NULL,'{"token":"4614b89ac00ce0386278fb088a6cf5ad","opened_at":"2026-11-24T13:34:32.021Z","opened_by":"127.0.0.1","stage":"done","is_tokenless":false,"fallback":null,"has_inventory":true,"order":{"mode":"flash","image_ref":"8693e1157550ba7555aa7a8b4394e3712b4ea3b96127ea08ede3dc604d0b6e3c","image_name":"demo","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","serial":"S1"},"progress":null,"heard_at":"2026-11-24T13:34:32.037Z"}','[{"nonce":"1","ip":"127.0.0.1","at":"2026-11-24T13:34:32.021Z","boot":{"boot":"live","token":"4614b89ac00ce0386278fb088a6cf5ad","arguments":"","fallback":null}}]','[{"at":1795527271,"kind":"machine.created"},{"at":1795527272,"kind":"machine.inventory"},{"at":1795527272,"kind":"machine.flashed"}]','[{"path":"/dev/sda","size":null,"size_bytes":1000,"vendor":null,"model":null,"serial":"S1","tran":null,"removable":null,"readonly":null}]',1795527272029,'{"vendor":null,"product":"Rack","version":null,"serial":null,"cpu":null,"cpus":0,"memory_bytes":null}','{"at":"2026-11-24T13:34:32.044Z","image":"8693e1157550ba7555aa7a8b4394e3712b4ea3b96127ea08ede3dc604d0b6e3c","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","serial":"S1"}',NULL,1795527272044,'127.0.0.1',1795527271886,1795527271886,'0.1.0','e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855','Seven','{"current":{"uuid":"4c4c4544-0042-3510-8051-b7c04f463132","serial":"B5QF123","asset":null,"arch":"x86_64"},"since":"2026-11-24T13:34:32.021Z"}','["52:54:00:12:34:57"]');
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
INSERT INTO plan_revisions VALUES('mine',1,'fn boot(m) { boot_disk() }','{"parameters":{},"on_failure":"disk","needs":[],"runs":false}','first','operator',1795527272051);
CREATE TABLE plans (
    name        TEXT PRIMARY KEY,
    revision    INTEGER NOT NULL,
    deleted_at  INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO plans VALUES('mine',1,NULL);
CREATE TABLE sessions (
    token_sha256  TEXT PRIMARY KEY,
    csrf          TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    source_ip     TEXT
, user TEXT REFERENCES users (name) ON DELETE CASCADE) STRICT, WITHOUT ROWID;
CREATE TABLE settings (
    key         TEXT PRIMARY KEY,
    value       TEXT NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO settings VALUES('display.timezone','UTC',1795527272072);
CREATE TABLE cache_packed (
    sha256        TEXT PRIMARY KEY,
    file_sha256   TEXT,
    index_sha256  TEXT,
    size_bytes    INTEGER NOT NULL,
    failure       TEXT,
    packed_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO cache_packed VALUES('cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,NULL,0,'not a disk image',7);
CREATE TABLE webhooks (
    name          TEXT PRIMARY KEY,
    last_id       INTEGER NOT NULL,
    delivered_at  INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO webhooks VALUES('ops',1,1795527272079);
CREATE TABLE users (
    name           TEXT PRIMARY KEY COLLATE NOCASE,
    role           TEXT NOT NULL,
    password_hash  TEXT,
    created_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO users VALUES('alice','operator',NULL,1795527272080);
CREATE INDEX events_by_subject ON events (subject_kind, subject_id, id);
CREATE INDEX events_by_kind ON events (kind, id);
CREATE INDEX events_to_acknowledge ON events (id) WHERE acknowledged = 0 AND kind LIKE '%failed';
CREATE INDEX machines_unassigned ON machines (last_seen_at)
    WHERE discovered_at IS NOT NULL AND updated_at = created_at AND image_ref IS NULL AND target_serial IS NULL
      AND labels_json = '[]' AND flashed_json IS NULL;
CREATE INDEX machines_open ON machines (mac)
    WHERE cycle_json ->> '$.stage' IN ('offered', 'booting', 'working');
CREATE INDEX machines_by_uuid ON machines (identity_json ->> '$.current.uuid') WHERE identity_json IS NOT NULL;
CREATE INDEX machines_by_serial ON machines (identity_json ->> '$.current.serial') WHERE identity_json IS NOT NULL;
CREATE INDEX machines_with_macs ON machines (mac) WHERE macs_json <> '[]';
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
INSERT INTO machine_texts VALUES(1,'52:54:00:12:34:56','done','done flashed flashed; booting disk','bty-flash-once','8693e1157550ba7555aa7a8b4394e3712b4ea3b96127ea08ede3dc604d0b6e3c','seven',char(10)||'lab'||char(10),'52:54:00:12:34:56'||char(10)||'525400123456'||char(10)||'seven'||char(10)||'s1'||char(10)||'127.0.0.1'||char(10)||'lab'||char(10)||'rack'||char(10)||'s1');
COMMIT;
PRAGMA user_version = 5;
