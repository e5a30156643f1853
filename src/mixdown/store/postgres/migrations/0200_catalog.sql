-- The catalog: what is small, and the same for all partitions. These tables are never distributed.

-- Every change of projects, accounts, cohorts, lookup tables or the dictionary begins by raising `version` in
-- `catalog`: so changes come one after the other, whichever node makes them, and none meets another's rows
-- halfway. The other columns are the numbers that were given last; none is ever given again.
CREATE TABLE mixdown.catalog (
    one integer PRIMARY KEY CHECK (one = 1),
    version bigint NOT NULL,
    last_project bigint NOT NULL,
    last_account bigint NOT NULL,
    last_cohort bigint NOT NULL,
    last_content bigint NOT NULL,
    last_report bigint NOT NULL,
    last_annotation bigint NOT NULL,
    last_tag bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO mixdown.catalog VALUES (1, 1, 0, 0, 0, 0, 0, 0, 0);

CREATE TABLE mixdown.projects (
    id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL CONSTRAINT projects_name UNIQUE,
    token text COLLATE "C" NOT NULL CONSTRAINT projects_token UNIQUE,
    secret_hash bytea NOT NULL,
    id_merge text COLLATE "C" NOT NULL,
    created_ms bigint NOT NULL,
    rate_limit_records_per_s bigint,
    rate_limit_requests_per_s bigint,
    rate_limit_queries_per_hour bigint,
    late_events boolean NOT NULL DEFAULT false,
    timezone text COLLATE "C" NOT NULL,
    ci_strings boolean NOT NULL DEFAULT false,
    large boolean NOT NULL DEFAULT false
);
-- A secret alone finds its project, so no two may share one.
CREATE UNIQUE INDEX projects_secret_hash ON mixdown.projects (secret_hash) WHERE length(secret_hash) > 0;

-- `project_id` is 0 for an owner, who sees every project; `expires_ms` 0: never. `others` has the projects that
-- an account sees beside its own, and its role in each, as a JSON array of pairs.
CREATE TABLE mixdown.accounts (
    id bigint NOT NULL,
    username text COLLATE "C" NOT NULL CONSTRAINT accounts_username PRIMARY KEY,
    password_hash bytea NOT NULL,
    project_id bigint NOT NULL,
    role text COLLATE "C" NOT NULL,
    created_ms bigint NOT NULL,
    creator text COLLATE "C" NOT NULL,
    expires_ms bigint NOT NULL,
    others text COLLATE "C" NOT NULL
);

CREATE TABLE mixdown.facts (
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

-- Sessions of the explorer that somebody signed out of, until they would have ended by themselves. The session
-- '' stands for all of the account that end by then.
CREATE TABLE mixdown.ended_sessions (
    username text COLLATE "C" NOT NULL,
    session bytea NOT NULL,
    until_s bigint NOT NULL,
    PRIMARY KEY (username, session)
);
