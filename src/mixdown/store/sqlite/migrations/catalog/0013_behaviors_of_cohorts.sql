-- Counts of events that a cohort's expression reads, as JSON; '': none.
ALTER TABLE cohorts ADD COLUMN behaviors TEXT NOT NULL DEFAULT '';
