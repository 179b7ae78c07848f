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
