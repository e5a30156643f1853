"""The web explorer: pages for people, at `/`. It reads through the rooms below and writes nothing."""
