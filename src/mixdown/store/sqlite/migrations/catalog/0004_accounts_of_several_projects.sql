-- Accounts get a number, who made them, and an end (`expires_ms`, 0: never).
CREATE TABLE numbered_accounts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL UNIQUE,
    password_hash BLOB NOT NULL,
    project_id INTEGER NOT NULL,
    role TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    creator TEXT NOT NULL DEFAULT '',
    expires_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO numbered_accounts (username, password_hash, project_id, role, created_ms)
SELECT username, password_hash, project_id, role, created_ms FROM accounts ORDER BY created_ms, username;
DROP TABLE accounts;
ALTER TABLE numbered_accounts RENAME TO accounts;

-- The projects that an account sees beside its own (`accounts.project_id`), and its role in each.
CREATE TABLE account_projects (
    username TEXT NOT NULL,
    project_id INTEGER NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (username, project_id)
) STRICT, WITHOUT ROWID;
