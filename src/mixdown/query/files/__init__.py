"""Profiles and events as files: rows, columns, cells, and the forms that a file has."""
