-- Ids whose canonical id is another. `since` is 0, or the position from which a legacy alias counts (one more than
-- that of its record): its canonical id is then that of its distinct_id, which stands here. All of it follows from
-- the links below. `long_id`: see profiles.
CREATE TABLE mixdown.identities (
    partition int NOT NULL,
    project_id bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    canonical text COLLATE "C" NOT NULL,
    since bigint NOT NULL,
    long_id text COLLATE "C",
    PRIMARY KEY (partition, project_id, id)
);

-- What linked two ids, where in the log and when; and what undid it (NULL: it is in force). `mode` and `verb` are
-- numbers: simplified 0, original 1, legacy 2; device 0, identify 1, create_alias 2, merge 3.
CREATE TABLE mixdown.identity_links (
    partition int NOT NULL,
    project_id bigint NOT NULL,
    other text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    one text COLLATE "C" NOT NULL,
    time_ms bigint NOT NULL,
    mode int NOT NULL,
    verb int NOT NULL,
    undone_position bigint,
    undone_ms bigint,
    long_one text COLLATE "C",
    long_other text COLLATE "C",
    PRIMARY KEY (partition, project_id, other, position, one)
);
CREATE INDEX identity_links_by_one ON mixdown.identity_links (partition, project_id, one);
