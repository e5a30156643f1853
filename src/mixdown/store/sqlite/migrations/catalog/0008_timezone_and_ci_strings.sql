-- The zone of a project's days and of times without an offset, and whether texts are equal whatever their case.
ALTER TABLE projects ADD COLUMN timezone TEXT NOT NULL DEFAULT 'UTC';
ALTER TABLE projects ADD COLUMN ci_strings INTEGER NOT NULL DEFAULT 0;
