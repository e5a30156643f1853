-- The position behind the last record that undid links between ids: whoever leaves a link out of the log because
-- it stands there already must know that nothing undid it since.
ALTER TABLE head ADD COLUMN parted INTEGER NOT NULL DEFAULT 0;
