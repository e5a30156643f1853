"""`make torture`: clients that never give up, against a server whose processes, disk and clock do."""
