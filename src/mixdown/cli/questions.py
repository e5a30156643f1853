"""What a report asks for, as flags: one for each parameter that its endpoint takes.

Flags that were given enter; parameters as the API and saved definitions have them leave. Which of them a kind
of report takes, and what they may say, `query.reports.saved` and the report itself decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
KINDS: Final = ("segmentation", "funnels", "retention", "addiction")
_FUNNEL: Final = "Of a funnel: "
_RETENTION: Final = "Of retention: "


def _text(flag: str, metavar: str, about: str, name: str = "") -> Callable[[F], F]:
    return click.option(flag, *filter(None, [name]), metavar=metavar, help=about)


def _number(flag: str, about: str) -> Callable[[F], F]:
    return click.option(flag, type=click.IntRange(1), metavar="N", help=about)


def _several(flag: str, name: str, metavar: str, about: str) -> Callable[[F], F]:
    return click.option(flag, name, multiple=True, metavar=metavar, help=about)


_FLAGS: Final[Sequence[Callable[[Any], Any]]] = (
    _text("--event", "EVENT", "The event that is counted; of retention, what is a return."),
    _text("--on", "EXPRESSION", "What events are told apart by: a property, or an expression."),
    _text("--where", "EXPRESSION", "Only events for which this is true."),
    _text("--unit", "UNIT", "minute, hour, day, week or month, as the kind takes them."),
    _number("--interval", "So many units at a time. [1]"),
    _number("--limit", "At most so many values of --on."),
    _text("--group-key", "K", "Count groups of this key, instead of users.", "data_group_id"),
    _text("--type", "TYPE", "Of a segmentation: general, unique or average. [general]"),
    _text("--method", "METHOD", "Of a segmentation: count, numeric, sum or average. [count]"),
    _several("--step", "steps", "EVENT", f"{_FUNNEL}a step; name each in turn."),
    _several("--step-where", "step_wheres", "N=EXPRESSION", f"{_FUNNEL}what step N (from 1) must match."),
    _number("--length", f"{_FUNNEL}how long one may take. [14]"),
    _text("--length-unit", "UNIT", f"{_FUNNEL}of what: day, hour, minute, second. [day]"),
    _text("--order", "ORDER", f"{_FUNNEL}loose, in turn, or any. [loose]"),
    _text("--born-event", "EVENT", f"{_RETENTION}what everybody begins with."),
    _text("--born-where", "EXPRESSION", f"{_RETENTION}what these events must match."),
    _text("--retention-type", "TYPE", f"{_RETENTION}birth or compounded. [birth]"),
    _number("--interval-count", f"{_RETENTION}how many intervals. [1]"),
    click.option(
        "--unbounded",
        "unbounded_retention",
        is_flag=True,
        help=f"{_RETENTION}who comes later counts in each interval before as well.",
    ),
    _text("--addiction-unit", "UNIT", "Of addiction: hour or day. [hour]"),
    _number("--days", "The last so many days, today included. [30]"),
)


def question_flags(command: F) -> F:
    """Give a command a flag for each parameter of a report."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def question_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were given. Raises `click.UsageError`."""
    given = {name: value for name, value in flags.items() if value not in (None, (), False)}
    wheres = given.pop("step_wheres", ())
    if "steps" in given:
        given["steps"] = steps_of(given["steps"], wheres, "--step-where")
    elif wheres:
        raise click.UsageError("--step-where filters a step: name the steps by --step.")
    return given


def without(definition: Mapping[str, Any], dropped: Sequence[str]) -> dict[str, Any]:
    """A definition without what these flags say. Raises `click.UsageError` where it says nothing of one."""
    found = dict(definition)
    for flag in dropped:
        bare = flag.strip().removeprefix("--").replace("-", "_")
        name = {"group_key": "data_group_id", "unbounded": "unbounded_retention"}.get(bare, bare)
        if found.pop(name, None) is None:
            raise click.UsageError(f"--drop {flag!r}: this report says nothing of it.")
    return found


def steps_of(events: Sequence[str], wheres: Sequence[str], flag: str) -> list[dict[str, Any]]:
    """Steps of a funnel with their filters, of texts as `N=EXPRESSION`. Raises `click.UsageError`."""
    made: list[dict[str, Any]] = [{"event": event} for event in events]
    for text in wheres:
        number, mark, expression = text.partition("=")
        if not mark or not number.strip().isdecimal() or not 1 <= int(number) <= len(made):
            raise click.UsageError(f"{flag} {text!r}: write the number of a step, =, and an expression.")
        made[int(number) - 1]["where"] = expression
    return made
