"""`make torture-postgres`: nodes on a PostgreSQL that dies, moves, hangs and cannot be reached."""
