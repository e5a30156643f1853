"""Durable state behind protocols: the log, profiles, catalog, refusals and query sessions."""
