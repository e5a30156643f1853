-- Ids whose canonical id is another. `since` is 0, or the position from which a legacy alias counts: its canonical
-- id is then that of its distinct_id, which stands here. All of it follows from the links below.
CREATE TABLE identities (
    project_id INTEGER NOT NULL,
    id TEXT NOT NULL,
    canonical TEXT NOT NULL,
    since INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, id)
) STRICT, WITHOUT ROWID;

-- What linked two ids, where in the log and when; and what undid it (NULL: it is in force). `mode` and `verb` are
-- numbers: simplified 0, original 1, legacy 2; device 0, identify 1, create_alias 2, merge 3.
CREATE TABLE identity_links (
    project_id INTEGER NOT NULL,
    other TEXT NOT NULL,
    position INTEGER NOT NULL,
    one TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    mode INTEGER NOT NULL,
    verb INTEGER NOT NULL,
    undone_position INTEGER,
    undone_ms INTEGER,
    PRIMARY KEY (project_id, other, position, one)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_links_by_one ON identity_links (project_id, one);
