"""The way of a record from request to profile, in process: ingestion, group commit and fold together."""
