"""History under torture: it must take every profile back to what stood at the end of the round before.

Enters: the data folder of a server whose fold has caught up, and what it gave as stored. Leaves: what is
wrong, in words. Each change is taken back and done again; from nothing to what stands there must be no gap
and nothing twice, whatever was killed, cut or filled meanwhile, and whatever was merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from mixdown.model.history import Applied, Change, replay, unwind
from mixdown.store.protocols import State
from mixdown.store.sqlite import open_store
from tests.torture.ledger import ProfileKey
from tests.torture.records import GROUP_KEY

PROJECT: Final = 1
Document = dict[str, Any] | None


class Past:
    """What stood at the end of the last round, and how far the log had come."""

    def __init__(self) -> None:
        self.changes = 0
        self._position = 0
        self._stood: dict[ProfileKey, Document] = {}

    def faults(self, data: Path, stored: Mapping[ProfileKey, Mapping[str, Any]]) -> list[str]:
        """Hold the history of all profiles against what is stored now and what was stored a round ago."""
        store = open_store(data, role="cli", create=False)
        try:
            found = {
                (group_key, name): (document, changes)
                for group_key in ("", GROUP_KEY)
                for name, (document, changes) in _all(store.state, group_key).items()
            }
            head = store.log.head()
        finally:
            store.close()
        wrong = []
        for key in found.keys() | stored.keys() | self._stood.keys():
            document, changes = found.get(key, (None, []))
            if document != stored.get(key):
                wrong.append(f"{key} is not what history begins from")
            fault = self._fault(key, document, changes)
            if fault:
                wrong.append(f"{key}: {fault}")
        self.changes = sum(len(changes) for _, changes in found.values())
        self._position, self._stood = head, {key: document for key, (document, _) in found.items()}
        return wrong

    def _fault(self, key: ProfileKey, document: Document, changes: Sequence[Change]) -> str:
        """What is wrong with the history of one profile; changes come newest first."""
        after, below = document, -1
        stood, known = document, False
        for change in changes:
            first, last = change.records[0].position, change.records[-1].position
            if below >= 0 and last >= below:
                return f"what changed at {first} to {last} is told again at {below}"
            below = first
            before = unwind(after, change)
            if _redone(before, change.records) != after:
                return f"what changed at {first} to {last}, done again, does not give what came of it"
            if not known and first < self._position:
                earlier = [record for record in change.records if record.position < self._position]
                stood, known = _redone(before, earlier), True
            after = before
        if after is not None:
            return "it was there before its history begins"
        if not known:
            stood = None
        if stood == (was := self._stood.get(key)):
            return ""
        return f"before position {self._position} it was {was}, by its history {stood}"


def _redone(before: Document, records: Sequence[Applied]) -> Document:
    """A profile after some records; what was before is left as it is."""
    after: Document = orjson.loads(orjson.dumps(before))
    for after in replay(after, records):  # noqa: B007, B020 - the last one counts
        pass
    return after


def _all(state: State, group_key: str) -> dict[str, tuple[Document, list[Change]]]:
    """Each profile with its changes, newest first; those that are gone too."""
    found: dict[str, tuple[Document, list[Change]]] = {}
    begin: str | None = ""
    while begin is not None:
        part = state.history_between(PROJECT, group_key, begin, None, since_ms=0)
        for name in part.documents.keys() | part.changes.keys():
            document = orjson.loads(part.documents.get(name, b"null"))
            found[name] = (document, part.changes.get(name, []))
        begin = part.end
    return found
