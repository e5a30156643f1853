"""The pages of the explorer: each a module with `routes(frame)`, listed here."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Final

from mixdown.explorer.pages import (
    accounts,
    cohorts,
    dictionary,
    event,
    events,
    health,
    live,
    lookup_tables,
    profile,
    projects,
    refusals,
    settings,
    sql,
    start,
    users,
)

PAGES: Final[Sequence[ModuleType]] = (
    start,
    live,
    users,
    profile,
    sql,
    settings,
    projects,
    accounts,
    health,
    cohorts,
    dictionary,
    event,
    events,
    lookup_tables,
    refusals,
)
