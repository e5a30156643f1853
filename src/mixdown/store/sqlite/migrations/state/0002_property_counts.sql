-- In how many profiles a property holds a value of a kind; kept by the transactions that write profiles.
CREATE TABLE property_counts (
    project_id INTEGER NOT NULL,
    data_group_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    profiles INTEGER NOT NULL,
    PRIMARY KEY (project_id, data_group_id, name, kind)
) STRICT, WITHOUT ROWID;

-- Users or groups of which only those with ids up to `counted_to` are in `property_counts`.
CREATE TABLE uncounted (
    project_id INTEGER NOT NULL,
    data_group_id INTEGER NOT NULL,
    counted_to TEXT NOT NULL,
    PRIMARY KEY (project_id, data_group_id)
) STRICT, WITHOUT ROWID;
INSERT INTO uncounted SELECT DISTINCT project_id, data_group_id, '' FROM profiles;
