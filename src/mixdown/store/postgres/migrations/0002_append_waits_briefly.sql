-- A request waits for an append. Nobody holds a partition's head for longer than a moment, but a process that
-- was stopped while it trimmed: who waits for that is told to come again. Set here, it costs no statement.
ALTER FUNCTION mixdown.append SET lock_timeout = '5s';
