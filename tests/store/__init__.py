"""The store room: one contract for every store, then what is SQLite's alone."""
