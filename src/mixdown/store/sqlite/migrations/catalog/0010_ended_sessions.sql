-- Sessions of the explorer that somebody signed out of, until they would have ended by themselves. The session
-- X'' stands for all of the account that end by then.
CREATE TABLE ended_sessions (
    username TEXT NOT NULL,
    session BLOB NOT NULL,
    until_s INTEGER NOT NULL,
    PRIMARY KEY (username, session)
) STRICT, WITHOUT ROWID;
