-- Which readers a chunk is of interest to: the fold of profiles, and the reader of events. Two columns of 0 and
-- 1, because SQLite tells those from a row's header alone: a reader that has no use for a chunk must not load
-- its body, and a larger number would stand behind that.
ALTER TABLE chunks ADD COLUMN for_profiles INTEGER NOT NULL DEFAULT 1;
ALTER TABLE chunks ADD COLUMN for_events INTEGER NOT NULL DEFAULT 0;
