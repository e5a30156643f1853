"""Reports: answers that are figures of many events, counted in DuckDB (contract query §5.1)."""
