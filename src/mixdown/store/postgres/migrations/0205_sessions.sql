-- Query sessions. One is seen once all its ids are written (`complete`); `used_ms` says, to the minute, when a
-- page was last read.
CREATE TABLE mixdown.sessions (
    id text COLLATE "C" PRIMARY KEY,
    project bigint NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    total bigint NOT NULL,
    page_size integer NOT NULL,
    created_ms bigint NOT NULL,
    output_properties bytea,
    used_ms bigint NOT NULL,
    complete boolean NOT NULL
);
CREATE INDEX sessions_of_project ON mixdown.sessions (project, used_ms);
CREATE INDEX sessions_by_age ON mixdown.sessions (created_ms);

-- The ids of a result set, 1,000 a block, as compressed JSON arrays: compressed once, by who writes them.
CREATE TABLE mixdown.session_blocks (
    session text COLLATE "C" NOT NULL,
    block integer NOT NULL,
    ids bytea NOT NULL,
    PRIMARY KEY (session, block)
);
ALTER TABLE mixdown.session_blocks ALTER COLUMN ids SET STORAGE EXTERNAL;
