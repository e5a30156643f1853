-- Stored events, by partition: batches that are in no file yet, and the list of files that lie in the folder
-- or bucket of `events_url`. Whoever holds the lease of a partition's events alone writes its rows: each
-- transaction locks the partition's row of `watermarks` under the lease's fence first.

-- The number that the partition's next file gets, up to where erasures are carried through to its events, and
-- of its request keys: how many there are (of retries, of browsers' calls), and since when they are held.
CREATE TABLE mixdown.event_readers (
    partition int NOT NULL,
    next_file bigint NOT NULL,
    forgotten bigint NOT NULL,
    keys bigint NOT NULL,
    call_keys bigint NOT NULL,
    keys_from_ms bigint NOT NULL,
    call_keys_from_ms bigint NOT NULL,
    PRIMARY KEY (partition)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
INSERT INTO mixdown.event_readers
    SELECT partition, 1, position, 0, 0, 0, 0 FROM mixdown.watermarks WHERE kind = 'events';

-- Events that are in no file yet: those of one project in one step, as ndjson, in a zstd frame where they are
-- many. They come and go within minutes, a day at most, so what they leave is taken up again at once.
CREATE TABLE mixdown.event_hot (
    partition int NOT NULL,
    batch bigint NOT NULL,
    project bigint NOT NULL,
    count bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    written_ms bigint NOT NULL,
    size_bytes bigint NOT NULL, -- of the lines, before they were compressed
    lines bytea NOT NULL,
    PRIMARY KEY (partition, batch)
) WITH (
    autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 5000, toast.autovacuum_vacuum_scale_factor = 0
);
ALTER TABLE mixdown.event_hot ALTER COLUMN lines SET STORAGE EXTERNAL;
CREATE INDEX event_hot_of_project ON mixdown.event_hot (partition, project, batch);

-- The Parquet files that count. day NULL: a recent file, not yet split into days; rows before its begin_ms
-- have moved on.
CREATE TABLE mixdown.event_files (
    partition int NOT NULL,
    number bigint NOT NULL,
    project bigint NOT NULL,
    day bigint,
    count bigint NOT NULL,
    size_bytes bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    begin_ms bigint,
    largest_day bigint NOT NULL, -- events in the day that has most of them
    written_ms bigint NOT NULL,
    dead bigint NOT NULL,
    erased bigint NOT NULL,
    columns text NOT NULL,
    rest text, -- names in the column rest, NULL where they are too many
    PRIMARY KEY (partition, number)
);
CREATE INDEX event_files_of_project ON mixdown.event_files (partition, project, last_ms);
CREATE INDEX event_files_of_day ON mixdown.event_files (partition, project, day);
-- what the upkeep looks for: recent files, and those with rows that are gone
CREATE INDEX event_files_recent ON mixdown.event_files (partition, project, number) WHERE day IS NULL;
CREATE INDEX event_files_dead ON mixdown.event_files (partition, number) WHERE dead > 0;

-- Rows of listed files that count as not there: an event that was sent again, or (erased) forgotten.
CREATE TABLE mixdown.event_dead (
    partition int NOT NULL,
    file bigint NOT NULL,
    position bigint NOT NULL,
    erased boolean NOT NULL,
    PRIMARY KEY (partition, file, position)
);

-- Files that are listed no more; they are unlinked once no read can have them on its list.
CREATE TABLE mixdown.event_removable (
    partition int NOT NULL,
    number bigint NOT NULL,
    project bigint NOT NULL,
    day bigint,
    since_ms bigint, -- NULL: what removed it had no clock; the upkeep notes the time
    erased boolean NOT NULL,
    PRIMARY KEY (partition, number)
);

-- Files that somebody began to make and has not listed yet, under which fence: whoever dies leaves them here.
CREATE TABLE mixdown.event_drafts (
    partition int NOT NULL,
    number bigint NOT NULL,
    project bigint NOT NULL,
    day bigint,
    fence bigint NOT NULL,
    PRIMARY KEY (partition, number)
);

-- Request keys of requests with events (DESIGN G2).
CREATE TABLE mixdown.event_keys (
    partition int NOT NULL,
    key bytea NOT NULL,
    time_ms bigint NOT NULL,
    outcome bytea,
    PRIMARY KEY (partition, key)
);
CREATE INDEX event_keys_by_age ON mixdown.event_keys (partition, length(key), time_ms);

-- What marks the folder or bucket of this database's files, so that no node takes another for it.
CREATE TABLE mixdown.event_home (
    one int PRIMARY KEY CHECK (one = 1),
    mark text NOT NULL
);
INSERT INTO mixdown.event_home VALUES (1, gen_random_uuid()::text);

-- For those who open files with other tools: paths below `events_url`.
CREATE VIEW mixdown.event_paths AS
SELECT project || '/' || CASE WHEN day IS NULL THEN 'recent' ELSE (DATE '1970-01-01' + day::int)::text END
       || '/' || number || '.parquet' AS path,
       project AS project_id, DATE '1970-01-01' + day::int AS day, count AS events, dead
FROM mixdown.event_files;
