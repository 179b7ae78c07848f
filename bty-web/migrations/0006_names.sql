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
