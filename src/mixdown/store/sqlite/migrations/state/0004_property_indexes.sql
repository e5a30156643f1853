-- Indexes on properties that were asked for. Built from the first id on; `built_to` says how far.
CREATE TABLE property_indexes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL,
    data_group_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    built_to TEXT NOT NULL DEFAULT '',
    complete INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX property_indexes_once ON property_indexes (project_id, data_group_id, name)
    WHERE NOT dropped;

-- A profile's value, as bytes that compare as values do, cut; empty where it has none that is indexed. By id,
-- since a VACUUM may give rows other rowids.
CREATE TABLE property_values (
    index_number INTEGER NOT NULL,
    id TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (index_number, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX property_values_by_value ON property_values (index_number, value) WHERE value > x'';
