"""From raw records to a durable chunk: validate, enrich, group commit."""
