-- What one group commit appends. `body` stands last: the columns before it are read without its pages.
CREATE TABLE chunks (
    first INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    version INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    filter BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- One row: where the next record goes, the newest chunk's time, the bytes of all bodies held.
-- It outlives the chunks, so that a position is never used again, not even when all are trimmed.
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    held_bytes INTEGER NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, 0, 0);

-- Chunks that could not be read, and why.
CREATE TABLE damaged_chunks (
    first INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE refusals (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    record_index INTEGER NOT NULL,
    field TEXT NOT NULL,
    message TEXT NOT NULL,
    record TEXT NOT NULL,
    whole INTEGER NOT NULL,
    sdk TEXT NOT NULL,
    request_key BLOB,
    time_ms INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX refusals_of_project ON refusals (project, id);
CREATE UNIQUE INDEX refusals_once ON refusals (request_key, record_index) WHERE request_key IS NOT NULL;

-- Kept in step with `refusals` by the same transactions.
CREATE TABLE refusal_counts (
    project INTEGER PRIMARY KEY,
    records INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL
) STRICT;
