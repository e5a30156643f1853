"""The number that stands for a group key, the same on every store (`data_group_id` in queries)."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

GROUP_ID_MAX: Final = (1 << 53) - 1
"""Clients read the number as a double."""


def group_id_of(project: int, group_key: str) -> int:
    """The data_group_id that a group key gets if it is free: positive, at most `GROUP_ID_MAX`."""
    named = f"{project}\0{group_key}".encode("utf-8", "surrogatepass")
    return (int.from_bytes(blake2b(named, digest_size=8).digest(), "big") & GROUP_ID_MAX) or 1


def next_group_id(group_id: int) -> int:
    """The number to try when `group_id` is another group key's."""
    return group_id % GROUP_ID_MAX + 1
