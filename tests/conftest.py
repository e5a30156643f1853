"""What every test shares: fixtures that start real servers, longer limits for slow tests, and an order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests import engine
from tests.store.spying import Spy, watched

pytest_plugins = ["tests.serving"]  # fixtures: server, start_server, certificate

SLOW_TIMEOUT_S: Final = 900

ALONE: Final = ("tests/bench/", "tests/torture/")
"""Where slow tests measure or torture, so that nothing may run beside them."""

LONG: Final = (
    "tests/explorer/test_browser.py",  # slow ones, as far as tests/durability/test_kill.py
    "tests/hostile/test_described_api.py",
    "tests/store/test_expressions.py",
    "tests/reports/test_expressions.py",
    "tests/reports/test_segmentation.py",
    "tests/explorer/test_xss.py",
    "tests/store/test_event_deaths.py",
    "tests/store/test_event_files.py",
    "tests/moving/test_live.py",
    "tests/moving/test_cluster.py",
    "tests/sdk/test_mixpanel_import.py",
    "tests/durability/test_kill.py",
    "tests/cli/test_export_and_import.py",
    "tests/operations/test_start.py",
    "tests/cli/test_backup.py",
    "tests/cli/test_events_import.py",
    "tests/operations/test_processes.py",
    "tests/operations/test_rate_limits.py",
    "tests/operations/test_health.py",
    "tests/docs/test_readme.py",
    "tests/operations/test_metrics.py",
    "tests/operations/test_connections.py",
    "tests/http_writes/test_decode_hypothesis.py",
    "tests/contract/test_cases.py",
    "tests/docs/test_sql_page.py",
    "tests/hostile/test_wire.py",
    "tests/operations/test_renewal.py",
)
"""Modules of tests that take longest: they begin first, so that none is left alone at the end."""


@pytest.fixture(scope="session")
def statements() -> Iterator[Spy | None]:
    """What the store sends to PostgreSQL; None where it is not tried."""
    if "postgres" not in engine.TRIED:
        yield None
        return
    spy = Spy()
    with watched(spy):
        yield spy
    spy.close()


@pytest.fixture(autouse=True)
def as_a_cluster_takes_it(statements: Spy | None) -> Iterator[None]:
    """Hold each statement that a test brings for the first time to the rules of Citus."""
    yield
    if statements is not None and engine.is_running():
        faults = statements.faults(engine.postgresql())
        assert not faults, "\n".join(faults)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests a longer limit, say which run alone, and let the longest modules begin."""
    for item in items:
        if item.get_closest_marker("slow"):
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))
            if item.nodeid.startswith(ALONE):
                item.add_marker(pytest.mark.alone)
        elif _is_of_the_cluster(item) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))
    ranks = {module: rank for rank, module in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(LONG)))


def _is_of_the_cluster(item: pytest.Item) -> bool:
    """Whether a test uses the one cluster, for which it waits until others have done."""
    chosen = getattr(item, "callspec", None)
    return "cluster" in getattr(item, "fixturenames", ()) or (
        chosen is not None and "cluster" in chosen.params.values()
    )


@pytest.hookimpl(trylast=True)  # fixtures of the session have closed what they had open
def pytest_sessionfinish() -> None:
    """End the PostgreSQL of this process: processes of pytest-xdist may leave without a word."""
    engine.end()
