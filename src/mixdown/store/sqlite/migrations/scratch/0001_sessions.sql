-- A session is seen once all its ids are written (`complete`).
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    project INTEGER NOT NULL,
    group_key TEXT NOT NULL,
    total INTEGER NOT NULL,
    page_size INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    output_properties BLOB,
    complete INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_of_project ON sessions (project, created_ms);

-- The ids of a result set, 1,000 a block, as compressed JSON arrays.
CREATE TABLE id_blocks (
    session INTEGER NOT NULL,
    block INTEGER NOT NULL,
    ids BLOB NOT NULL,
    PRIMARY KEY (session, block)
) STRICT, WITHOUT ROWID;
