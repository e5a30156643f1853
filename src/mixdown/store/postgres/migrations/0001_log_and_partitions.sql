-- Everything lives in a schema of its own. Texts that are compared or sorted are COLLATE "C": code points in
-- order, as in the embedded store. No foreign keys, sequences or triggers: the tables of partitions are to be
-- spread over a cluster.
CREATE SCHEMA IF NOT EXISTS mixdown;

CREATE TABLE mixdown.migrations (
    number int PRIMARY KEY,
    name text NOT NULL,
    taken_at timestamptz NOT NULL
);

-- One row: how many partitions there are, which was chosen when the store was made and never changes.
CREATE TABLE mixdown.layout (
    one int PRIMARY KEY CHECK (one = 1),
    partitions int NOT NULL
);
INSERT INTO mixdown.layout VALUES (1, current_setting('mixdown.partitions')::int);

-- A row for each partition: where its next record goes, its newest chunk's time, the bytes of the bodies it
-- holds as they are stored, where ids were parted last, the id of the newest refusal that ever came. It outlives the chunks, so
-- that a position is never used again. Positions and ids of partition n count from n << 44. There is room on the page,
-- so that the row is changed within it.
CREATE TABLE mixdown.heads (
    partition int NOT NULL,
    position bigint NOT NULL,
    time_ms bigint NOT NULL,
    held_bytes bigint NOT NULL,
    parted bigint NOT NULL,
    newest_refusal bigint NOT NULL,
    PRIMARY KEY (partition)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
INSERT INTO mixdown.heads
    SELECT number, number::bigint << 44, 0, 0, number::bigint << 44, number::bigint << 44
    FROM generate_series(0, current_setting('mixdown.partitions')::int - 1) AS number;

-- What one group commit appends. `packed` is the body, compressed by whoever appends, `body_bytes` its length
-- before. `checksum` is over count, format, kinds, filter and packed body.
CREATE TABLE mixdown.chunks (
    partition int NOT NULL,
    first bigint NOT NULL,
    count int NOT NULL,
    time_ms bigint NOT NULL,
    version int NOT NULL,
    kinds int NOT NULL,
    checksum bigint NOT NULL,
    body_bytes int NOT NULL,
    filter bytea NOT NULL,
    packed bytea NOT NULL,
    PRIMARY KEY (partition, first)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.5);
ALTER TABLE mixdown.chunks ALTER filter SET STORAGE EXTERNAL, ALTER packed SET STORAGE EXTERNAL;

-- Chunks that could not be read, and why.
CREATE TABLE mixdown.damaged_chunks (
    partition int NOT NULL,
    first bigint NOT NULL,
    count bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (partition, first)
);

CREATE TABLE mixdown.refusals (
    partition int NOT NULL,
    id bigint NOT NULL,
    project bigint NOT NULL,
    endpoint text COLLATE "C" NOT NULL,
    record_index int NOT NULL,
    field text COLLATE "C" NOT NULL,
    message text COLLATE "C" NOT NULL,
    record text COLLATE "C" NOT NULL,
    whole boolean NOT NULL,
    sdk text COLLATE "C" NOT NULL,
    request_key bytea,
    time_ms bigint NOT NULL,
    size_bytes int NOT NULL,
    PRIMARY KEY (partition, id)
);
CREATE INDEX refusals_of_project ON mixdown.refusals (partition, project, id);
CREATE UNIQUE INDEX refusals_once ON mixdown.refusals (partition, request_key, record_index)
    WHERE request_key IS NOT NULL;

-- Kept in step with `refusals` by the same transactions.
CREATE TABLE mixdown.refusal_counts (
    partition int NOT NULL,
    project bigint NOT NULL,
    records bigint NOT NULL,
    size_bytes bigint NOT NULL,
    PRIMARY KEY (partition, project)
) WITH (fillfactor = 50);

-- Keeps refusals, in order, and lets the oldest of a project go that is over its bounds. In a function, so that
-- it is one statement, whose locks are held no longer than it runs. `refused` is a list of objects.
CREATE FUNCTION mixdown.keep_refusals(
    its_partition int, now_ms bigint, refused json,
    records_bound bigint, bytes_bound bigint, unknown_records_bound bigint, unknown_bytes_bound bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    total int := json_array_length(refused);
    last_before bigint;
    its_time_ms bigint;
    added record;
    oldest record;
    held bigint;
    held_size bigint;
    gone bigint;
BEGIN
    -- before all else: who changes refusals of a partition holds its head, so nobody waits in a circle
    UPDATE mixdown.heads AS h SET newest_refusal = h.newest_refusal + total
        WHERE h.partition = its_partition
        RETURNING h.newest_refusal - total, greatest(h.time_ms, now_ms) INTO STRICT last_before, its_time_ms;
    INSERT INTO mixdown.refusals (partition, id, project, endpoint, record_index, field, message, record, whole,
            sdk, request_key, time_ms, size_bytes)
        SELECT its_partition, last_before + r.place, r.project, r.endpoint, r.record_index,
            r.field, r.message, r.record, r.whole, r.sdk, decode(r.request_key, 'hex'), its_time_ms, r.size_bytes
        FROM json_to_recordset(refused) AS r (place int, project bigint, endpoint text, record_index int,
            field text, message text, record text, whole boolean, sdk text, request_key text, size_bytes int)
        ON CONFLICT (partition, request_key, record_index) WHERE request_key IS NOT NULL DO NOTHING;
    FOR added IN
        SELECT r.project, count(*) AS records, sum(r.size_bytes)::bigint AS size_bytes FROM mixdown.refusals AS r
        WHERE r.partition = its_partition AND r.id > last_before
        GROUP BY r.project ORDER BY r.project
    LOOP
        INSERT INTO mixdown.refusal_counts AS c (partition, project, records, size_bytes)
            VALUES (its_partition, added.project, added.records, added.size_bytes)
            ON CONFLICT (partition, project) DO UPDATE SET
                records = c.records + excluded.records, size_bytes = c.size_bytes + excluded.size_bytes
            RETURNING c.records, c.size_bytes INTO held, held_size;
        IF added.project = 0 THEN
            CONTINUE WHEN held <= unknown_records_bound AND held_size <= unknown_bytes_bound;
        ELSE
            CONTINUE WHEN held <= records_bound AND held_size <= bytes_bound;
        END IF;
        gone := 0;
        FOR oldest IN
            SELECT r.id, r.size_bytes FROM mixdown.refusals AS r
            WHERE r.partition = its_partition AND r.project = added.project ORDER BY r.id
        LOOP
            IF added.project = 0 THEN
                EXIT WHEN held <= unknown_records_bound AND held_size <= unknown_bytes_bound;
            ELSE
                EXIT WHEN held <= records_bound AND held_size <= bytes_bound;
            END IF;
            held := held - 1;
            held_size := held_size - oldest.size_bytes;
            gone := oldest.id;
        END LOOP;
        DELETE FROM mixdown.refusals AS r
            WHERE r.partition = its_partition AND r.project = added.project AND r.id <= gone;
        UPDATE mixdown.refusal_counts AS c SET records = held, size_bytes = held_size
            WHERE c.partition = its_partition AND c.project = added.project;
    END LOOP;
END
$$;

-- Appends a chunk, and the refusals that came with it. A position is taken by changing the partition's head, in
-- the transaction that inserts the chunk: positions become visible in order. All that it needs has arrived when
-- it begins, so a sender that is cut off holds no lock. Where `parted_at` is given and ids were parted since,
-- nothing is done, and `first` is null.
CREATE FUNCTION mixdown.append(
    its_partition int, records int, now_ms bigint, parted_at bigint, parts boolean,
    its_version int, its_kinds int, its_checksum bigint, its_bytes int, its_filter bytea, its_packed bytea,
    refused json,
    records_bound bigint, bytes_bound bigint, unknown_records_bound bigint, unknown_bytes_bound bigint,
    OUT first bigint, OUT time_ms bigint, OUT parted bigint
) LANGUAGE plpgsql AS $$
DECLARE
    head record;
BEGIN
    UPDATE mixdown.heads AS h SET
            position = h.position + records,
            time_ms = CASE WHEN records > 0 THEN greatest(h.time_ms, now_ms) ELSE h.time_ms END,
            held_bytes = h.held_bytes + octet_length(its_packed),
            parted = CASE WHEN parts THEN h.position + records ELSE h.parted END
        WHERE h.partition = its_partition AND (parted_at IS NULL OR h.parted = parted_at)
        RETURNING h.position - records AS first, greatest(h.time_ms, now_ms) AS time_ms, h.parted INTO head;
    IF NOT FOUND THEN
        SELECT h.parted INTO STRICT parted FROM mixdown.heads AS h WHERE h.partition = its_partition;
        RETURN;
    END IF;
    first := head.first;
    time_ms := head.time_ms;
    parted := head.parted;
    IF records > 0 THEN
        INSERT INTO mixdown.chunks (partition, first, count, time_ms, version, kinds, checksum, body_bytes,
                filter, packed)
            VALUES (its_partition, head.first, records, head.time_ms, its_version, its_kinds, its_checksum,
                its_bytes, its_filter, its_packed);
    END IF;
    IF refused IS NOT NULL THEN
        PERFORM mixdown.keep_refusals(its_partition, head.time_ms, refused, records_bound, bytes_bound,
            unknown_records_bound, unknown_bytes_bound);
    END IF;
END
$$;

-- How far each reader has come in each partition, and the fence of its newest lease: whoever writes names both.
CREATE TABLE mixdown.watermarks (
    partition int NOT NULL,
    kind text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    fence bigint NOT NULL,
    PRIMARY KEY (partition, kind)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
INSERT INTO mixdown.watermarks
    SELECT number, kind, number::bigint << 44, 0
    FROM generate_series(0, current_setting('mixdown.partitions')::int - 1) AS number,
        (VALUES ('fold'), ('events')) AS kinds (kind);

-- Which process reads which partition, and until when it may, by the database's clock. Each taking raises the
-- fence.
CREATE TABLE mixdown.leases (
    kind text COLLATE "C" NOT NULL,
    partition int NOT NULL,
    holder text COLLATE "C",
    fence bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (kind, partition)
) WITH (fillfactor = 10);
INSERT INTO mixdown.leases
    SELECT kind, number, NULL, 0, '-infinity'
    FROM generate_series(0, current_setting('mixdown.partitions')::int - 1) AS number,
        (VALUES ('fold'), ('events')) AS kinds (kind);

-- The processes among which leases are shared.
CREATE TABLE mixdown.members (
    kind text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (kind, holder)
) WITH (fillfactor = 10);
