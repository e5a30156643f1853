"""Whatever is done in whatever order, SQLite and PostgreSQL answer as the memory store does."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import cast

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.store.chunk import Outcome
from mixdown.store.memory import MemoryStore
from mixdown.store.postgres import open_postgres
from mixdown.store.protocols import FoldResult, ProfileKey, RefusedRecord, Store
from mixdown.store.sqlite import connection, open_store
from tests.store.postgres import Server
from tests.store.support import DAY_MS, NOW_MS, appending, key, refusal

PROJECTS = st.integers(0, 2)
GROUP_KEYS = st.sampled_from(["", "Company", "Team"])
IDS = st.sampled_from(["a", "b", "é", "z", "\U0001f389", "a\n"])
PROFILES = st.tuples(st.integers(1, 2), GROUP_KEYS, IDS)
DOCUMENTS = st.none() | st.sampled_from([b"{}", b'{"n":1}', '{"é":"\u20ac"}'.encode()])
KEYS = st.integers(0, 12)
OUTCOMES = st.none() | st.just(Outcome(2, 1, ((1, "f", "m"),)))
ALL_PROFILES: list[ProfileKey] = [
    (project, group_key, profile_id)
    for project in (1, 2)
    for group_key in ("", "Company", "Team")
    for profile_id in ("a", "b", "é", "z", "\U0001f389", "a\n", "never")
]


def without_ids(refusals: list[RefusedRecord]) -> list[RefusedRecord]:
    """Refusals as far as two stores must agree on them: ids rise, but may leave numbers out."""
    ids = [kept.id for kept in refusals]
    assert ids == sorted(set(ids), reverse=True)
    return [msgspec.structs.replace(kept, id=0) for kept in refusals]


class TwoStores(RuleBasedStateMachine):
    """The model and the store under test, told the same."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mixdown-test-"))
        self.model = MemoryStore()
        self.tested = self.made()
        self.now_ms = NOW_MS
        self.chunk_ms = NOW_MS

    def made(self) -> Store:
        """A new store to be tested."""
        shutil.copytree(self.template, self.folder / "data")
        return self.opened()

    def opened(self) -> Store:
        """The same, opened once more."""
        return open_store(self.folder / "data", role="fold", create=False)

    @property
    def both(self) -> tuple[Store, Store]:
        """The two stores."""
        return self.model, self.tested

    @initialize(name=st.sampled_from(["p", "q"]))
    def start(self, name: str) -> None:
        for store in self.both:
            store.catalog.create_project(name, token=name, secret_hash=b"", id_merge="simplified", now_ms=0)

    @rule(
        requests=st.lists(
            st.tuples(
                st.lists(IDS, max_size=3), st.lists(st.tuples(PROJECTS, st.integers(0, 3), st.none() | KEYS))
            ),
            max_size=3,
        ),
        step_ms=st.integers(-1000, 1000),
    )
    def append(
        self, requests: list[tuple[list[str], list[tuple[int, int, int | None]]]], step_ms: int
    ) -> None:
        appends = [
            appending(
                *ids,
                refused=[
                    refusal(project, index, key=None if number is None else key(number))
                    for project, index, number in refused
                ],
            )
            for ids, refused in requests
        ]
        self.now_ms += step_ms
        answers = []
        for store in self.both:
            with store.log.turn() as turn:
                answers.append(turn.append(appends, self.now_ms))
        assert answers[0] == answers[1]

    @rule(below=st.integers(0, 30), older_ms=st.integers(-100, 100))
    def trim(self, below: int, older_ms: int) -> None:
        below = min(below, self.both[0].state.watermark())  # as the fold does: no store opens otherwise
        one, other = [store.log.trim(below, self.now_ms + older_ms) for store in self.both]
        assert one == other

    @rule(
        profiles=st.dictionaries(PROFILES, DOCUMENTS, max_size=6),
        keys=st.dictionaries(KEYS, OUTCOMES, max_size=4),
        days=st.integers(0, 3),
        step=st.integers(0, 5),
    )
    def fold(
        self, profiles: dict[ProfileKey, bytes | None], keys: dict[int, Outcome | None], days: int, step: int
    ) -> None:
        self.now_ms += days * DAY_MS
        watermark = min(self.model.log.head(), self.model.state.watermark() + step)
        self.chunk_ms = max(self.chunk_ms, self.now_ms)  # no chunk is older than the one before it
        named = [(key(number), self.chunk_ms, outcome) for number, outcome in keys.items()]
        for store in self.both:
            store.state.write(FoldResult(watermark, sorted(profiles.items()), named, self.now_ms))

    @rule(place=st.integers(0, 5))
    def remove_a_refusal(self, place: int) -> None:
        for store in self.both:
            wanted = store.refusals.listing(None)[place : place + 2]
            assert store.refusals.remove([refusal.id for refusal in wanted]) == len(wanted)

    @rule()
    def restart(self) -> None:
        self.tested.close()
        self.tested = self.opened()

    @invariant()
    def the_logs_are_alike(self) -> None:
        one, other = [
            (
                store.log.head(),
                store.log.tail_position(),
                store.log.size_bytes(),
                store.log.read(self.now_ms % 5, max_records=7, max_bytes=4000),
                store.log.read(0, max_records=10**6, max_bytes=10**9),
                without_ids(store.refusals.listing(None)),
                without_ids(store.refusals.listing([1, 0], limit=3)),
                store.refusals.counts(),
            )
            for store in self.both
        ]
        assert one == other

    @invariant()
    def the_states_are_alike(self) -> None:
        one, other = [
            (
                store.state.watermark(),
                store.state.documents(ALL_PROFILES),
                [list(store.state.ids(1, group_key)) for group_key in ("", "Company")],
                [store.state.count(2, group_key) for group_key in ("", "Team")],
                store.state.page(1, "", offset=1, limit=3),
                store.state.group_keys(1),
                store.state.known_keys([key(n) for n in range(13)], since_ms=self.now_ms - KEY_WINDOW_MS),
            )
            for store in self.both
        ]
        assert one == other

    def teardown(self) -> None:
        """Close both and remove the folder."""
        self.tested.close()
        self.model.close()
        shutil.rmtree(self.folder)


def test_sqlite_answers_as_memory_does_whatever_is_done(
    new_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOG", "STATE", "CATALOG"):  # nothing here is about the disk, and syncs take time
        kind = getattr(connection, name)
        lazy = connection.Kind(kind.name, "OFF", kind.page_size_bytes, kind.cache_bytes)
        monkeypatch.setattr(connection, name, lazy)
    run(type("Machine", (TwoStores,), {"template": new_folder}), examples=25)


def test_postgresql_answers_as_memory_does_whatever_is_done(postgresql: Server) -> None:
    class Machine(TwoStores):
        def made(self) -> Store:
            self.url = postgresql.migrated()
            return self.opened()

        def opened(self) -> Store:
            return cast("Store", open_postgres(self.url, role="fold", create=False))

    run(Machine, examples=10)


def run(machine: type[TwoStores], *, examples: int) -> None:
    """Try what may be done in any order."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
        ),
    )
