-- AUTOINCREMENT: the id of a deleted project is never given to another.
CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    token TEXT NOT NULL UNIQUE,
    secret_hash BLOB NOT NULL,
    id_merge TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
-- A secret alone finds its project, so no two may share one.
CREATE UNIQUE INDEX projects_by_secret ON projects (secret_hash) WHERE length(secret_hash) > 0;

-- `project_id` is 0 for an owner, who sees every project.
CREATE TABLE accounts (
    username TEXT PRIMARY KEY,
    password_hash BLOB NOT NULL,
    project_id INTEGER NOT NULL,
    role TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX accounts_of_project ON accounts (project_id);

-- One row, raised by every change of projects and accounts.
CREATE TABLE version (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO version VALUES (1, 1);

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
