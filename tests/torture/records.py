"""What the clients send: requests of mixed operators, by seed, each with an effect that can be checked."""

from __future__ import annotations

import json
import random
import uuid
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.torture.ledger import COUNT, MARKS, TOTAL, Record, mark_of

GROUP_KEY: Final = "Company"
OWNED_PROFILES: Final = 6
OWNED_GROUPS: Final = 3
SHARED_PROFILES: Final = 24
SHARED_GROUPS: Final = 4
HEAVY_RECORDS: Final = 500
HEAVY_TEXTS: Final = ("x" * 200,) * 20
_NAMES: Final = ("plan", "Straße", "n", "tags", "notes", "seen")
_VALUES: Final = (0, 1, -7, 2.5, True, None, "", "pro", "Ärger ✓", [1, "a"], {"k": 1}, "x" * 90)
_ITEMS: Final = ("a", "b", 1, 1.5, {"k": [1]}, "ü")

EVENTS_SINCE_MS: Final = 1_760_000_000_000
_EVENTS: Final = ("signed up", "Kauf ✓", "seen")

Sort = Literal["owned", "shared", "unkeyed", "events", "unkeyed events"]


@dataclass
class Request:
    """One request: where it goes, its records, and what its effect is checked by."""

    sort: Sort
    path: str
    records: list[Record]
    headers: dict[str, str] = field(default_factory=dict)
    mark: str = ""

    @property
    def body(self) -> bytes:
        """The records as JSON: the same bytes at each try."""
        return json.dumps(self.records).encode()


class Maker:
    """Makes one client's requests."""

    def __init__(self, token: str, secret: str, client: int, seed: int) -> None:
        self._token = token
        self._secret = secret
        self._client = client
        self._random = random.Random(f"{seed}/records/{client}")
        self._serial = 0

    def next(self) -> Request:
        """A new request."""
        sorts: tuple[Sort, ...] = ("owned", "shared", "unkeyed", "events", "unkeyed events")
        sort = self._random.choices(sorts, (35, 25, 10, 25, 5))[0]
        if sort == "unkeyed":
            return self._unkeyed()
        if sort in {"events", "unkeyed events"}:
            return self._events(sort)
        group = self._random.random() < 0.3
        count = self._random.choices((1, 2, 5, 20), (40, 20, 25, 15))[0]
        make = self._owned if sort == "owned" else self._shared
        records = [make(group=group) for _ in range(count)]
        request = Request(sort, "/groups" if group else "/engage?ip=0", records)
        self._give_key(request)
        return request

    def heavy(self) -> Request:
        """Two megabytes in one request, on one profile."""
        record = self._record(f"owned-{self._client}-heavy", group=False)
        records = [
            {**record, "$set": {"texts": [self._mark(), *HEAVY_TEXTS]}, "$add": {COUNT: 1}}
            for _ in range(HEAVY_RECORDS)
        ]
        return Request("owned", "/engage?ip=0", records, {"Idempotency-Key": self._mark()})

    def _mark(self) -> str:
        self._serial += 1
        return f"{self._client}:{self._serial}"

    def _record(self, profile: str, *, group: bool) -> Record:
        if group:
            return {"$token": self._token, "$group_key": GROUP_KEY, "$group_id": profile}
        return {"$token": self._token, "$distinct_id": profile}

    def _shared(self, *, group: bool) -> Record:
        number = self._random.randrange(SHARED_GROUPS if group else SHARED_PROFILES)
        operators = {
            "$add": {TOTAL: self._random.randint(1, 9)},
            "$append": {f"{MARKS}-{self._client}": self._mark()},
        }
        return {**self._record(f"shared-{number}", group=group), **operators}

    def _owned(self, *, group: bool) -> Record:
        number = self._random.randrange(OWNED_GROUPS if group else OWNED_PROFILES)
        record = self._record(f"owned-{self._client}-{number}", group=group)
        if self._random.random() < 0.03:
            return {**record, "$delete": ""}
        operators = [self._operator() for _ in range(self._random.randint(1, 2))]
        record |= dict(operators)
        record["$add"] = {**record.get("$add", {}), COUNT: 1}
        return record

    def _operator(self) -> tuple[str, Any]:
        pick = self._random.choice
        name = pick(_NAMES)
        return pick(
            (
                ("$set", {name: pick(_VALUES), pick(_NAMES): pick(_VALUES)}),
                ("$set_once", {name: pick(_VALUES)}),
                ("$add", {"n": self._random.randint(-9, 9)}),
                ("$append", {pick(("tags", "notes")): pick(_ITEMS)}),
                ("$union", {"tags": [pick(_ITEMS), pick(_ITEMS)]}),
                ("$remove", {pick(("tags", "notes")): pick(_ITEMS)}),
                ("$unset", [name]),
            )
        )

    def _unkeyed(self) -> Request:
        mark = self._mark()
        count = self._random.randint(1, 3)
        records = [
            {
                **self._record(f"once-{mark}-{part}", group=False),
                "$add": {COUNT: 1},
                "$append": {MARKS: mark},
            }
            for part in range(count)
        ]
        return Request("unkeyed", "/engage?ip=0", records, mark=mark)

    def _events(self, sort: Sort) -> Request:
        """Events with a mark each: known again by the request's key, or by what makes each the same event."""
        count = self._random.choices((1, 3, 20, 60), (40, 30, 20, 10))[0]
        events = [self._event() for _ in range(count)]
        request = Request(sort, "/track", events)
        if sort == "unkeyed events":
            return request
        if self._random.random() < 0.5:
            request.headers["Idempotency-Key"] = str(uuid.UUID(int=self._random.getrandbits(128)))
            return request
        request.path = "/import?strict=1"
        request.headers["Authorization"] = "Basic " + b64encode(f"{self._secret}:".encode()).decode()
        for event in events:
            about = event["properties"]
            about["$insert_id"] = mark_of(event).replace(":", "-")
            about["time"] = EVENTS_SINCE_MS + self._random.randrange(30 * 86_400_000)
        return request

    def _event(self) -> Record:
        about: Record = {
            "token": self._token,
            "distinct_id": f"someone-{self._random.randrange(30)}",
            MARKS: self._mark(),
        }
        about |= {self._random.choice(_NAMES): self._random.choice(_VALUES)}
        return {"event": self._random.choice(_EVENTS), "properties": about}

    def _give_key(self, request: Request) -> None:
        """One of the three sorts of keys: the request's, or one of two on each record."""
        sort = self._random.choice(("request", "insert_id", "event_id"))
        if sort == "request":
            request.headers["Idempotency-Key"] = str(uuid.UUID(int=self._random.getrandbits(128)))
            return
        for record in request.records:
            if sort == "insert_id":
                record["$insert_id"] = self._mark()
            else:
                record["$mp_metadata"] = {"$mp_event_id": f"e{self._mark()}"}
