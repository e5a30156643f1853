"""What every test shares: fixtures that start real servers, and longer limits for slow tests."""

import pytest

pytest_plugins = ["tests.serving"]  # fixtures: server, start_server, certificate

SLOW_TIMEOUT_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests that name no time limit a longer one than the default."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))
