"""What the pages of events ask of the API: ranges of days, filters, and the addresses that keep them.

The parameters of a page enter; parameters of the API leave, checked as far as a page can say it better than
the API: days, and where in a filter the fault is.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import date
from typing import Any, Final, NamedTuple

import orjson

from mixdown.explorer.frame import Problem, Visit
from mixdown.http.reading import in_thread
from mixdown.model.errors import ExpressionError
from mixdown.model.expression import parse
from mixdown.query.events.buckets import days_before, today
from mixdown.query.reports.saved import DAYS_LIMIT
from mixdown.store.zones import zone_of

DAYS: Final = 30
PRESETS: Final = ((1, "Today"), (7, "7 days"), (30, "30 days"), (90, "90 days"), (365, "12 months"))
WAIT: Final = {"X-Mixdown-Wait": "300"}
"""A page shows what there is, and does not wait long for what has only just come."""
_HOURS_UP_TO: Final = 2
_DAYS_UP_TO: Final = 120
_WEEKS_UP_TO: Final = 800
_CONTEXT_CHARS: Final = 60


class Range(NamedTuple):
    """The days that a page shows: the last so many, or (`days` 0) from one day to another."""

    days: int
    first: date
    last: date

    @property
    def params(self) -> dict[str, str]:
        """As the API takes it."""
        return {"from_date": self.first.isoformat(), "to_date": self.last.isoformat()}

    @property
    def own(self) -> dict[str, Any]:
        """As addresses of pages have it; the last 30 days need not be named."""
        if self.days:
            return {"days": None if self.days == DAYS else self.days}
        return {"from": self.first.isoformat(), "to": self.last.isoformat()}

    @property
    def unit(self) -> str:
        """What time is cut into where nothing is said."""
        length = (self.last - self.first).days + 1
        if length <= _HOURS_UP_TO:
            return "hour"
        if length <= _DAYS_UP_TO:
            return "day"
        return "week" if length <= _WEEKS_UP_TO else "month"


def range_of(visit: Visit) -> Range:
    """The days that a page is asked for. Raises `Problem` (400)."""
    now = today(visit.services.now_ms(), zone_of(visit.project.timezone))
    first, last = _day(visit, "from"), _day(visit, "to")
    if first is None and last is None:
        days = visit.integer("days", DAYS, low=1, high=DAYS_LIMIT)
        return Range(days, days_before(now, days - 1), now)
    last = last or now
    first = first or days_before(last, DAYS - 1)
    if first > last:
        raise Problem(f"The range begins on {first}, after it ends on {last}: swap the two days.", status=400)
    return Range(0, first, last)


def _day(visit: Visit, name: str) -> date | None:
    text = visit.text(name).strip()
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Problem(f"{name}: must be a day, written 2026-01-31.", status=400) from None


class Fault(NamedTuple):
    """Why a filter cannot be read, and the text before, at and after the place."""

    reason: str
    position: int
    before: str
    at: str
    after: str


async def fault_of(visit: Visit, where: str) -> Fault | None:
    """What is wrong with a filter; None where nothing is."""
    project = visit.project.id
    tables = visit.services.store.lookup_tables.tables(project)
    try:
        await in_thread(visit.services, parse, where, tables)
    except ExpressionError as error:
        at = min(error.position, len(where))
        before, after = where[:at], where[at + 1 :]
        return Fault(
            error.reason,
            error.position,
            before if len(before) <= _CONTEXT_CHARS else f"…{before[-_CONTEXT_CHARS:]}",
            where[at : at + 1],
            after if len(after) <= _CONTEXT_CHARS else f"{after[:_CONTEXT_CHARS]}…",
        )
    return None


def equals(name: str, value: str | None, kind: str, also: str = "") -> str | None:
    """A filter for events whose property is called so, beside another filter; None where there is none."""
    accessor = f"properties[{_literal(name)}]"
    if value is None:
        own = f"not defined({accessor})"
    elif kind == "string":
        own = f"{accessor} == {_literal(value)}"
    elif kind in ("number", "boolean"):
        own = f"{accessor} == {value}"
    elif kind == "list":
        own = f"any(item, list({accessor}), string(item) == {_literal(value)})"
    else:
        return None
    return f"({also}) and {own}" if also.strip() else own


def _literal(text: str) -> str:
    return orjson.dumps(text).decode()


def as_curl(visit: Visit, path: str, params: Mapping[str, Any]) -> str:
    """A call of the API as a line for a shell; the password is the caller's to put in."""
    lines = [f"curl -G -u 'ACCOUNT:PASSWORD' {shlex.quote(visit.address + path)}"]
    for name, value in {"project_id": visit.project.id, **params}.items():
        if value is not None:
            text = value if type(value) is str else orjson.dumps(value).decode()
            lines.append(f"  --data-urlencode {shlex.quote(f'{name}={text}')}")
    return " \\\n".join(lines)
