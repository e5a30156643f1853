"""What somebody has paid, as the list `$transactions` tells it: sum, count, each charge, and sums by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, timedelta
from math import isfinite
from typing import Any, Final

from mixdown.explorer.frame import Visit
from mixdown.explorer.pages.profile.subject import ms_of, shortened, standing, subject_of
from mixdown.model.times import canonical_timestamp, number_of

PROPERTY: Final = "$transactions"
SHOWN: Final = 50
DAYS_SHOWN: Final = 90
_EPOCH: Final = date(1970, 1, 1)


async def build(visit: Visit) -> Mapping[str, Any]:
    """The charges of a profile."""
    subject = subject_of(visit)
    held = (await standing(visit, subject)).properties or {}
    begin = visit.integer("from", 0, low=0, high=1_000_000)
    figures = figures_of(held.get(PROPERTY))
    charges = figures.pop("charges")
    return {
        "title": f"Revenue of {shortened(subject.id)}",
        "section": "groups" if subject.group_key else "users",
        "asked": subject.asked,
        **figures,
        "charges": charges[begin : begin + SHOWN],
        "begin": begin,
        "next": begin + SHOWN if begin + SHOWN < len(charges) else None,
    }


def figures_of(transactions: object) -> dict[str, Any]:
    """Sum and count of charges, the charges newest first, and their sums by day.

    What has no number as `$amount` is a charge of nobody knows how much: it is listed and counted apart.
    """
    listed = transactions if type(transactions) is list else []
    charges = [_charge(each) for each in listed if type(each) is dict]
    charges.sort(key=lambda charge: charge["time"] or "", reverse=True)
    amounts = [charge["amount"] for charge in charges if charge["amount"] is not None]
    days: dict[str, float] = defaultdict(float)
    for charge in charges:
        if charge["time"] and charge["amount"] is not None:
            days[charge["time"][:10]] += charge["amount"]
    total = sum(amounts)
    return {
        "count": len(amounts),
        "sum": round(total, 2) if isfinite(total) else None,
        "without_amount": len(listed) - len(amounts),
        "charges": charges,
        "chart": chart_of(days),
    }


def _charge(transaction: Mapping[str, Any]) -> dict[str, Any]:
    amount = transaction.get("$amount")
    if type(amount) is str:
        amount = number_of(amount)
    time = canonical_timestamp(transaction["$time"]) if transaction.get("$time") else None
    rest = {name: value for name, value in transaction.items() if name not in ("$amount", "$time")}
    return {
        "time": time,
        "time_ms": ms_of(time),
        "amount": amount if type(amount) in (int, float) else None,
        "properties": rest,
    }


def chart_of(days: Mapping[str, float]) -> dict[str, Any] | None:
    """Sums of the days up to the last charge, as charts take them; None where no charge has a day."""
    known = []
    for text in days:
        try:
            known.append(date.fromisoformat(text))
        except ValueError:
            continue
    if not known:
        return None
    last = max(known)
    first = min(known)
    if (last - first).days >= DAYS_SHOWN:  # only then is there a day so far back at all
        first = last - timedelta(days=DAYS_SHOWN - 1)
    shown = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return {
        "x": [(day - _EPOCH).days * 86_400 for day in shown],
        "series": [
            {"label": "Revenue", "values": [round(days.get(day.isoformat(), 0.0), 2) for day in shown]}
        ],
        "unit": "revenue",
    }
