-- The bytes of the values that a segment was the first to name: they count towards how much history may take.
ALTER TABLE history_segments ADD COLUMN value_bytes INTEGER NOT NULL DEFAULT 0;
