-- Saved filters: an expression, or (NULL) a list of ids. Users have the group key "".
CREATE TABLE mixdown.cohorts (
    id bigint PRIMARY KEY,
    project_id bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    description text COLLATE "C" NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    expression text COLLATE "C",
    created_ms bigint NOT NULL,
    CONSTRAINT cohorts_name UNIQUE (project_id, name)
);

-- The ids of a list, each once, ascending by code point with their place. An id may be longer than an index
-- holds, so it is found by its hash.
CREATE TABLE mixdown.cohort_ids (
    cohort_id bigint NOT NULL,
    place integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    PRIMARY KEY (cohort_id, place)
);
CREATE INDEX cohort_ids_by_id ON mixdown.cohort_ids (hashtextextended(id, 0));
