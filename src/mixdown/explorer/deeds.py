"""What people did, as rows of a form: an event, how often, when, and which of them count.

The fields of a form or of an address enter; counts of events (behaviors) and the expression that reads them
leave, and rows again where a cohort says no more than rows can. It asks nothing: what is wrong with a filter
or a day the API says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import orjson

from mixdown.model.errors import ExpressionError
from mixdown.model.expression import Expression
from mixdown.query.behaviors import BEHAVIORS, BEHAVIORS_LIMIT

ALL, ANY = "all", "any"
DID, DID_NOT = "did", "did-not"
EVER, LAST, BETWEEN = "", "last", "between"
UNITS: Final = {"d": "days", "w": "weeks", "h": "hours"}
NUMBER_CHARS: Final = 6
_NUMBER: Final = re.compile(rf"[0-9]{{1,{NUMBER_CHARS}}}")
_WINDOW: Final = re.compile(rf"([0-9]{{1,{NUMBER_CHARS}}})([{''.join(UNITS)}])")
_COMPARISON: Final = r'behaviors\["((?:[^"\\]|\\.)*)"\] (>=|>|<=|<|==) ([0-9]{1,7})'
_READING: Final = re.compile(_COMPARISON)
_CHAINS: Final = {word: re.compile(f"{_COMPARISON}(?: {word} {_COMPARISON})*") for word in ("and", "or")}
Parse = Callable[[str], Expression]
"""An expression of a project. Raises `ExpressionError`."""


class Fields(Protocol):
    """What was sent: a form, or the parameters of an address."""

    def text(self, name: str, default: str = "") -> str:
        """The last value of a name."""


class Deed(NamedTuple):
    """A row: who did an event (or did not) at least so often; the texts are those that were typed."""

    event: str = ""
    did: str = DID
    times: str = "1"
    when: str = EVER
    length: str = "30"
    unit: str = "d"
    first: str = ""
    last: str = ""
    where: str = ""


class Deeds(NamedTuple):
    """Rows, of which all or any hold, and an expression over profiles that holds as well; "" for none."""

    rows: tuple[Deed, ...] = ()
    joined: str = ALL
    where: str = ""

    @property
    def said(self) -> tuple[Deed, ...]:
        """The rows that name an event; others say nothing."""
        return tuple(row for row in self.rows if row.event.strip())


class DeedError(ValueError):
    """A row cannot be read; the text says which, and what to write."""


def deeds_in(fields: Fields) -> Deeds:
    """The rows that a form has sent, blank ones left out."""
    rows = (_row(fields, str(number)) for number in range(1, BEHAVIORS_LIMIT + 1))
    joined = ANY if fields.text("deeds_joined") == ANY else ALL
    return Deeds(tuple(row for row in rows if row.event.strip()), joined, fields.text("where"))


def _row(fields: Fields, number: str) -> Deed:
    unit = fields.text(f"unit{number}")
    when = fields.text(f"when{number}")
    return Deed(
        event=fields.text(f"event{number}"),
        did=DID_NOT if fields.text(f"did{number}") == DID_NOT else DID,
        times=fields.text(f"times{number}").strip() or "1",
        when=when if when in (LAST, BETWEEN) else EVER,
        length=fields.text(f"length{number}").strip() or "30",
        unit=unit if unit in UNITS else "d",
        first=fields.text(f"from{number}").strip(),
        last=fields.text(f"to{number}").strip(),
        where=fields.text(f"where{number}").strip(),
    )


# --- written


def written(deeds: Deeds) -> tuple[str, list[dict[str, Any]]]:
    """The expression that the rows make, and the counts of events that it reads. Raises `DeedError`."""
    counts = [_count(number, row) for number, row in enumerate(deeds.said, 1)]
    texts = [_comparison(number, row) for number, row in enumerate(deeds.said, 1)]
    own = deeds.where.strip()
    if not texts:
        return deeds.where, []
    told = (" or " if deeds.joined == ANY else " and ").join(texts)
    if not own:
        return told, counts
    return (f"({told})" if deeds.joined == ANY and len(texts) > 1 else told) + f" and ({own})", counts


def _comparison(number: int, row: Deed) -> str:
    times = _number(number, row.times, "how often")
    if row.did == DID:
        return f'behaviors["{number}"] >= {times}'
    return f'behaviors["{number}"] ' + (f"< {times}" if times > 1 else "== 0")


def _count(number: int, row: Deed) -> dict[str, Any]:
    selector = {"event": row.event, **({"selector": row.where} if row.where else {})}
    made: dict[str, Any] = {"name": str(number), "event_selectors": [selector]}
    if row.when == LAST:
        made["window"] = f"{_number(number, row.length, 'how long')}{row.unit}"
    if row.when == BETWEEN:
        days = {"from_date": row.first, "to_date": row.last}
        if not any(days.values()):
            raise DeedError(f"Condition {number}: between which days? Give the first, the last, or both.")
        made.update((name, day) for name, day in days.items() if day)
    return made


def _number(number: int, text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text) or not int(text):
        raise DeedError(f"Condition {number}: {what} is a whole number from 1 to {10**NUMBER_CHARS - 1:,}.")
    return int(text)


# --- read again


def read_deeds(where: str, behaviors: Sequence[Mapping[str, Any]], parse: Parse) -> Deeds | None:
    """The rows that a cohort's expression and counts are; None where rows cannot say it."""
    for word, joined in (("and", ALL), ("or", ANY)):
        for told, own in _splits(where, _CHAINS[word], joined):
            if own and not _is_of_profiles(own, parse):
                continue
            rows = _rows(_READING.findall(told), {each.get("name"): each for each in behaviors})
            if rows is not None:
                return Deeds(rows, joined if len(rows) > 1 else ALL, own)
    return None


