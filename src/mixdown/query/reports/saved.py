"""Saved reports: what may be saved of each kind, and how it is shown.

What people send enters; a checked definition, as JSON, leaves. A definition is what the report's endpoint
takes as parameters, days apart: those come with each question, or are the last `days`. It reads no event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from mixdown.model.errors import ExpressionError, QueryError
from mixdown.model.expression import Expression, parse
from mixdown.model.lookup import Tables
from mixdown.model.times import iso_seconds
from mixdown.model.values import clean_text
from mixdown.query.events.where import Selector
from mixdown.query.reports.funnels import ORDERS, STEPS_LIMIT, Step
from mixdown.store.protocols import Store
from mixdown.store.reports import SavedReport

FUNNELS: Final = "funnels"
DASHBOARD: Final = "dashboard"
KINDS: Final = (FUNNELS, "retention", "addiction", "segmentation", DASHBOARD)
NAME_LIMIT_CHARS: Final = 255
DEFAULT_LENGTH: Final = 14
LENGTH_MS: Final = {"day": 86_400_000, "hour": 3_600_000, "minute": 60_000, "second": 1000}
LONGEST_MS: Final = 90 * LENGTH_MS["day"]
TOO_LONG: Final = "length, a funnel takes at most 90 days"
DESCRIPTION_LIMIT_CHARS: Final = 2000
DASHBOARD_REPORTS_LIMIT: Final = 100
DAYS_LIMIT: Final = 3660
STEPS_MISSING: Final = (
    f'steps, must be a list of 1 to {STEPS_LIMIT} events: names, or objects as {{"event": "…", "where": "…"}}'
)
_EVERY: Final = ("where", "on", "limit", "unit", "interval", "data_group_id", "days", "chart")
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    FUNNELS: (*_EVERY, "steps", "length", "length_unit", "order"),
    "retention": (
        *_EVERY,
        "retention_type",
        "born_event",
        "born_where",
        "event",
        "interval_count",
        "unbounded_retention",
    ),
    "addiction": (*_EVERY, "event", "addiction_unit"),
    "segmentation": (*_EVERY, "event", "type", "method"),
    DASHBOARD: ("reports", "days"),
}
"""What a definition of each kind may name. `chart` is how the explorer draws it: no figure depends on it."""
CHARTS: Final = ("line", "area", "bars")
_NUMBERS: Final = ("limit", "interval", "interval_count", "length", "days")
_FLAGS: Final = ("unbounded_retention",)
_WORDS: Final = (
    "unit",
    "length_unit",
    "order",
    "retention_type",
    "addiction_unit",
    "type",
    "method",
    "chart",
)
_TRUTHS: Final[Mapping[str, bool]] = {"true": True, "1": True, "false": False, "0": False}
_DIGITS_LIMIT: Final = 15


class SavedStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step of a funnel as it is saved."""

    event: str
    where: str = ""
    label: str = ""


def read_steps(given: Any) -> list[SavedStep]:
    """Steps as people send them: a list of names, or of objects. Raises `QueryError` (400)."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not 0 < len(given) <= STEPS_LIMIT:
        raise QueryError(STEPS_MISSING, status=400)
    return [_read_step(each) for each in given]


def _read_step(given: Any) -> SavedStep:
    fields: dict[str, Any] = {"event": given} if isinstance(given, str) else given
    if not isinstance(fields, dict):
        raise QueryError(STEPS_MISSING, status=400)
    where = fields.get("where", fields.get("selector"))  # `selector` is what Mixpanel calls it
    texts = {"event": fields.get("event"), "where": where, "label": fields.get("label")}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise QueryError(f"steps, {name} must be a text", status=400)
    event = clean_text(texts["event"] or "")
    if not event:
        raise QueryError("steps, each must name an event", status=400)
    label = clean_text(texts["label"] or "").strip()
    if len(label) > NAME_LIMIT_CHARS:
        raise QueryError(f"steps, a label has at most {NAME_LIMIT_CHARS} characters", status=400)
    return SavedStep(event, (texts["where"] or "").strip(), label)


def steps_of(saved: Sequence[SavedStep], where: str, tables: Tables) -> tuple[Step, ...]:
    """Steps to be counted: what each is filtered by, and `where`. Raises `QueryError` (400)."""
    _parsed("where", where, tables)
    found = []
    for number, step in enumerate(saved, 1):
        _parsed(f"steps, where of step {number}", step.where, tables)
        both = [f"({text})" for text in (where, step.where) if text.strip()]
        expression = _parsed("where", " and ".join(both), tables)
        found.append(Step(Selector(expression, (step.event,)), step.event, step.label))
    return tuple(found)


def _parsed(name: str, text: str, tables: Tables) -> Expression:
    try:
        return parse(text, tables)
    except ExpressionError as error:
        raise QueryError(f"{name}, {error.message}", status=400) from None


def window_of(length: int, unit: str) -> int:
    """How long a funnel may take, in ms. Raises `QueryError` (400)."""
    if unit not in LENGTH_MS:
        raise QueryError(f"length_unit, must be one of {', '.join(LENGTH_MS)}", status=400)
    if not 0 < length * LENGTH_MS[unit] <= LONGEST_MS:
        raise QueryError(TOO_LONG, status=400)
    return length * LENGTH_MS[unit]


def checked_funnel(definition: Mapping[str, Any], tables: Tables) -> None:
    """Raises `QueryError` (400) where a funnel's steps or its window are wrong."""
    steps_of(read_steps(definition.get("steps")), str(definition.get("where", "")), tables)
    length = definition.get("length", DEFAULT_LENGTH)
    if type(length) is not int:
        raise QueryError("length, must be a whole number", status=400)
    window_of(length, str(definition.get("length_unit", "day")))


