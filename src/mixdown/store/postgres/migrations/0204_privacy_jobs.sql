-- Jobs of data protection. Whatever changes more than one row, or counts rows first, holds this row.
CREATE TABLE mixdown.privacy_turn (
    one integer PRIMARY KEY CHECK (one = 1)
);
INSERT INTO mixdown.privacy_turn VALUES (1);

-- Deletions of people. `ids` is a JSON array, and empty once they are erased. `positions` has the end of a job's
-- records in each partition's log, `parts` what was erased in each, both as JSON.
CREATE TABLE mixdown.deletions (
    id text COLLATE "C" PRIMARY KEY,
    project_id bigint NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    ids text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    requested_by text COLLATE "C" NOT NULL,
    compliance_type text COLLATE "C" NOT NULL,
    requested_ms bigint NOT NULL,
    due_ms bigint NOT NULL,
    claimed_ms bigint NOT NULL,
    positions text COLLATE "C" NOT NULL,
    finished_ms bigint NOT NULL,
    report bytea NOT NULL,
    parts text COLLATE "C" NOT NULL
);
CREATE INDEX deletions_of_project ON mixdown.deletions (project_id, requested_ms);
CREATE INDEX deletions_unfinished ON mixdown.deletions (requested_ms, id)
    WHERE status IN ('PENDING', 'STAGING', 'STARTED');

-- Retrievals of people's data: who may fetch what. The data is read when it is fetched.
CREATE TABLE mixdown.retrievals (
    id text COLLATE "C" PRIMARY KEY,
    project_id bigint NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    ids text COLLATE "C" NOT NULL,
    requested_by text COLLATE "C" NOT NULL,
    compliance_type text COLLATE "C" NOT NULL,
    disclosure_type text COLLATE "C" NOT NULL,
    requested_ms bigint NOT NULL
);
CREATE INDEX retrievals_of_project ON mixdown.retrievals (project_id, requested_ms);
