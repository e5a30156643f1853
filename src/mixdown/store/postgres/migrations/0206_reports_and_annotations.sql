-- Saved reports (funnels among them) and dashboards: what each asks for is JSON, byte for byte.
CREATE TABLE mixdown.reports (
    id bigint PRIMARY KEY,
    project_id bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    description text COLLATE "C" NOT NULL,
    creator text COLLATE "C" NOT NULL,
    created_ms bigint NOT NULL,
    changed_ms bigint NOT NULL,
    definition bytea NOT NULL,
    CONSTRAINT reports_name UNIQUE (project_id, kind, name)
);

-- Notes on points in time. `moment` is local to the project's zone: YYYY-MM-DD HH:MM:SS; `tags` are ids, ascending.
CREATE TABLE mixdown.annotations (
    id bigint PRIMARY KEY,
    project_id bigint NOT NULL,
    moment text COLLATE "C" NOT NULL,
    description text COLLATE "C" NOT NULL,
    creator text COLLATE "C" NOT NULL,
    created_ms bigint NOT NULL,
    tags bigint[] NOT NULL
);
CREATE INDEX annotations_by_moment ON mixdown.annotations (project_id, moment, id);

CREATE TABLE mixdown.annotation_tags (
    id bigint PRIMARY KEY,
    project_id bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    CONSTRAINT annotation_tags_name UNIQUE (project_id, name)
);
