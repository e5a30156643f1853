"""Group keys as callers name them: by number or by name (contract query §7).

A state, a project and what a caller wrote enter; the name of a group key leaves.
"""

from __future__ import annotations

from typing import Final

from mixdown.model.errors import QueryError
from mixdown.store.protocols import State

NAMED_LIMIT: Final = 20


def group_key_of(state: State, project: int, asked: str) -> str:
    """The name of the group key that `data_group_id` gives by number or by name; "" stands for users.

    Raises `QueryError` (400), which lists some of the project's group keys, and `StoreError`.
    """
    if not asked:
        return ""
    known = state.group_keys(project)
    by_id = {str(number): name for name, number in known.items()}
    name = by_id.get(asked, asked)
    if name not in known:
        some = sorted(known.items())[:NAMED_LIMIT]
        keys = ", ".join(f"{key} ({number})" for key, number in some) or "none"
        raise QueryError(
            f"data_group_id, no group key of this project has this id or name; its group keys: {keys}",
            status=400,
        )
    return name
