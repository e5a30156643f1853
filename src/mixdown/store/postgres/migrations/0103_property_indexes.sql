-- Indexes on properties that were asked for, of the whole store.
CREATE TABLE mixdown.property_indexes (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id bigint NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    UNIQUE (project_id, group_key, name)
);

-- How far each partition has built one: from the first id on, up to `built_to`. One that is not asked for any more
-- is taken away, a piece at a time.
CREATE TABLE mixdown.property_index_parts (
    partition int NOT NULL,
    index_number bigint NOT NULL,
    built_to text COLLATE "C" NOT NULL,
    complete boolean NOT NULL,
    PRIMARY KEY (partition, index_number)
);

-- A profile's value, as bytes that compare as values do, cut; empty where it has none that is indexed.
CREATE TABLE mixdown.property_values (
    partition int NOT NULL,
    index_number bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (partition, index_number, id)
);
CREATE INDEX property_values_by_value ON mixdown.property_values (partition, index_number, value)
    WHERE value > '\x';
