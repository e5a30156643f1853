-- When a page of the session was last read, to the minute: past a project's bound the one unused longest goes.
ALTER TABLE sessions ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET used_ms = created_ms;
