-- The data dictionary: what people write of events and profiles, a JSON schema for each. `schema` stands last:
-- the columns before it are read without its pages.
CREATE TABLE dictionary (
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    entity_type TEXT NOT NULL,
    name TEXT NOT NULL,
    changed_ms INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    schema TEXT NOT NULL,
    UNIQUE (project_id, entity_type, name)
) STRICT;
