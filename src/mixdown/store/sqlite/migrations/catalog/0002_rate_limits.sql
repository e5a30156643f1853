-- A project's own rate limits; NULL: those of the server's settings, 0: none.
ALTER TABLE projects ADD COLUMN rate_limit_records_per_s INTEGER;
ALTER TABLE projects ADD COLUMN rate_limit_requests_per_s INTEGER;
ALTER TABLE projects ADD COLUMN rate_limit_queries_per_hour INTEGER;
