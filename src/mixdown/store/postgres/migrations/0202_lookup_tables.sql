-- Lookup tables. What a table holds is a content, which the table names in the transaction that writes its
-- rows, and which never changes: 0 is none. `columns` is a JSON array of names, that of the key first.
CREATE TABLE mixdown.lookup_tables (
    id text COLLATE "C" CONSTRAINT lookup_tables_id PRIMARY KEY,
    project_id bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    columns text COLLATE "C" NOT NULL,
    row_count bigint NOT NULL,
    size_bytes bigint NOT NULL,
    created_ms bigint NOT NULL,
    replaced_ms bigint NOT NULL,
    content bigint NOT NULL,
    CONSTRAINT lookup_tables_name UNIQUE (project_id, name)
);

-- Contents, also those that no table names any more. Readers keep rows by a content's number: none is given twice.
CREATE TABLE mixdown.lookup_contents (
    number bigint PRIMARY KEY,
    unused_since_ms bigint NOT NULL
);

-- `cells` is a JSON array of texts, the key first; `place` is the row's index in the file that was sent. A key
-- may be longer than an index holds, so it is found by its hash.
CREATE TABLE mixdown.lookup_rows (
    content bigint NOT NULL,
    place integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    cells text COLLATE "C" NOT NULL,
    PRIMARY KEY (content, place)
);
CREATE INDEX lookup_rows_by_key ON mixdown.lookup_rows (content, hashtextextended(key, 0));

-- When a project's tables were replaced, for the limit of a day.
CREATE TABLE mixdown.lookup_replacements (
    project_id bigint NOT NULL,
    time_ms bigint NOT NULL
);
CREATE INDEX lookup_replacements_of_project ON mixdown.lookup_replacements (project_id, time_ms);
