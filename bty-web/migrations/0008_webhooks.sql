-- how far each webhook of the configuration has come in the log of events
CREATE TABLE webhooks (
    name          TEXT PRIMARY KEY,
    last_id       INTEGER NOT NULL,
    delivered_at  INTEGER
) STRICT, WITHOUT ROWID;
