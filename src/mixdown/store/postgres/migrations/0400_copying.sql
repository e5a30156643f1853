-- A data folder that is being copied into this database (`mixdown db copy`): which, from which positions of its
-- log the readers go on, up to where its log is taken over, and when all was done. Until then nobody serves it.
CREATE TABLE mixdown.copying (
    one integer PRIMARY KEY CHECK (one = 1),
    copy text NOT NULL,
    source text NOT NULL,
    fold_from bigint NOT NULL,
    events_from bigint NOT NULL,
    log_end bigint NOT NULL,
    shipped bigint NOT NULL,
    began_ms bigint NOT NULL,
    finished_ms bigint NOT NULL
) WITH (fillfactor = 10);

-- How far each step is: the key of the last row that is here, as JSON, written by the transaction of the rows.
CREATE TABLE mixdown.copying_steps (
    step text COLLATE "C" PRIMARY KEY,
    place text NOT NULL,
    rows bigint NOT NULL,
    done boolean NOT NULL
) WITH (fillfactor = 10);
