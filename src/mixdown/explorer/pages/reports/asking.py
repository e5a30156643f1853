"""What the pages of reports have in common: their parameters, how the API is asked, and CSV.

A visit enters; an `Asked` (every parameter stands in the address, so that a copied link shows the same), what
the API answered, or words about why there is no answer leave. What a parameter means the API decides.
"""

from __future__ import annotations

import asyncio
import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time, timedelta, tzinfo
from typing import Any, ClassVar, Final, NamedTuple

from starlette.responses import Response

from mixdown.explorer.asking import error_text
from mixdown.explorer.frame import Problem, Visit
from mixdown.explorer.pages.event_asking import WAIT, range_of
from mixdown.explorer.policy import data_headers
from mixdown.http.reading import TOO_MUCH_MEMORY, TOO_MUCH_TIME
from mixdown.model.errors import ExpressionError
from mixdown.query.events.buckets import BUCKETS_LIMIT, Span, following, local_of, moment_of, offsets
from mixdown.query.files.cells import safe_csv
from mixdown.query.reports.rows import segment_by
from mixdown.store.zones import zone_of

QUERY: Final = "/api/query"
NAMES: Final = f"{QUERY}/events/names"
NAME_LIMIT_CHARS: Final = 1000
WHERE_LIMIT_CHARS: Final = 20_000
NUMBER_LIMIT: Final = 2**53
NAMES_LIMIT: Final = 1000
TOPS: Final = (5, 10, 20, 50)
LIMIT_LIMIT: Final = 2**53
DEFAULT_TOP: Final = 10
LONGER: Final = ((90, "90 days"), (365, "12 months"))
KINDS: Final = {
    "segmentation": ("reports/segmentation", "Segmentation"),
    "funnels": ("reports/funnel", "Funnel"),
    "retention": ("reports/retention", "Retention"),
    "addiction": ("reports/frequency", "Frequency"),
}
"""Each kind of report as the API calls it: where its page is, and how people call it."""
_CUT: Final = (TOO_MUCH_TIME.partition("{")[0], TOO_MUCH_MEMORY)


class Asked(ABC):
    """What a report asks for, from its address."""

    kind: ClassVar[str]

    def __init__(self, visit: Visit) -> None:
        self.range = range_of(visit)
        self.report = visit.integer("report", 0, low=1, high=NUMBER_LIMIT)
        self.group = group_of(visit)
        self.where = expression_of(visit, "where")
        self.on = on_of(visit)
        self.limit = visit.integer("limit", DEFAULT_TOP, low=1, high=LIMIT_LIMIT)

    @property
    def path(self) -> str:
        """The page's path below the project."""
        return KINDS[self.kind][0]

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """Whom the API's figures are asked of."""

    @property
    def file_name(self) -> str:
        """What a file of its figures is called."""
        return self.path.rpartition("/")[2]

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether there is enough to ask about."""

    @property
    def question(self) -> dict[str, Any]:
        """The parameters of its own; those that are as they come, or empty, are None."""
        return {
            "where": self.where or None,
            "on": self.on or None,
            "limit": self.limit if self.on and self.limit != DEFAULT_TOP else None,
            "data_group_id": self.group or None,
        }

    @property
    def own(self) -> dict[str, Any]:
        """The parameters of its addresses."""
        return {**self.range.own, **self.question, "report": self.report or None}

    @property
    def top(self) -> int:
        """At most so many values are drawn; all of them are in the file."""
        return min(self.limit, TOPS[-1])

    @property
    def params(self) -> dict[str, Any]:
        """What the API is asked."""
        return {
            **self.range.params,
            "where": self.where or None,
            "on": self.on_expression or None,
            "limit": self.limit if self.on else None,
            "data_group_id": self.group or None,
        }

    @property
    def one_bucket(self) -> dict[str, Any]:
        """All of its days as one bucket, as the API takes it: of months where the days are too many."""
        days = (self.range.last - self.range.first).days + 1
        is_long = days > BUCKETS_LIMIT
        return {"unit": "month" if is_long else "day", "interval": min(days, BUCKETS_LIMIT)}

    @property
    def drawn_params(self) -> dict[str, Any]:
        """What the API is asked for a page."""
        return {**self.params, "limit": self.top if self.on else None}

    @property
    def definition(self) -> dict[str, Any]:
        """What is saved of it: all but its days, of which it keeps how many they are."""
        found = {name: value for name, value in self.params.items() if value is not None}
        del found["from_date"], found["to_date"]
        return {**found, "days": self.range.days or (self.range.last - self.range.first).days + 1}

    @property
    @abstractmethod
    def events(self) -> list[str]:
        """The events that it names."""

    @property
    def filters(self) -> dict[str, str]:
        """Its filters, by the names of their parameters."""
        return {"where": self.where}

    @property
    def on_expression(self) -> str:
        """`on` as the API takes it: a name that is no expression is the property of that name."""
        return as_expression(self.on)

    def with_(self, **changes: Any) -> dict[str, Any]:
        """The parameters of an address of the same report with something changed."""
        return {**self.own, **changes}


def name_of(visit: Visit, name: str) -> str:
    """A parameter that is the name of something. Raises `Problem` (400) where it is too long."""
    return _bounded(visit, name, NAME_LIMIT_CHARS)


def expression_of(visit: Visit, name: str) -> str:
    """A parameter that is an expression, "" for a blank one. Raises `Problem` (400) where it is too long."""
    text = _bounded(visit, name, WHERE_LIMIT_CHARS)
    return text if text.strip() else ""


def on_of(visit: Visit) -> str:
    """What events are told apart by."""
    return expression_of(visit, "on").strip()


def group_of(visit: Visit) -> str:
    """The group key whose groups are counted, by its name; it may be asked for by its number as well."""
    asked = name_of(visit, "data_group_id")
    return next((name for name, number in visit.group_keys if asked == str(number)), asked)


def on_in(definition: Mapping[str, Any], default: int) -> dict[str, Any]:
    """What a saved definition's events are told apart by, and at most how many values, as parameters."""
    on = definition.get("on") or None
    return {"on": on, "limit": definition.get("limit", default) if on else None}


