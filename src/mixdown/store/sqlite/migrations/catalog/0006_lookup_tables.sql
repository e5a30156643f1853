-- Lookup tables. What a table holds is a content, written row by row before the table names it, and never
-- changed: 0 is none. `columns` is a JSON array of names, that of the key first.
CREATE TABLE lookup_tables (
    id TEXT PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    columns TEXT NOT NULL,
    row_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    replaced_ms INTEGER NOT NULL,
    content INTEGER NOT NULL,
    UNIQUE (project_id, name)
) STRICT;

-- Contents, also those that no table names (any more). AUTOINCREMENT: readers keep rows by a content's number.
CREATE TABLE lookup_contents (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    unused_since_ms INTEGER NOT NULL
) STRICT;

-- `cells` is a JSON array of texts, the key first; `place` is the row's index in the file that was sent.
CREATE TABLE lookup_rows (
    content INTEGER NOT NULL,
    key TEXT NOT NULL,
    place INTEGER NOT NULL,
    cells TEXT NOT NULL,
    PRIMARY KEY (content, key)
) STRICT, WITHOUT ROWID;

-- When a project's tables were replaced, for the limit of a day.
CREATE TABLE lookup_replacements (
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    time_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX lookup_replacements_of_project ON lookup_replacements (project_id, time_ms);
