"""Cases of contract ingestion §11 about events and identities, and what §6.3-§7 say beside them.

A case says what is sent, what comes back, and what of it is stored: an entry for each event.
"""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.contract.geo import BERLIN, LONDON
from tests.contract.support import FORM, ONE, V0, V1, ZERO, Reply, Sent, exactly
from tests.serving import Response

NOW_S = int(time.time())
DAY_S = 24 * 3600
SOME = "some data points in the request failed validation"
UUID4 = "7d3b0a4e-6d0c-4f67-9a39-9f0f64a8b0d1"
IDENTITY = "identity events are not allowed when project is using simplified identity management"
EVENT_BERLIN = {"$city": BERLIN["$city"], "$region": BERLIN["$region"], "mp_country_code": "DE"}
EVENT_LONDON = {"$city": LONDON["$city"], "$region": LONDON["$region"], "mp_country_code": "GB"}
Event = dict[str, Any]


def T(event: str = "E", /, **properties: Any) -> Event:  # noqa: N802 - as the contract names records
    """An event of /track."""
    return {"event": event, "properties": {"token": "TOK", "distinct_id": "u1", **properties}}


def I(event: str = "E", /, **properties: Any) -> Event:  # noqa: E743, N802 - likewise
    """An event of /import."""
    given = {"time": NOW_S, "distinct_id": "u1", "$insert_id": "i-1", **properties}
    return {"event": event, "properties": {name: value for name, value in given.items() if value is not ...}}


