"""Tests that try to break the guarantees: kill -9, lost fsyncs, retries, faults in the fold."""
