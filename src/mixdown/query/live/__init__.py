"""What arrives, as it arrives: one tail of the log for all who listen at a worker, and counts by kind."""
