"""Records that were accepted, through a real store and fold and back, and what the operators make of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import msgspec
import orjson

from mixdown.fold.loop import catch_up
from mixdown.http.jsontext import parse_json
from mixdown.ingest.direct import append_raw
from mixdown.ingest.pipeline import rules_of
from mixdown.ingest.prepare import Rules
from mixdown.model.operators import LAST_SEEN, apply_operations
from mixdown.model.payloads import Reading
from mixdown.model.updates import Update, read_update
from mixdown.settings import Settings
from tests.engine import ON_POSTGRES, open_store
from tests.hostile.seeds import TOKEN
from tests.hostile.targets import SEEN, promise

ProfileKey = tuple[int, str, str]


def told(profile: Any) -> object:
    """What a profile says, to the kind of each number.

    PostgreSQL has an order of its own for names, and no zero with a sign.
    """
    if not ON_POSTGRES:
        return repr(profile)
    return repr(
        json.loads(orjson.dumps(profile, option=orjson.OPT_SORT_KEYS), parse_float=_without_sign_of_zero)
    )


def _without_sign_of_zero(number: str) -> float:
    return float(number) + 0.0


class _Nowhere:
    """A geolocation database that knows no address: what it adds is no business of the operators."""

    def lookup(self, ip: str) -> dict[str, str]:
        del ip
        return {}


class StoreCheck:
    """A store of its own; call it with records to have them stored, folded and read back."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(folder, role="fold", create=True)
        self.project = self.store.catalog.create_project(
            "fuzz", token=TOKEN.decode(), secret_hash=b"s" * 32, id_merge="simplified", now_ms=1
        )
        self.rules: Rules = msgspec.structs.replace(rules_of(Settings()), geo=_Nowhere())
        self.expected: dict[ProfileKey, Any] = {}
        self.keys: set[bytes] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def __call__(self, accepted: Iterable[tuple[bytes, bool]]) -> int:
        """How many records were stored; raises where a profile is not what its records make of it."""
        touched: set[ProfileKey] = set()
        stored = 0
        for text, group in accepted:
            raw = parse_json(text).value
            outcome = append_raw(self.store, self.rules, "groups" if group else "engage", [raw], sdk="fuzz")
            promise(outcome.good == 1, "what was accepted is stored")
            stored += 1
            touched.add(self._expect(raw, group=group))
        promise(catch_up(self.store) == stored, "all that was stored is folded")
        promise(not self.store.refusals.listing(None), "the fold refuses nothing that was accepted")
        asked = sorted(touched)
        for key, document in zip(asked, self.store.state.documents(asked), strict=True):
            expected = self.expected.get(key)
            found = None if document is None else orjson.loads(document)
            for profile in (expected, found):
                if profile is not None:
                    profile.pop(LAST_SEEN)
            promise(told(found) == told(expected), "a profile reads as its records make it")
            if expected is not None:
                expected[LAST_SEEN] = SEEN
        return stored

    def _expect(self, raw: Any, *, group: bool) -> ProfileKey:
        projects = {TOKEN.decode(): self.project.id}
        update = read_update(raw, 0, Reading(projects=projects, group=group, hostile=True))
        assert isinstance(update, Update)
        key = (update.project, update.group_key, update.id)
        if update.key is not None:
            if update.key in self.keys:
                return key
            self.keys.add(update.key)
        doc = self.expected.get(key)
        applied = apply_operations(doc, update.operations, geo=None, seen=SEEN, arrival=SEEN, crowd=None)
        self.expected[key] = applied
        return key
