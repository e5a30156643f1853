-- Whether /track takes events of any age; else, as Mixpanel, those of the last five days.
ALTER TABLE projects ADD COLUMN late_events INTEGER NOT NULL DEFAULT 0;
