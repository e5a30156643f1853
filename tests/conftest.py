"""What every test shares: fixtures that start real servers, longer limits for slow tests, and an order."""

from __future__ import annotations

from typing import Final

import pytest

pytest_plugins = ["tests.serving"]  # fixtures: server, start_server, certificate

SLOW_TIMEOUT_S: Final = 600

ALONE: Final = ("tests/bench/", "tests/torture/")
"""Where slow tests measure or torture, so that nothing may run beside them."""

LONG: Final = (
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


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests a longer limit, say which run alone, and let the longest modules begin."""
    for item in items:
        if item.get_closest_marker("slow"):
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))
            if item.nodeid.startswith(ALONE):
                item.add_marker(pytest.mark.alone)
    ranks = {module: rank for rank, module in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(LONG)))
