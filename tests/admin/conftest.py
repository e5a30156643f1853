"""A server in process, on the memory store and on SQLite."""

from tests.reads.conftest import plain_world, world

__all__ = ["plain_world", "world"]