def _splits(where: str, chain: re.Pattern[str], joined: str) -> list[tuple[str, str]]:
    """What of an expression reads counts, and what stands beside it: `a and (…)`, `(a or b) and (…)`."""
    text = where.strip()
    if chain.fullmatch(text):
        return [(text, "")]
    bare = text.removeprefix("(") if joined == ANY else text
    found = chain.match(bare)
    if found is None:
        return []
    link = ") and (" if bare != text else " and ("
    rest = bare[found.end() :]
    is_one = not _READING.search(found[0], _READING.match(found[0]).end())  # type: ignore[union-attr]
    if not rest.startswith(link) or not rest.endswith(")") or (bare == text and joined == ANY and not is_one):
        return []
    return [(found[0], rest[len(link) : -1])]


def _is_of_profiles(text: str, parse: Parse) -> bool:
    """Whether a text is an expression by itself, and reads no counts."""
    try:
        read = parse(text)
    except ExpressionError:
        return False
    return not read.is_blank and all(slot.accessor != BEHAVIORS for slot in read.slots)


def _rows(
    comparisons: Sequence[tuple[str, str, str]], counts: Mapping[Any, Mapping[str, Any]]
) -> tuple[Deed, ...] | None:
    """A row for each comparison, where each count is read once."""
    found = []
    names = []
    for quoted, operator, figure in comparisons:
        try:
            name = orjson.loads(f'"{quoted}"')
        except orjson.JSONDecodeError:
            return None
        names.append(name)
        row = _counted(counts.get(name), operator, int(figure))
        if row is None:
            return None
        found.append(row)
    is_whole = len(set(names)) == len(names) == len(counts)
    return tuple(found) if is_whole and found else None


def _counted(count: Mapping[str, Any] | None, operator: str, figure: int) -> Deed | None:
    if operator == "==" and figure:
        return None
    times = figure + (operator in (">", "<=", "=="))
    selectors: Sequence[Mapping[str, Any]] = count["event_selectors"] if count else ()
    if count is None or len(selectors) != 1 or not 0 < times < 10**NUMBER_CHARS:
        return None
    row = Deed(
        event=selectors[0]["event"],
        did=DID if operator in (">=", ">") else DID_NOT,
        times=str(times),
        where=selectors[0].get("selector") or "",
    )
    first, last, window = (count.get(name) for name in ("from_date", "to_date", "window"))
    if first or last:
        return row._replace(when=BETWEEN, first=first or "", last=last or "")
    if window is None:
        return row
    length = _WINDOW.fullmatch(window.strip())
    return None if length is None else row._replace(when=LAST, length=length[1], unit=length[2])


# --- in words


def words(deeds: Deeds) -> list[str]:
    """What the rows say, a sentence's part for each."""
    return [_words(row) for row in deeds.said]


def _words(row: Deed) -> str:
    did = "did" if row.did == DID else "did not do"
    often = "" if row.times == "1" else f" at least {row.times} times"
    when = ""
    if row.when == LAST:
        unit = UNITS[row.unit]
        when = f" in the last {row.length} {unit if row.length != '1' else unit[:-1]}"
    elif row.when == BETWEEN:
        when = f"{' from ' + row.first if row.first else ''}{' until ' + row.last if row.last else ''}"
    of_which = f", where {row.where}" if row.where else ""
    return f"{did} “{row.event}”{often}{when}{of_which}"
