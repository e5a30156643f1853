-- How far the events reader has come in the log, and the number that the next file gets.
CREATE TABLE reader (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    watermark INTEGER NOT NULL,
    next_file INTEGER NOT NULL
) STRICT;
INSERT INTO reader VALUES (1, 0, 1);

-- Request keys, as in state.db.
CREATE TABLE key_buckets (
    bucket INTEGER PRIMARY KEY AUTOINCREMENT,
    day INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    keys INTEGER NOT NULL,
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE keys (
    bucket INTEGER NOT NULL,
    key BLOB NOT NULL,
    time_ms INTEGER NOT NULL,
    outcome BLOB,
    PRIMARY KEY (bucket, key)
) WITHOUT ROWID, STRICT;

-- Events that are in no file yet: those of one project in one step, as ndjson.
CREATE TABLE hot (
    batch INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL,
    count INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    written_ms INTEGER NOT NULL,
    lines BLOB NOT NULL
) STRICT;
CREATE INDEX hot_of_project ON hot (project, batch);

-- The Parquet files that count. day NULL: a recent file, not yet split into days; rows before its begin_ms
-- have moved on.
CREATE TABLE files (
    number INTEGER PRIMARY KEY,
    project INTEGER NOT NULL,
    day INTEGER,
    count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    begin_ms INTEGER,
    largest_day INTEGER NOT NULL, -- events in the day that has most of them
    written_ms INTEGER NOT NULL,
    dead INTEGER NOT NULL DEFAULT 0,
    erased INTEGER NOT NULL DEFAULT 0,
    columns TEXT NOT NULL,
    rest TEXT -- names in the column rest, NULL where they are too many
) STRICT;
CREATE INDEX files_of_project ON files (project, last_ms);
CREATE INDEX files_of_day ON files (project, day);

-- Rows of listed files that count as not there: an event that was sent again, or (erased) forgotten.
CREATE TABLE dead (
    file INTEGER NOT NULL REFERENCES files (number) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    erased INTEGER NOT NULL,
    PRIMARY KEY (file, position)
) WITHOUT ROWID, STRICT;

-- Files that are listed no more; they are unlinked once no read can have them on its list.
CREATE TABLE removable (
    number INTEGER PRIMARY KEY,
    project INTEGER NOT NULL,
    day INTEGER,
    since_ms INTEGER, -- NULL: what removed it had no clock; the upkeep notes the time
    erased INTEGER NOT NULL
) STRICT;

-- For those who open files with other tools: paths below the folder `events`.
CREATE VIEW event_files (path, project_id, day, events, dead) AS
SELECT project || '/' || coalesce(date(day * 86400, 'unixepoch'), iif(day IS NULL, 'recent', 'day ' || day))
       || '/' || number || '.parquet',
       project, date(day * 86400, 'unixepoch'), count, dead
FROM files;
