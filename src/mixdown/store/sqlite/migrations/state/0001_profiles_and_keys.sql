-- How far each reader of the log has come, and how far it had come at its last complete checkpoint.
CREATE TABLE watermarks (
    reader TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    durable INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO watermarks VALUES ('profiles', 0, 0);

-- Users have the group key "" and the id 0, which stands in no row.
CREATE TABLE group_keys (
    project_id INTEGER NOT NULL,
    group_key TEXT NOT NULL,
    data_group_id INTEGER NOT NULL,
    PRIMARY KEY (project_id, group_key),
    UNIQUE (project_id, data_group_id)
) STRICT, WITHOUT ROWID;

-- A rowid table with an index beside it: the index is small enough to count and to page through, and
-- its pages do not carry documents, as those of a WITHOUT ROWID table would. Measured with 1 M profiles of
-- 600 bytes: an upsert costs the same in both; this one loads twice as fast and counts in 0.04 s, not 0.3.
CREATE TABLE profiles (
    project_id INTEGER NOT NULL,
    data_group_id INTEGER NOT NULL,
    id TEXT NOT NULL,
    document TEXT NOT NULL,
    UNIQUE (project_id, data_group_id, id)
) STRICT;

-- Idempotency keys. A bucket holds keys of one day of chunk time (or less, when there are many), so
-- that the oldest go as a range.
CREATE TABLE keys (
    bucket INTEGER NOT NULL,
    key BLOB NOT NULL,
    time_ms INTEGER NOT NULL,
    outcome BLOB,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

-- `dropped` buckets are no longer looked at; their keys are deleted a few at a time.
CREATE TABLE key_buckets (
    bucket INTEGER PRIMARY KEY AUTOINCREMENT,
    day INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    keys INTEGER NOT NULL,
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE VIEW users (project_id, distinct_id, properties, last_seen) AS
SELECT project_id, id, document, document ->> '$."$last_seen"' FROM profiles WHERE data_group_id = 0;

CREATE VIEW groups (project_id, group_key, data_group_id, group_id, properties, last_seen) AS
SELECT p.project_id, g.group_key, p.data_group_id, p.id, p.document, p.document ->> '$."$last_seen"'
FROM group_keys AS g
JOIN profiles AS p ON p.project_id = g.project_id AND p.data_group_id = g.data_group_id;
