-- Saved filters: an expression, or (NULL) a list of ids. AUTOINCREMENT: clients keep the number of a cohort.
-- Users have the group key "".
CREATE TABLE cohorts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    group_key TEXT NOT NULL,
    expression TEXT,
    created_ms INTEGER NOT NULL,
    UNIQUE (project_id, name)
) STRICT;

CREATE TABLE cohort_ids (
    cohort_id INTEGER NOT NULL REFERENCES cohorts (id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    PRIMARY KEY (cohort_id, id)
) STRICT, WITHOUT ROWID;
