-- Deletions of people. `ids` is a JSON array, and empty once they are erased.
CREATE TABLE deletions (
    id TEXT PRIMARY KEY,
    project_id INTEGER NOT NULL,
    group_key TEXT NOT NULL,
    ids TEXT NOT NULL,
    count INTEGER NOT NULL,
    status TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    compliance_type TEXT NOT NULL,
    requested_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    claimed_ms INTEGER NOT NULL,
    position INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL,
    report BLOB NOT NULL
) STRICT;
CREATE INDEX deletions_of_project ON deletions (project_id, requested_ms);
CREATE INDEX deletions_unfinished ON deletions (requested_ms) WHERE status IN ('PENDING', 'STAGING', 'STARTED');

-- Retrievals of people's data: who may fetch what. The data is read when it is fetched.
CREATE TABLE retrievals (
    id TEXT PRIMARY KEY,
    project_id INTEGER NOT NULL,
    group_key TEXT NOT NULL,
    ids TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    compliance_type TEXT NOT NULL,
    disclosure_type TEXT NOT NULL,
    requested_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX retrievals_of_project ON retrievals (project_id, requested_ms);