def basic(credentials: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


SA = basic("sa:pw")


@dataclass(frozen=True)
class EventCase:
    """A case. Of each stored event `stored` says what is compared; `links` are verb, one and other."""

    name: str
    sent: Sent | Sequence[Sent]
    stored: Sequence[Mapping[str, Any]] = ()
    links: Sequence[tuple[str, str, str]] = ()
    mode: str = "simplified"
    refused: Sequence[str] | None = None
    late: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


def track(*events: Any, query: str = "", reply: Reply = ONE, **more: Any) -> Sent:
    return Sent("/track" + query, list(events), reply, **more)


def imports(
    *events: Any,
    query: str = "?strict=1&project_id=1",
    reply: Reply | None = None,
    headers: Mapping[str, str] = SA,
    **more: Any,
) -> Sent:
    return Sent("/import" + query, list(events), reply or imported(len(events)), headers=headers, **more)


def imported(count: int) -> Reply:
    return exactly(200, {"code": 200, "num_records_imported": count, "status": "OK"})


def import_failed(good: int, *failed: tuple[int, str, str, str]) -> Reply:
    """`failed` are index, insert id, field and message."""
    records = [
        {"index": index, "insert_id": insert_id, "$insert_id": insert_id, "field": name, "message": message}
        for index, insert_id, name, message in failed
    ]
    return import_refused(good, records)


def import_refused(
    good: int, failed: list[Any], error: str = SOME, status: str | int = "Bad Request"
) -> Reply:
    return exactly(
        400,
        {
            "code": 400,
            "error": error,
            "failed_records": failed,
            "num_records_imported": good,
            "status": status,
        },
    )


def import_verbose(good: int, error: str | None) -> Reply:
    content = {"code": 200, "error": error, "num_records_imported": good, "status": int(good > 0)}
    return exactly(200, content)


def unauthorized(error: str) -> Reply:
    return exactly(401, {"code": 401, "error": error, "status": "Unauthorized"})


def is_gif(response: Response) -> bool:
    return len(response.body) == 43 and response.body.startswith(b"GIF89a")


def b64(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def wrong_time(text: str) -> str:
    return f"'properties.time' is invalid: {text}"


GIF = Reply(200, "image/gif", is_gif)
SECONDS = "must be specified as seconds since epoch"
U1 = {"distinct_id": "u1"}
TEXT_TIME = wrong_time(SECONDS)
TOO_OLD = wrong_time("must be within the last 5 days")
FUTURE = wrong_time("must be at most 1 hour in the future")
CHARACTERS = "'$insert_id' is invalid: must only contain alphanumeric or hyphen '-' characters"
EARLY = wrong_time("must not be before 1971-01-01")
HIDDEN = {"token", "time", "distinct_id", "$insert_id", "ip"}


ON_TRACK = [
    EventCase("31", Sent(f"/track?data={b64(T())}&img=1", None, GIF, method="GET"), [U1]),
    EventCase(
        "31: bad data",
        Sent("/track?data=e30&img=1", None, GIF, method="GET"),
        refused=["token, missing or empty"],
    ),
    EventCase("121", track(T()), [{"event": "E", "arrived": True, "generated": True, "properties": {}}]),
    EventCase("121: one object", Sent("/track/", T()), [U1]),
    EventCase("121: form", Sent("/track", f"data={b64(T())}".encode(), content_type=FORM), [U1]),
    EventCase(
        "121: form, JSON",
        Sent("/track", b"verbose=1&data=" + json.dumps(T()).encode(), V1, content_type=FORM),
        [U1],
    ),
    EventCase(
        "121: beacon",
        Sent("/track/?verbose=1", f"data={b64([T()])}".encode(), V1, content_type="text/plain"),
        [U1],
    ),
    EventCase(
        "121: gzip",
        Sent("/track", gzip.compress(json.dumps([T()]).encode()), headers={"Content-Encoding": "gzip"}),
        [U1],
    ),
    EventCase(
        "121: callback", Sent("/track?callback=f", [T()], Reply(200, "text/javascript", b"f(1);")), [U1]
    ),
    EventCase(
        "122",
        track({"event": "E", "properties": {}}, query="?verbose=1", reply=V0("token, missing or empty")),
    ),
    EventCase("122: empty", track(T(token=""), query="?verbose=1", reply=V0("token, missing or empty"))),
    EventCase("123", track({"properties": {"token": "TOK"}}, query="?verbose=1", reply=V0("event, missing"))),
    EventCase(
        "124", track(T(time=NOW_S - 6 * DAY_S), query="?verbose=1", reply=V0(TOO_OLD)), refused=[TOO_OLD]
    ),
    EventCase(
        "124: taken late",
        track(T(time=NOW_S - 400 * DAY_S)),
        [{"time": (NOW_S - 400 * DAY_S) * 1000}],
        late=True,
    ),
    EventCase("124: late, from 1970", track(T(time=5), query="?verbose=1", reply=V0(EARLY)), late=True),
    EventCase("125", track(T(time=NOW_S + 5 * DAY_S)), [{"arrived": True}]),
    EventCase(
        "126",
        track(
            T(time=NOW_S),
            T(time=NOW_S * 1000),
            T(time=NOW_S + 0.0),
            T(time=f"{NOW_S}"),
            T(time=f"{NOW_S}000.0"),
        ),
        [{"time": NOW_S * 1000}] * 5,
    ),
    EventCase("126: a fraction", track(T(time=NOW_S - 1 + 0.123)), [{"time": NOW_S * 1000 - 877}]),
    EventCase(
        "iso",
        track(T(time="2026-01-15T12:00:00"), query="?verbose=1", reply=V0(TEXT_TIME)),
        refused=[TEXT_TIME],
    ),
    EventCase(
        "partial",
        track(T(), {"event": "E"}, T(time=True), T("F"), query="?verbose=1", reply=V1),
        [{"event": "E"}, {"event": "F"}],
        refused=["token, missing or empty", TEXT_TIME],
    ),
    EventCase("49", track(T(token="NOPE"), reply=ZERO)),
    EventCase("49: beside a good one", track(T(token="NOPE"), T()), [U1]),
    EventCase(
        "strict",
        track(
            T(),
            T(distinct_id="null"),
            query="?strict=1",
            reply=exactly(
                200,
                {
                    "code": 200,
                    "error": SOME,
                    "failed_records": [
                        {
                            "index": 1,
                            "field": "properties.distinct_id",
                            "message": "'properties.distinct_id' is invalid: must not be a placeholder value",
                        }
                    ],
                    "num_good_events": 1,
                    "num_records_imported": 1,
                    "status": 0,
                },
            ),
        ),
        [U1],
    ),
    EventCase("no data", track(query="?verbose=1", reply=V0("data, missing or empty"))),
    EventCase("no JSON", Sent("/track?verbose=1", b"{", V0("data, invalid JSON"))),
    EventCase(
        "ids",
        track(T(distinct_id=""), T(distinct_id=3473), T(distinct_id=True), T(distinct_id="i" * 10_000)),
        [
            {"distinct_id": ""},
            {"distinct_id": "3473"},
            {"distinct_id": "true"},
            {"distinct_id": "i" * 10_000},
        ],
    ),
    EventCase("nobody", track({"event": "E", "properties": {"token": "TOK"}}), [{"distinct_id": ""}]),
    EventCase(
        "__proto__",
        track(T(__proto__={"a": 1}, constructor="x")),
        [{"properties": {"__proto__": {"a": 1}, "constructor": "x"}}],
    ),
    EventCase("255", track(T(**{f"p{n}": n for n in range(255)})), [{"count": 255}]),
    EventCase("256", track(T(**{f"p{n}": n for n in range(256)})), [{"count": 255}]),
    EventCase("ignored", track(T(**{"$ignore": True}), T()), [U1]),
    EventCase("cut", track(T(a="é" * 200)), [{"properties": {"a": "é" * 127}}]),
    EventCase(
        "types",
        track(T(i=1, f=1.0, t=True, n=None, l=[1, "1", [True]], o={"a": {}})),
        [{"properties": {"i": 1, "f": 1.0, "t": True, "n": None, "l": [1, "1", [True]], "o": {"a": {}}}}],
    ),
    EventCase("too large a list", track(T(a=["x" * 100] * 90, b=1)), [{"properties": {"b": 1}}]),
    EventCase(
        "beside",
        Sent("/track", [{**T(), "$mp_metadata": {"x": 1}, "time": 5}]),
        [{"arrived": True, "properties": {}}],
    ),
    EventCase(
        "405",
        Sent(
            "/track",
            b"[]",
            Reply(405, "application/json", lambda found: found.json()["status"] == 0),
            method="PUT",
        ),
    ),
    EventCase(
        "413",
        Sent(
            "/track", [T()] * 2001, Reply(413, "application/json", lambda found: found.json()["code"] == 413)
        ),
    ),
    EventCase(
        "cors",
        Sent(
            "/track/",
            [T()],
            Reply(
                200,
                "text/plain",
                lambda found: found.header("Access-Control-Allow-Origin") == "https://a.example",
            ),
            headers={"Origin": "https://a.example"},
        ),
        [U1],
    ),
]

LOCATED = [
    EventCase("geo: request", track(T(), query="?ip=1", geo=True), [{"properties": EVENT_BERLIN}]),
    EventCase("geo: default", track(T(), geo=True), [{"properties": EVENT_BERLIN}]),
    EventCase("geo: off", track(T(), query="?ip=0", geo=True), [{"properties": {}}]),
    EventCase(
        "geo: own", track(T(ip="81.2.69.160"), query="?ip=0", geo=True), [{"properties": EVENT_LONDON}]
    ),
    EventCase("geo: none", track(T(ip=0), query="?ip=1", geo=True), [{"properties": {}}]),
    EventCase(
        "geo: named",
        track(T(**{"$city": "Rome"}), geo=True),
        [{"properties": {**EVENT_BERLIN, "$city": "Rome"}}],
    ),
    EventCase(
        "geo: no id", track({"event": "E", "properties": {"token": "TOK"}}, geo=True), [{"hashed": True}]
    ),
]

CASES = [*ON_TRACK, *LOCATED]
