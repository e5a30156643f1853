-- What the fold changed: `store/history.py` says how it is written down. A segment is what one step changed, or
-- what several did, merged. Segments in the state 0 cover ranges of positions that do not overlap; 1 is one that
-- is being merged, as far as `done_project`, `done_key` and `done_id`; 2 is one that goes, a piece at a time.
CREATE TABLE history_segments (
    segment INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    first_position INTEGER NOT NULL,
    last_position INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    done_project INTEGER NOT NULL DEFAULT 0,
    done_key TEXT NOT NULL DEFAULT '',
    done_id TEXT NOT NULL DEFAULT ''
) STRICT;

-- Written one behind the other, and found by id within a segment.
CREATE TABLE history_blocks (
    segment INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    group_key TEXT NOT NULL,
    first_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (segment, project_id, group_key, first_id, number)
) STRICT, WITHOUT ROWID;

-- Values above 8 kB, each once; `last_ms` is when it last came or went.
CREATE TABLE history_values (
    project_id INTEGER NOT NULL,
    group_key TEXT NOT NULL,
    id TEXT NOT NULL,
    digest TEXT NOT NULL,
    last_ms INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (project_id, group_key, id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX history_values_by_age ON history_values (last_ms);

-- From when on everything that changed is here; `broken` where something was written without history since.
CREATE TABLE history_reach (
    since_ms INTEGER NOT NULL,
    broken INTEGER NOT NULL
) STRICT;
INSERT INTO history_reach SELECT 0, max(position) > 0 FROM watermarks;
