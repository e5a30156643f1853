"""Pages of large profiles: what a read may hold in memory (DESIGN G7)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import orjson
import pytest

from mixdown.model.errors import QueryError
from mixdown.query.engage import ProfileQueries, ProfileQuery
from mixdown.store.protocols import FoldResult, Store
from tests.engine import open_store

MIB = 2**20
PROFILES = 150
NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """150 small profiles and, behind them in the order of ids, 150 of 1 MiB; no test changes them."""
    folder = tmp_path_factory.mktemp("large") / "data"
    open_store(folder, role="worker", create=True).close()
    opened = open_store(folder, role="fold", create=False)
    small = (((1, "", f"a{n:03}"), b'{"n":%d}' % n) for n in range(PROFILES))
    opened.state.write(FoldResult(0, small, [], NOW_MS))
    large = (((1, "", f"b{n:03}"), b'{"t":"%b"}' % (b"x" * MIB)) for n in range(PROFILES))
    opened.state.write(FoldResult(0, large, [], NOW_MS))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "query",
    [
        ProfileQuery(project=1, page_size=1000),
        ProfileQuery(project=1, page_size=2 * PROFILES - 1),
        ProfileQuery(project=1, page_size=PROFILES, page=1),
    ],
    ids=["all", "of a session", "live"],
)
def test_a_page_past_the_bound_is_not_read_whole_before_it_is_refused(
    store: Store, query: ProfileQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.query.engage.ANSWER_LIMIT_BYTES", 2 * MIB)
    queries = ProfileQueries(store)
    tracemalloc.start()
    try:
        with pytest.raises(QueryError, match="page_size"):
            queries.answer(query, now_ms=NOW_MS)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < PROFILES * MIB // 2


@pytest.mark.parametrize("page", [0, 1])
def test_a_page_of_more_than_is_read_at_once_is_whole_and_in_order(store: Store, page: int) -> None:
    query = ProfileQuery(project=1, page_size=PROFILES if page else 2 * PROFILES, page=page)
    rows = orjson.loads(ProfileQueries(store).answer(query, now_ms=NOW_MS))["results"]
    ids = [f"{sort}{n:03}" for sort in "ab" for n in range(PROFILES)]
    assert [row["$distinct_id"] for row in rows] == ids[-len(rows) :]
    assert len(rows) == (PROFILES if page else 2 * PROFILES)
    assert rows[-1]["$properties"] == {"t": "x" * MIB}
