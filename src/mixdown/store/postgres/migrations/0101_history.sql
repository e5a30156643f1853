-- What the fold changed: `store/history.py` says how it is written down. A segment is what one step changed, or
-- what several did, merged. Segments in the state 0 cover ranges of positions that do not overlap; 1 is one that
-- is being merged, as far as `done_project`, `done_key` and `done_id`; 2 is one that goes, a piece at a time.
CREATE TABLE mixdown.history_segments (
    partition int NOT NULL,
    segment bigint NOT NULL,
    state int NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    bytes bigint NOT NULL,
    value_bytes bigint NOT NULL,
    done_project bigint NOT NULL DEFAULT 0,
    done_key text COLLATE "C" NOT NULL DEFAULT '',
    done_id text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (partition, segment)
);

-- Written one behind the other, and found by id within a segment. `first_id` is cut to a kilobyte, which keeps
-- the order of ids. What is compressed already stays as it is.
CREATE TABLE mixdown.history_blocks (
    partition int NOT NULL,
    segment bigint NOT NULL,
    project_id bigint NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    first_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (partition, segment, project_id, group_key, first_id, number)
);
ALTER TABLE mixdown.history_blocks ALTER COLUMN data SET STORAGE EXTERNAL;

-- Values above 8 kB, each once; `last_ms` is when it last came or went.
CREATE TABLE mixdown.history_values (
    partition int NOT NULL,
    project_id bigint NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    last_ms bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (partition, project_id, group_key, id, digest)
);
ALTER TABLE mixdown.history_values ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX history_values_by_age ON mixdown.history_values (partition, last_ms);

-- From when on everything that changed is here; `broken` where something was written without history since.
-- A partition without a row: from the beginning.
CREATE TABLE mixdown.history_reach (
    partition int PRIMARY KEY,
    since_ms bigint NOT NULL,
    broken boolean NOT NULL
) WITH (fillfactor = 10);
