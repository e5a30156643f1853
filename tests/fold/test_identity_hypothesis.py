"""Any sequence of links, unmerges, erasures and updates, in any grouping and with any crash, gives the same.

The reference reads the sequence one record at a time (`tests.model.identity_reference`) and keeps profiles as
dictionaries; the product folds it in steps of any size, and again from its watermark after a crash.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixdown.fold import identity
from mixdown.fold.profiles import ProfileFold
from mixdown.model.errors import StoreError
from mixdown.model.identity import Identities
from mixdown.model.operators import Operator
from mixdown.model.updates import IGNORE_ALIAS, Update
from mixdown.store.chunk import Link, Segment, encode_segment
from mixdown.store.identities import UNMERGE
from mixdown.store.memory import MemoryStore
from mixdown.store.memory_state import MemoryState
from mixdown.store.privacy import ENDPOINT as ERASE
from mixdown.store.protocols import Append, FoldResult, Store
from tests import engine
from tests.model.identity_reference import Reference
from tests.store.support import append, appending_events

PROJECT = 1
UUID = "0b5bd3f5-9c6f-4b7e-8f5e-2a1c3d4e5f60"
IDS = ["u1", "u2", "a1", "a2", UUID, "$device:D", "$device:E"]
MODES = ["simplified", "original", "legacy"]
Record = tuple[str, ...]


def links(modes: Sequence[str]) -> st.SearchStrategy[Record]:
    """A link; those of devices begin with one."""
    verbs = st.sampled_from(["identify", "create_alias", "merge"])
    pairs = st.tuples(
        st.just("link"), st.sampled_from(modes), verbs, st.sampled_from(IDS), st.sampled_from(IDS)
    )
    devices = st.tuples(
        st.just("link"),
        st.sampled_from(modes),
        st.just("device"),
        st.sampled_from(IDS[-2:]),
        st.sampled_from(IDS),
    )
    return pairs | devices


def sequences(modes: Sequence[str]) -> st.SearchStrategy[list[Record]]:
    """Records of one project."""
    some_id = st.sampled_from(IDS)
    updates = st.tuples(st.sampled_from(["set", "add", "delete"]), some_id, st.sampled_from(["", "literal"]))
    others = st.tuples(st.sampled_from(["unmerge", "erase"]), some_id)
    return st.lists(links(modes) | updates | updates | others, max_size=30)


def expected(records: Sequence[Record]) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Canonical ids and profiles, one record after the other."""
    naive = Reference()
    profiles: dict[str, dict[str, Any]] = {}
    for position, (kind, *rest) in enumerate(records):
        if kind == "link":
            mode, verb, one, other = rest
            naive.link(mode, verb, one, other, position)
            continue
        if kind in ("unmerge", "erase"):
            naive.unmerge(rest[0])
            if kind == "erase":
                profiles.pop(rest[0], None)
            continue
        owner = rest[0] if rest[1] else naive.canonical(rest[0])
        if kind == "delete":
            profiles.pop(owner, None)
        elif kind == "set":
            profiles.setdefault(owner, {})["at"] = position
        else:
            profile = profiles.setdefault(owner, {})
            profile["n"] = profile.get("n", 0) + 1
    return {each: naive.canonical(each) for each in IDS}, profiles


def appended(record: Record, position: int) -> Append:
    """A record as a request's share of a chunk."""
    kind, *rest = record
    if kind == "link":
        mode, verb, one, other = rest
        return appending_events(one, links=[Link(0, PROJECT, mode, verb, one, other)])
    operations: list[tuple[int, Any]] = {
        "set": [(int(Operator.SET), {"at": position})],
        "add": [(int(Operator.ADD), {"n": 1})],
        "unmerge": [],
    }.get(kind, [(int(Operator.DELETE), "")])
    endpoint = {"unmerge": UNMERGE, "erase": ERASE}.get(kind, "engage")
    flags = IGNORE_ALIAS if rest[-1] == "literal" else 0
    update = Update(PROJECT, "", rest[0], operations, flags=flags)
    return Append(encode_segment(Segment(endpoint, "test", None, None, [update])), 1, b"")


