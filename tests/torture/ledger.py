"""What must be stored: every acknowledged record, folded once more by the reference of `tests/model`.

Enters: each record in the moment of its first acknowledgement, and each request without a key that was
sent once. Leaves: an account of what is stored and should not be, and of what should be and is not.
It shares no code with the product.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.model.reference import Applied, update

Json = Any
Record = dict[str, Any]
ProfileKey = tuple[str, str]
"""(group key, id); the group key of a user is ""."""

COUNT: Final = "records"
MARKS: Final = "marks"
TOTAL: Final = "total"
_SHOWN: Final = 5


@dataclass
class Account:
    """The outcome of one comparison."""

    losses: int = 0
    duplicates: int = 0
    differences: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether what is stored is what was acknowledged."""
        return not (self.losses or self.duplicates or self.differences)

    def lost(self, count: int, what: str) -> None:
        """Records that were acknowledged and are not there."""
        self.losses += count
        self._show(f"lost: {what}")

    def doubled(self, count: int, what: str) -> None:
        """Records that were applied more than once, or that nobody sent."""
        self.duplicates += count
        self._show(f"duplicate: {what}")

    def differs(self, what: str) -> None:
        """A profile that is wrong without a record too few or too many."""
        self.differences += 1
        self._show(f"different: {what}")

    def _show(self, text: str) -> None:
        if len(self.examples) < _SHOWN:
            self.examples.append(text)


@dataclass
class Unkeyed:
    """A request that was sent once and without a key: its ids, and whether it was acknowledged."""

    ids: tuple[str, ...]
    mark: str
    acknowledged: bool


def mark_of(event: Record) -> str:
    """What tells an event that a client sent from all others."""
    mark: str = event["properties"][MARKS]
    return mark


def key_of(record: Record) -> ProfileKey:
    """The profile that a record changes."""
    if "$group_key" in record:
        return record["$group_key"], record["$group_id"]
    return "", record["$distinct_id"]


