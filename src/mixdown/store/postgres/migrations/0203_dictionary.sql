-- The data dictionary: what people write of events and profiles, a JSON schema for each, byte for byte.
CREATE TABLE mixdown.dictionary (
    project_id bigint NOT NULL,
    entity_type text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    changed_ms bigint NOT NULL,
    schema bytea NOT NULL,
    PRIMARY KEY (project_id, entity_type, name)
);
