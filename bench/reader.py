"""`python -m bench.reader PORT SECONDS PROFILES KIND…`: how long reads take, one after the other.

A client of its own, in a process of its own. Each kind of read is asked for its share of the time and at
least `LEAST` times; an answer that cannot be right is an error, not a sample. Printed as JSON. Times are the
client's, loopback and HTTP included; `server_ms` is the mean that the server itself counted.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import re
import sys
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from bench.load import waits_ms
from bench.records import profile_id
from bench.server import SECRET

LEAST: Final = 5
PAGE_SIZE: Final = 1000
COMPANIES: Final = 5000
ENGAGE: Final = "/api/query/engage"
PROPERTIES: Final = f"{ENGAGE}/properties"
STATS: Final = f"{ENGAGE}/stats"
_HEADERS: Final = {"Authorization": "Basic " + base64.b64encode(f"{SECRET}:".encode()).decode()}


class Reader:
    """Reads of each kind on one connection."""

    def __init__(self, port: int, profiles: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        self._profiles = profiles
        self._source = random.Random(time.time_ns())
        self._session: tuple[str, int] | None = None

    def by_id(self) -> str:
        """One profile; the path that was asked."""
        name = profile_id(self._source.randrange(self._profiles))
        found = self.get(ENGAGE, distinct_id=name)["results"]
        _expect([row["$distinct_id"] for row in found] == [name], f"a read of {name} found {found}")
        return ENGAGE

    def two_properties(self) -> str:
        """The first page of a filter on two properties that none asked before, over all profiles."""
        low = self._source.random() * 400
        where = f'properties["plan"] == "amber" and properties["logins"] > {low}'
        return self._first_page(where, least=self._profiles // 100)

    def next_page(self) -> str:
        """Any further page of the last filter."""
        if self._session is None:
            self.two_properties()
        assert self._session is not None
        session, total = self._session
        page = self._source.randrange(1, max(2, total // PAGE_SIZE))
        rows = self.get(ENGAGE, session_id=session, page=page, page_size=PAGE_SIZE)["results"]
        _expect(len(rows) == min(PAGE_SIZE, max(0, total - page * PAGE_SIZE)), f"{len(rows)} rows")
        return ENGAGE

    def one_company(self) -> str:
        """All profiles of one of 5,000 companies: 200 of a million."""
        company = self._source.randrange(min(COMPANIES, self._profiles))
        return self._first_page(f'properties["company"] == "company {company}"', least=1)

    def one_plan(self) -> str:
        """The first page of an eighth of all profiles; a condition that is always true makes it new."""
        low = -1 - self._source.random()
        where = f'properties["plan"] == "amber" and not properties["logins"] < {low}'
        return self._first_page(where, least=self._profiles // 100)

    def properties(self) -> str:
        """The names and types of all properties."""
        answer = self.get(PROPERTIES)
        _expect(answer["complete"] and answer["results"]["plan"]["type"] == "string", str(answer)[:300])
        return PROPERTIES

    def count(self) -> str:
        """How many profiles a filter on one property chooses, by `engage/stats`."""
        found = self.get(STATS, selector=f'properties["logins"] > {self._source.random() * 400}')["results"]
        _expect(found > self._profiles // 100, f"counted {found}")
        return STATS

    def _first_page(self, where: str, *, least: int) -> str:
        answer = self.get(ENGAGE, where=where, page_size=PAGE_SIZE)
        total, rows = answer["total"], len(answer["results"])
        _expect(total >= least and rows == min(total, PAGE_SIZE), f"{where}: {rows} rows of {total}")
        self._session = (answer["session_id"], total)
        return ENGAGE

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer of a read."""
        return json.loads(self.fetch(f"{path}?{urlencode(query)}"))

    def fetch(self, target: str) -> bytes:
        """The body of a reply that must be 200."""
        self._connection.request("GET", target, headers=_HEADERS)
        answer = self._connection.getresponse()
        body = answer.read()
        _expect(answer.status == http.client.OK, f"{target} answered {answer.status}: {body[:300]!r}")
        return body

    def spent(self, path: str) -> tuple[float, int]:
        """Seconds that the server has spent on requests to this path, and how many there were."""
        text = self.fetch("/metrics").decode()
        labels = re.escape(f'endpoint="{path}"')
        sums = re.findall(rf"^mixdown_request_seconds_sum\{{{labels}.*?\}} (\S+)$", text, re.MULTILINE)
        counts = re.findall(rf"^mixdown_request_seconds_count\{{{labels}.*?\}} (\S+)$", text, re.MULTILINE)
        return sum(map(float, sums)), int(sum(map(float, counts)))

    def timed(self, read: Callable[[], str], seconds: float) -> dict[str, float]:
        """Read again and again for a time."""
        path = read()  # the first of its kind opens files and compiles what it asks
        spent, counted = self.spent(path)
        taken: list[float] = []
        deadline = time.perf_counter() + seconds
        while len(taken) < LEAST or time.perf_counter() < deadline:
            began = time.perf_counter()
            read()
            taken.append(time.perf_counter() - began)
        spent_after, counted_after = self.spent(path)
        ordered = sorted(taken)
        return {
            "reads": len(ordered),
            **waits_ms(ordered),
            "server_ms": round(1000 * (spent_after - spent) / max(1, counted_after - counted), 3),
        }


KINDS: Final[dict[str, Callable[[Reader], str]]] = {
    "by id": Reader.by_id,
    "two properties": Reader.two_properties,
    "next page": Reader.next_page,
    "one company": Reader.one_company,
    "one plan": Reader.one_plan,
    "properties": Reader.properties,
    "count": Reader.count,
}


def _expect(right: bool, text: str) -> None:  # noqa: FBT001 - as `assert` takes it
    if not right:
        raise RuntimeError(text)


def main() -> None:
    """Read as the command line says, and print what was seen."""
    port, seconds, profiles = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    reader = Reader(port, profiles)
    kinds = sys.argv[4:]
    found = {
        kind: reader.timed(lambda kind=kind: KINDS[kind](reader), seconds / len(kinds))  # type: ignore[misc]
        for kind in kinds
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