def _bounded(visit: Visit, name: str, limit: int) -> str:
    text = visit.text(name)
    if len(text) > limit:
        raise Problem(f"{name}: has at most {limit:,} characters.", status=400)
    return text


def one_of(visit: Visit, name: str, known: Iterable[str], default: str) -> str:
    """A parameter that is one of some words. Raises `Problem` (400)."""
    text, words = visit.text(name).strip() or default, tuple(known)
    if text not in words:
        raise Problem(f"{name}: is one of {', '.join(filter(None, words))}.", status=400)
    return text


def as_expression(on: str) -> str:
    """A text that people type where a property is asked for, as an expression."""
    if not on or any(mark in on for mark in '"[]()'):
        return on
    try:
        segment_by(on, _no_table)
    except ExpressionError:
        quoted = on.replace("\\", "\\\\")
        return f'properties["{quoted}"]'
    return on


def _no_table(name: str) -> None:
    """No lookup table: a text without brackets names none."""


def property_expression(name: str) -> str:
    """A property of events as `on` takes it: by its bare name where that is enough."""
    if as_expression(name) == name and not any(mark in name for mark in '"[]()'):
        return name
    return f"properties[{quoted(name)}]"


def quoted(text: str) -> str:
    """A text as expressions write it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_data(visit: Visit) -> bool:
    """Whether values are wanted, not a page."""
    return visit.request.url.path.endswith((".json", ".csv"))


def is_whole(visit: Visit) -> bool:
    """Whether all of a page is wanted at once: as data, or where no script will load its parts."""
    return is_data(visit) or visit.text("whole") == "1"


# --- asking


class Told(NamedTuple):
    """What the API answered, or (`trouble`) why it did not; `behind` records are still on their way."""

    data: Any
    trouble: dict[str, Any] | None = None
    behind: int = 0


async def ask(visit: Visit, path: str, params: Mapping[str, Any]) -> Told:
    """Ask for figures. Where data are wanted an error raises `Problem`; a page shows what it says."""
    try:
        answer = await visit.ask("GET", path, params=params, headers=WAIT)
    except Problem as problem:
        if is_data(visit):
            raise
        return Told(None, _trouble(problem.text))
    if answer.status < 400:
        return Told(answer.data, behind=int(answer.headers.get("x-mixdown-behind", "0")))
    if is_data(visit):
        answer.good()
    return Told(None, _trouble(error_text(answer.data)))


def _trouble(text: str) -> dict[str, Any]:
    """Why there are no figures: `cut` where the question was ended at a limit of the server."""
    return {"text": text, "cut": text.startswith(_CUT)}


def cut_of(asked: Asked, count: int) -> dict[str, Any]:
    """Whether some values may be left out of a page that shows so many of them, and of the file as well."""
    return {
        "is_cut": bool(asked.on) and count >= asked.top,
        "limit": asked.top,
        "in_file": asked.limit if asked.limit > asked.top else 0,
    }


def people_of(group: str) -> str:
    """How the counted are called."""
    return f"groups of {group}" if group else "users"


# --- where there is nothing


async def empty_of(visit: Visit, asked: Asked) -> dict[str, Any]:
    """Why a report has no figures, as far as the names of events tell, and what to do."""
    answer = await visit.ask(
        "GET", NAMES, params={"type": "general", "limit": NAMES_LIMIT, **asked.range.params}
    )
    names: list[str] = answer.data if answer.status < 400 and type(answer.data) is list else []
    longer = [
        {
            "label": label,
            "url": visit.path(asked.path, **asked.with_(days=days, **{"from": None, "to": None})),
        }
        for days, label in LONGER
        if not asked.range.days or days > asked.range.days
    ]
    if not names:
        return {
            "title": "No events in these days",
            "text": "Reports count events. Choose a longer range, or send the first event.",
            "links": [*longer, {"label": "Send an event", "url": visit.path()}],
            "names": [],
        }
    for event in asked.events:
        if event not in names:
            near = difflib.get_close_matches(event, names, n=5, cutoff=0.5)
            return {
                "title": "There is no such event in these days",
                "text": "Names count letter by letter, capitals included.",
                "event": event,
                "links": [*longer, {"label": "All events", "url": visit.path("events")}],
                "names": near or names[:5],
            }
    return {
        "title": "Nothing matches in these days",
        "text": "The events are there, but none passes the filters: choose a longer range, or filter less.",
        "links": longer,
        "names": [],
    }


# --- times, CSV


def times_of(visit: Visit, keys: Iterable[str]) -> list[int]:
    """When each key of a report begins, in unix seconds; of a time that clocks leave out, when they go on."""
    zone = zone_of(visit.project.timezone)
    return [_begin_ms(datetime.fromisoformat(key), zone) // 1000 for key in keys]


def _begin_ms(local: datetime, zone: tzinfo) -> int:
    first, second = moment_of(local, zone), moment_of(local.replace(fold=1), zone)
    return first if first <= second else offsets(Span(second, first), zone)[-1][0]


def are_whole(
    visit: Visit, asked: Asked, keys: Iterable[str], unit: str, *, interval: int = 1, later_ms: int = 0
) -> list[bool]:
    """Of each stretch of time whether all of it lies in a report's days, and has been over for `later_ms`."""
    over = local_of(visit.services.now_ms() - later_ms, zone_of(visit.project.timezone))
    last = min(asked.range.last, over.date())
    since = datetime.combine(asked.range.first, time())
    until = min(over, datetime.combine(last + timedelta(days=1), time()))
    starts = map(datetime.fromisoformat, keys)
    return [since <= start and following(unit, start, interval) <= until for start in starts]


async def csv_of(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """A file of figures, for a spreadsheet."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)
    headers = {
        **data_headers(),
        "Content-Disposition": f'attachment; filename="{plain[:60] or "report"}.csv"',
    }
    text = await asyncio.to_thread(safe_csv, header, rows)
    return Response(text, headers=headers, media_type="text/csv")


def ready(visit: Visit, asked: Asked) -> None:
    """Raises `Problem` (400) where data are wanted and there is nothing to ask about."""
    if not asked.is_ready and is_data(visit):
        raise Problem("Name the events of the report first.", status=400)
