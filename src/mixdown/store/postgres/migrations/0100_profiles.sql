-- Documents of users (group key '') and groups. Ids have no bound and keys of indexes do: `id` is what stands for
-- one above a kilobyte (`ids.py`), `long_id` then is the id itself, and NULL for all others.
-- Nothing but the primary key is ever indexed here: an update that changes no indexed column stays on its page
-- (HOT), for which each page keeps room. An index on a property would end that for every profile.
CREATE TABLE mixdown.profiles (
    partition int NOT NULL,
    project_id bigint NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    document jsonb NOT NULL,
    long_id text COLLATE "C",
    PRIMARY KEY (partition, project_id, group_key, id)
) WITH (fillfactor = 75);
DO $$
BEGIN
    ALTER TABLE mixdown.profiles ALTER COLUMN document SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL; -- a server built without it keeps its default
END
$$;

-- The number of each group key, of the whole store: every partition may write groups of a large project.
CREATE TABLE mixdown.group_keys (
    project_id bigint NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    data_group_id bigint NOT NULL,
    PRIMARY KEY (project_id, group_key),
    UNIQUE (project_id, data_group_id)
);

-- Idempotency keys. A bucket holds keys of one day of chunk time (or less, when there are many), so that the
-- oldest go as a range; `dropped` ones are no longer looked at, and their keys are deleted a few at a time.
CREATE TABLE mixdown.keys (
    partition int NOT NULL,
    bucket bigint NOT NULL,
    key bytea NOT NULL,
    time_ms bigint NOT NULL,
    outcome bytea,
    PRIMARY KEY (partition, bucket, key)
);
CREATE TABLE mixdown.key_buckets (
    partition int NOT NULL,
    bucket bigint NOT NULL,
    day bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    keys bigint NOT NULL,
    dropped boolean NOT NULL,
    PRIMARY KEY (partition, bucket)
) WITH (fillfactor = 50);

-- In how many profiles a property holds a value of a kind; kept by the transactions that write profiles.
CREATE TABLE mixdown.property_counts (
    partition int NOT NULL,
    project_id bigint NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    profiles bigint NOT NULL,
    PRIMARY KEY (partition, project_id, group_key, name, kind)
) WITH (fillfactor = 75);

-- Users or groups of which only those with ids up to `counted_to` are in `property_counts`.
CREATE TABLE mixdown.uncounted (
    partition int NOT NULL,
    project_id bigint NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    counted_to text COLLATE "C" NOT NULL,
    PRIMARY KEY (partition, project_id, group_key)
);

-- For people and their tools. What a profile holds: properties ->> 'name'.
CREATE VIEW mixdown.users (project_id, distinct_id, properties, last_seen) AS
SELECT project_id, coalesce(long_id, id), document, document ->> '$last_seen'
FROM mixdown.profiles WHERE group_key = '';

CREATE VIEW mixdown.groups (project_id, group_key, data_group_id, group_id, properties, last_seen) AS
SELECT p.project_id, p.group_key, g.data_group_id, coalesce(p.long_id, p.id), p.document,
    p.document ->> '$last_seen'
FROM mixdown.profiles AS p
JOIN mixdown.group_keys AS g ON g.project_id = p.project_id AND g.group_key = p.group_key;
