-- Whether a project's records are spread over all partitions of the store; this one has one.
ALTER TABLE projects ADD COLUMN large INTEGER NOT NULL DEFAULT 0;
-- Of a job: the end of its records in each partition's log, and what was erased in each (JSON).
ALTER TABLE deletions ADD COLUMN positions TEXT NOT NULL DEFAULT '[]';
ALTER TABLE deletions ADD COLUMN parts TEXT NOT NULL DEFAULT '[]';
UPDATE deletions SET positions = json_array(position) WHERE position > 0;
