"""Putting a profile back as it stood at a time: which operators do it, and the record that carries them.

A state, a profile and a time enter; operators leave, and the record to send. Nothing is sent here: to undo is
one more update of the log, which whoever asked appends.
"""

from __future__ import annotations

from typing import Any

import orjson

from mixdown.query.history import as_of, require_reach, restoring
from mixdown.store.protocols import ProfileKey, State


def undoing(state: State, key: ProfileKey, time_ms: int, what: str) -> dict[str, Any]:
    """The operators that put a profile back as it stood at a time; {} where nothing is to be done.

    Raises `QueryError`, naming `what`, where history does not reach so far. Blocks.
    """
    require_reach(state, time_ms, what)
    then = as_of(state, key, time_ms)
    (document,) = state.documents([key])
    return restoring(None if document is None else orjson.loads(document), then)


def endpoint_for(key: ProfileKey) -> str:
    """Where a record about this profile is sent."""
    return "groups" if key[1] else "engage"


def record_for(token: str, key: ProfileKey, operators: dict[str, Any]) -> dict[str, Any]:
    """The record that applies operators to this very profile, and does not say that it was seen."""
    if key[1]:
        return {"$token": token, "$group_key": key[1], "$group_id": key[2], "$ignore_time": True, **operators}
    named = {"$token": token, "$distinct_id": key[2], "$ignore_alias": True}
    return {**named, "$ignore_time": True, **operators}
