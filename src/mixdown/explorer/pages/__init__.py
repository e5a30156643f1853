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
    password,
    profile,
    projects,
    refusals,
    reports,
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
    password,
    health,
    cohorts,
    dictionary,
    event,
    events,
    reports,
    lookup_tables,
    refusals,
)
