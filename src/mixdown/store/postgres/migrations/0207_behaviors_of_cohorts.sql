-- Counts of events that a cohort's expression reads, as JSON; '': none.
ALTER TABLE mixdown.cohorts ADD COLUMN behaviors text COLLATE "C" NOT NULL DEFAULT '';