class Ledger:
    """All that was acknowledged so far.

    Three sorts of profiles: *owned* by one client, who sends one request at a time, so that the order
    of its records is known and every operator is allowed; *shared* by all, where the order does not
    matter (a total, and a list of marks for each client, which is in the order that it sent them); and
    those of requests *without a key*, each with profiles of its own.

    A request that was not answered is stored whole or not at all, but where `whole_requests` is false: the
    records of a large project are stored by partitions, each of which may fail.
    """

    def __init__(self, *, whole_requests: bool = True) -> None:
        self.records = 0
        self._whole_requests = whole_requests
        self._owned: dict[ProfileKey, dict[str, Json] | None] = {}
        self._totals: Counter[ProfileKey] = Counter()
        self._marks: dict[ProfileKey, dict[str, list[str]]] = defaultdict(dict)
        self._unkeyed: list[Unkeyed] = []
        self._events: Counter[str] = Counter()
        self._unkeyed_events: list[Unkeyed] = []

    def owned(self, records: Iterable[Record]) -> None:
        """Records of profiles that one client owns were acknowledged, in this order."""
        for record in records:
            key = key_of(record)
            kind: Any = "groups" if key[0] else "engage"
            outcome = update(
                record, kind=kind, strict=False, arrival=0.0, geo=None, stored=self._owned.get(key)
            )
            assert isinstance(outcome, Applied), outcome
            self._owned[key] = outcome.profile
            self.records += 1

    def shared(self, records: Iterable[Record]) -> None:
        """Records of shared profiles were acknowledged."""
        for record in records:
            key = key_of(record)
            self._totals[key] += record["$add"][TOTAL]
            for name, mark in record["$append"].items():
                self._marks[key].setdefault(name, []).append(mark)
            self.records += 1

    def unkeyed(self, request: Unkeyed) -> None:
        """A request without a key was sent; acknowledged or not, it is never sent again."""
        self._unkeyed.append(request)
        self.records += len(request.ids) if request.acknowledged else 0

    def events(self, events: Iterable[Record]) -> None:
        """Events were acknowledged."""
        for event in events:
            self._events[mark_of(event)] += 1
            self.records += 1

    def unkeyed_events(self, events: Iterable[Record], *, acknowledged: bool) -> None:
        """A request of events without a key was sent; acknowledged or not, it is never sent again."""
        marks = tuple(map(mark_of, events))
        self._unkeyed_events.append(Unkeyed(marks, "", acknowledged))
        self.records += len(marks) if acknowledged else 0

    def compare_events(self, stored: Mapping[str, int], account: Account) -> None:
        """Hold all stored events, how many by their marks, against all that was acknowledged."""
        expected = Counter(self._events)
        for request in self._unkeyed_events:
            there = [mark for mark in request.ids if stored.get(mark, 0)]
            if request.acknowledged or (there and self._whole_requests):
                expected.update(request.ids)  # all of them, or none
            else:
                expected.update(there)
        for mark, missing in (expected - Counter(stored)).items():
            account.lost(missing, f"the event {mark}")
        for mark, extra in (Counter(stored) - expected).items():
            account.doubled(extra, f"the event {mark} is stored {stored[mark]} times")

    def compare(self, stored: Mapping[ProfileKey, Mapping[str, Json]]) -> Account:
        """Hold all stored profiles against all that was acknowledged."""
        account = Account()
        left = set(stored)
        for key, expected in self._owned.items():
            left.discard(key)
            _compare_owned(account, key, expected, stored.get(key))
        for key, total in self._totals.items():
            left.discard(key)
            self._compare_shared(account, key, total, stored.get(key, {}))
        for request in self._unkeyed:
            left.difference_update(("", profile) for profile in request.ids)
            _compare_unkeyed(account, request, stored, whole=self._whole_requests)
        for key in left:
            account.doubled(1, f"{key} is stored and was never sent")
        return account

    def _compare_shared(
        self, account: Account, key: ProfileKey, total: int, found: Mapping[str, Json]
    ) -> None:
        before = account.losses + account.duplicates
        for name, marks in self._marks[key].items():
            kept: list[str] = found.get(name, [])
            missing = Counter(marks) - Counter(kept)
            extra = Counter(kept) - Counter(marks)
            if missing:
                account.lost(missing.total(), f"{key} {name} misses {list(missing)[:3]}")
            if extra:
                account.doubled(extra.total(), f"{key} {name} has {list(extra)[:3]} too often")
            if not missing and not extra and kept != marks:
                account.differs(f"{key} {name} is out of order")
        if before == account.losses + account.duplicates and found.get(TOTAL) != total:
            account.differs(f"{key} has the total {found.get(TOTAL)} where {total} was added")


def _compare_owned(
    account: Account, key: ProfileKey, expected: dict[str, Json] | None, found: Mapping[str, Json] | None
) -> None:
    wanted = None if expected is None else _without_time(expected)
    kept = None if found is None else _without_time(found)
    if wanted == kept:
        return
    short = (wanted or {}).get(COUNT, 0) - (kept or {}).get(COUNT, 0)
    if short > 0:
        account.lost(short, f"{key} counts {short} records too few")
    elif short < 0:
        account.doubled(-short, f"{key} counts {-short} records too many")
    else:
        account.differs(f"{key} is {kept}, should be {wanted}"[:600])


def _compare_unkeyed(
    account: Account, request: Unkeyed, stored: Mapping[ProfileKey, Mapping[str, Json]], *, whole: bool
) -> None:
    """Once if it was acknowledged, else once or not at all; but all of its records or none."""
    found = [stored.get(("", profile)) for profile in request.ids]
    counts = [0 if profile is None else int(profile.get(COUNT, 0)) for profile in found]
    if request.acknowledged or (any(counts) and whole) or max(counts) > 1:
        for profile, count in zip(request.ids, counts, strict=True):
            if count == 0 and (request.acknowledged or whole):
                account.lost(1, f"{profile}, of a request without a key")
            elif count > 1:
                account.doubled(count - 1, f"{profile}, sent once without a key, is there {count} times")
    if any(profile is not None and profile.get(MARKS) != [request.mark] for profile in found):
        account.differs(f"{request.ids}: their marks are not [{request.mark!r}]")


def _without_time(profile: Mapping[str, Json]) -> dict[str, Json]:
    """The clock jumps; when a record came is no part of what it must do."""
    return {name: value for name, value in profile.items() if name != "$last_seen"}
