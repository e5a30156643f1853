-- Up to where in the log people's erasures have been carried through to their events.
ALTER TABLE reader ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
