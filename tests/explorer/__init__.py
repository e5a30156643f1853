"""The page at `/` and its cookie."""