def fold_with_crashes(store: Store, max_records: int, crashes: set[int]) -> None:
    """Fold in steps of so many records; those with these numbers fail at their end, once."""
    write = store.state.write
    step = 0

    def fail() -> None:
        raise StoreError("no more disk")

    def crash(result: FoldResult) -> None:
        if not isinstance(store.state, MemoryState):
            state: Any = store.state
            state.before_commit = fail  # all is written then
            try:
                write(result)
            finally:
                state.before_commit = None
        list(result.profiles)
        fail()

    fold = ProfileFold(store, max_records=max_records)
    while True:
        store.state.write = crash if step in crashes else write  # type: ignore[method-assign]
        try:
            folded = fold.step()
        except StoreError:
            crashes.discard(step)
            if step % 2:
                fold = ProfileFold(store, max_records=max_records)
            continue
        if folded is None:
            return
        step += 1


def check(store: Store, records: Sequence[Record], chunk: int, max_records: int, crashes: set[int]) -> None:
    """Append in chunks, fold in steps, and compare."""
    for at in range(0, len(records), chunk):
        append(
            store.log, *[appended(each, at + place) for place, each in enumerate(records[at : at + chunk])]
        )
    fold_with_crashes(store, max_records, crashes)
    canonical, profiles = expected(records)
    assert store.state.canonical(PROJECT, IDS) == canonical
    stored = dict(zip(IDS, store.state.documents([(PROJECT, "", each) for each in IDS]), strict=True))
    found = {each: orjson.loads(document) for each, document in stored.items() if document is not None}
    for profile in found.values():
        del profile["$last_seen"]
    assert found == profiles
    for each in IDS:
        assert store.state.linked(PROJECT, each)[0] == canonical[each]


CASES = {
    "records": st.one_of(*(sequences([mode]) for mode in MODES), sequences(MODES)),
    "chunk": st.integers(1, 6),
    "max_records": st.integers(1, 40),
    "crashes": st.sets(st.integers(0, 8), max_size=2),
}


@given(**CASES)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_memory(records: list[Record], chunk: int, max_records: int, crashes: set[int]) -> None:
    check(MemoryStore(), records, chunk, max_records, crashes)


@pytest.mark.slow
@given(**CASES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_what_is_kept(records: list[Record], chunk: int, max_records: int, crashes: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = engine.open_store(Path(folder) / "data", role="fold", create=True)
        try:
            check(store, records, chunk, max_records, crashes)
        finally:
            store.close()
            engine.forget(Path(folder))


ROWS: list[list[Record]] = [
    [
        ("set", "a1", ""),
        ("link", "original", "create_alias", "u1", "a1"),
        ("add", "a1", ""),
        ("set", "a1", ""),
    ],
    [
        ("link", "simplified", "device", "$device:D", "u1"),
        ("set", "$device:D", ""),
        ("unmerge", "$device:D"),
        ("link", "simplified", "device", "$device:D", "u2"),
        ("add", "$device:D", ""),
    ],
    [("link", "original", "merge", "u1", "u2"), ("add", "u2", "literal"), ("delete", "u2", "")],
    [
        ("link", "original", "merge", "u1", "u2"),
        ("set", "u2", ""),
        ("erase", "u1"),
        ("add", "u2", ""),
        ("add", "u1", ""),
    ],
    [
        ("link", "legacy", "create_alias", "u1", "a1"),
        ("link", "legacy", "create_alias", "a1", "a2"),
        ("add", "a2", ""),
        ("add", "a1", ""),
    ],
]


@pytest.mark.parametrize("max_records", [1, 2, 100])
@pytest.mark.parametrize("row", range(len(ROWS)))
def test_rows(row: int, max_records: int) -> None:
    with closing(engine.plain_store()) as store:
        check(store, ROWS[row], 1, max_records, {0})


MUTANTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "updates are not resolved": (identity.StepIdentities, "canonical_in", lambda _self, _project: None),
    "links are not written": (identity.StepIdentities, "writes", lambda _self: []),
    "what was settled survives a failed step": (identity.Linking, "start_over", lambda _self: None),
    "what was settled survives an unmerge": (identity.Settled, "clear", lambda _self: None),
    "unmerging undoes nothing": (Identities, "unmerge", lambda *_given: 0),
    "erasing undoes nothing": (Identities, "forget", lambda *_given: None),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_rows_catch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, fault = MUTANTS[name]
    monkeypatch.setattr(where, attribute, fault)
    with pytest.raises(AssertionError):
        check_rows()


def check_rows() -> None:
    again: Record = ("link", "simplified", "device", "$device:D", "u1")
    for records in [*ROWS, [again, ("unmerge", "$device:D"), again, ("set", "$device:D", "")]]:
        for max_records in (1, 100):
            check(MemoryStore(), records, 1, max_records, {0})
