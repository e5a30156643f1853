-- Saved reports (funnels among them) and dashboards: what each asks for is JSON. AUTOINCREMENT: clients keep the
-- number of a report. `definition` stands last: the columns before it are read without its pages.
CREATE TABLE reports (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    creator TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    definition TEXT NOT NULL,
    UNIQUE (project_id, kind, name)
) STRICT;

-- Notes on points in time. `moment` is local to the project's zone: YYYY-MM-DD HH:MM:SS.
CREATE TABLE annotations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    moment TEXT NOT NULL,
    description TEXT NOT NULL,
    creator TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX annotations_by_moment ON annotations (project_id, moment, id);

CREATE TABLE annotation_tags (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    UNIQUE (project_id, name)
) STRICT;

CREATE TABLE annotations_tagged (
    annotation_id INTEGER NOT NULL REFERENCES annotations (id) ON DELETE CASCADE,
    tag_id INTEGER NOT NULL REFERENCES annotation_tags (id) ON DELETE CASCADE,
    PRIMARY KEY (annotation_id, tag_id)
) STRICT, WITHOUT ROWID;