def new_report(
    store: Store,
    project: int,
    kind: str,
    name: str,
    definition: Any,
    *,
    description: str = "",
    creator: str = "",
    now_ms: int,
) -> SavedReport:
    """A report to be saved, all of it checked. Raises `QueryError` (400) naming what is wrong."""
    if kind not in KINDS:
        raise QueryError(f"kind, must be one of {', '.join(KINDS)}", status=400)
    return SavedReport(
        project=project,
        kind=kind,
        name=checked_name(name),
        definition=checked_definition(store, project, kind, definition),
        description=checked_description(description),
        creator=creator,
        created_ms=now_ms,
        changed_ms=now_ms,
    )


def checked_name(name: str) -> str:
    """A name, without blanks around it. Raises `QueryError` (400)."""
    name = clean_text(name).strip()
    if not name or len(name) > NAME_LIMIT_CHARS or not name.isprintable():
        raise QueryError(f"name, must be 1 to {NAME_LIMIT_CHARS} printable characters", status=400)
    return name


def checked_description(description: str) -> str:
    """A description. Raises `QueryError` (400)."""
    if len(description) > DESCRIPTION_LIMIT_CHARS:
        raise QueryError(f"description, must be at most {DESCRIPTION_LIMIT_CHARS} characters", status=400)
    return clean_text(description).strip()


def checked_definition(store: Store, project: int, kind: str, given: Any) -> bytes:
    """What a report asks for, as it is kept. Raises `QueryError` (400) naming what is wrong."""
    if not isinstance(given, dict):
        raise QueryError("definition, must be an object with what the report asks for", status=400)
    for name, value in given.items():
        if name not in PARAMETERS[kind]:
            raise QueryError(
                f"definition, {str(name)[:NAME_LIMIT_CHARS]} is no part of it: {', '.join(PARAMETERS[kind])}",
                status=400,
            )
        if name not in ("steps", "reports") and type(value) not in (str, int, bool):
            raise QueryError(f"definition, {name} must be a text, a number, true or false", status=400)
    made = typed(given)
    if made.get("chart", CHARTS[0]) not in CHARTS:
        raise QueryError(f"definition, chart must be one of {', '.join(CHARTS)}", status=400)
    days = made.get("days", 1)
    if type(days) is not int or not 1 <= days <= DAYS_LIMIT:
        raise QueryError(f"definition, days must be an integer from 1 to {DAYS_LIMIT}", status=400)
    if kind == DASHBOARD:
        made["reports"] = _reports_of_dashboard(store, project, made.get("reports"))
    if kind == FUNNELS:
        made["steps"] = [msgspec.to_builtins(step) for step in read_steps(made.get("steps"))]
        if made.get("order", ORDERS[0]) not in ORDERS:
            raise QueryError(f"order, must be one of {', '.join(ORDERS)}", status=400)
    return orjson.dumps(made)


def typed(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A definition with numbers as numbers, flags as booleans, and all else as texts.

    Parameters may be sent as texts, and what says nothing is left out. What is no number where one belongs
    stays as it is: it is refused where the report is asked.
    """
    found = {name: _typed(name, value) for name, value in definition.items()}
    return {name: value for name, value in found.items() if value != ""}


def _typed(name: str, value: Any) -> Any:
    if type(value) not in (str, int, bool):
        return value  # the steps of a funnel, the reports of a dashboard
    text = clean_text(value) if type(value) is str else str(value).lower()
    bare = text.strip()
    if name in _FLAGS:
        return _TRUTHS.get(bare.lower(), text)
    if name in _NUMBERS and type(value) is not bool:
        return int(bare) if bare.isascii() and bare.isdecimal() and len(bare) <= _DIGITS_LIMIT else value
    return bare if name in (*_NUMBERS, *_WORDS) or not bare else text


def _reports_of_dashboard(store: Store, project: int, given: Any) -> list[int]:
    known = {report.id for report in store.reports.listing(project) if report.kind != DASHBOARD}
    if not isinstance(given, list) or len(given) > DASHBOARD_REPORTS_LIMIT:
        raise QueryError(
            f"reports, must be a list of at most {DASHBOARD_REPORTS_LIMIT} numbers of reports", status=400
        )
    for number in given:
        if type(number) is not int or number not in known:
            raise QueryError(f"reports, there is no report {str(number)[:20]}", status=400)
    return given


def report_view(report: SavedReport) -> dict[str, Any]:
    """A report as Mixdown's own API and its command line show it, however it was sent once."""
    return {
        "id": report.id,
        "project_id": report.project,
        "kind": report.kind,
        "name": report.name,
        "description": report.description,
        "definition": definition_of(report),
        "creator": report.creator,
        "created": iso_seconds(report.created_ms),
        "changed": iso_seconds(report.changed_ms),
    }


def definition_of(report: SavedReport) -> dict[str, Any]:
    """What a report asks for, as `typed` has it."""
    return typed(orjson.loads(report.definition))


def find_report(store: Store, project: int, kind: str, number: int, name: str) -> SavedReport:
    """The project's report of a kind ("": of any) with this number. Raises `QueryError` (400)."""
    report = store.reports.get(project, number)
    if report is None or kind not in ("", report.kind):
        what = "funnel" if kind == FUNNELS else "report"
        raise QueryError(f"{name}, there is no {what} {number} in this project", status=400)
    return report
