"""Rate limits per project: the buckets themselves, and 429 over real HTTP."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixdown.http.rates import BURST_S, QUERIES, RECORDS, Buckets, RateLimits
from mixdown.model import texts
from mixdown.model.errors import RateLimitedError
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.memory import MemoryStore
from tests.operations.support import environment, wait_until
from tests.operations.test_health import sample
from tests.serving import TOKEN, Response, Server, StartServer, start_server

pytestmark = pytest.mark.slow

__all__ = ["start_server"]

ORIGIN = {"Origin": "https://shop.example"}
Records = list[dict[str, Any]]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def limits_of(clock: Clock, *tokens: str, **settings: int) -> tuple[RateLimits, MemoryStore]:
    store = MemoryStore()
    for token in tokens:
        store.catalog.create_project(
            token, token=token, secret_hash=token.encode() * 4, id_merge="simplified", now_ms=0
        )
    return RateLimits(Settings(**settings), CatalogCache(store.catalog), None, clock), store  # type: ignore[arg-type]


def admitted(limits: RateLimits, tokens: dict[str, int]) -> float:
    """0 where a request passes, else how long it is to wait."""
    assert limits.on_writes
    try:
        limits.admit_write(tokens)
    except RateLimitedError as error:
        return error.retry_after_s
    return 0


def test_over_any_long_time_a_project_sends_its_rate_and_one_burst() -> None:
    clock = Clock()
    limits, _ = limits_of(clock, "a", rate_limit_records_per_s=100)
    passed = 0
    for _ in range(600):
        clock.now_s += 0.1
        while not admitted(limits, {"a": 7}):
            passed += 7
    assert 100 * (60 + BURST_S) - 20 <= passed <= 100 * (60 + BURST_S)


def test_who_waits_as_long_as_told_passes() -> None:
    clock = Clock()
    limits, _ = limits_of(clock, "a", rate_limit_records_per_s=10)
    assert admitted(limits, {"a": 100}) == 0
    wait_s = admitted(limits, {"a": 35})
    assert wait_s == 4
    clock.now_s += wait_s - 1
    assert admitted(limits, {"a": 35}) > 0
    clock.now_s += 1
    assert admitted(limits, {"a": 35}) == 0


def test_a_request_larger_than_a_bucket_passes_when_it_is_full_and_is_paid_for_later() -> None:
    clock = Clock()
    limits, _ = limits_of(clock, "a", rate_limit_records_per_s=1)
    assert admitted(limits, {"a": 2000}) == 0
    assert admitted(limits, {"a": 2000}) == 2000
    clock.now_s += 1999
    assert admitted(limits, {"a": 1}) == 0, "the bucket holds 9 of 10 by now"
    assert admitted(limits, {"a": 2000}) > 0
    clock.now_s += 3
    assert admitted(limits, {"a": 2000}) == 0


def test_what_is_turned_away_takes_nothing_from_any_bucket() -> None:
    clock = Clock()
    limits, _ = limits_of(clock, "a", "b", rate_limit_records_per_s=1, rate_limit_requests_per_s=1)
    assert admitted(limits, {"a": 10}) == 0
    for _ in range(50):
        assert admitted(limits, {"a": 1, "b": 5}) > 0
    assert admitted(limits, {"b": 10}) == 0


def test_projects_do_not_take_from_each_other_and_unknown_tokens_share_one_bucket() -> None:
    limits, _ = limits_of(Clock(), "a", "b", rate_limit_records_per_s=1)
    assert admitted(limits, {"a": 10}) == 0
    assert admitted(limits, {"b": 10}) == 0
    assert admitted(limits, {"x": 5, "y": 5}) == 0
    assert admitted(limits, {"z": 1}) > 0
    assert admitted(limits, {"": 1}) > 0


def test_a_limit_of_the_project_goes_before_the_setting_at_once() -> None:
    clock = Clock()
    limits, store = limits_of(clock, "a", "b", rate_limit_records_per_s=1)
    assert admitted(limits, {"a": 10}) == 0
    own: dict[str, Any] = {"requests_per_s": None, "queries_per_hour": None}
    for records_per_s, holds in ((0, 10**9), (90, 900), (None, 10)):
        store.catalog.limit_project(1, records_per_s=records_per_s, **own)
        limits._catalog.refresh()
        clock.now_s += BURST_S
        assert admitted(limits, {"a": holds}) == 0, records_per_s
        assert bool(admitted(limits, {"a": 1})) is (records_per_s != 0)
    assert admitted(limits, {"b": 10}) == 0


def test_without_limits_nothing_is_asked_or_made() -> None:
    limits, store = limits_of(Clock(), "a")
    assert not limits.on_writes
    limits.admit_query(1)
    assert limits._buckets is None
    own = {"records_per_s": None, "requests_per_s": 5, "queries_per_hour": None}
    store.catalog.limit_project(1, **own)
    limits._catalog.refresh()
    assert limits.on_writes, "one project's own limit is enough"


def test_queries_are_counted_by_the_hour() -> None:
    clock = Clock()
    limits, _ = limits_of(clock, "a", rate_limit_queries_per_hour=60)
    for _ in range(60):
        limits.admit_query(1)
    with pytest.raises(RateLimitedError, match="Query rate limit exceeded for project_id: 1") as refused:
        limits.admit_query(1)
    assert refused.value.retry_after_s == 60
    clock.now_s += 60
    limits.admit_query(1)


TAKER = """
import sys
from pathlib import Path
from mixdown.http.rates import Buckets
buckets = Buckets(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(sum(buckets.take([("records", 7, 1.0, 1000.0)]) is None for _ in range(600)))
"""


def test_processes_that_take_at_once_never_take_more_than_there_is(tmp_path: Path) -> None:
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(tmp_path / "rates")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for taker in takers:
        assert taker.stdout is not None
        assert taker.stdout.readline() == "ready\n"
    began = time.monotonic()
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("go\n")
        taker.stdin.flush()
    taken = sum(int(taker.communicate(timeout=120)[0]) for taker in takers)
    assert 1000 <= taken <= 1000 + (time.monotonic() - began) + 1
    assert Buckets(tmp_path / "rates").take([(RECORDS, 8, 1000.0, 1000.0)]) is None, "of another project"
    assert Buckets(tmp_path / "rates").take([(QUERIES, 7, 1000.0, 1000.0)]) is None, "of another kind"
    assert (tmp_path / "rates").stat().st_blocks * 512 < 100_000


# --- over HTTP


def records(count: int, token: str = TOKEN) -> Records:
    return [{"$token": token, "$distinct_id": f"u{number}", "$set": {"x": 1}} for number in range(count)]


def test_a_project_past_its_limit_gets_mixpanels_429_and_others_go_on(start_server: StartServer) -> None:
    server = start_server(arguments=["--rate-limit-records-per-s", "5"])
    other = server.command("project", "create", "other", "--json")["token"]
    assert server.post("/engage", records(50)).body == b"1"
    refused = server.post("/engage?verbose=1&ip=1", records(50), ORIGIN)
    assert refused.status == 429
    assert refused.json() == {"code": 429, "error": texts.RATE_LIMITED, "status": "Too Many Requests"}
    assert 9 <= int(refused.header("retry-after") or 0) <= 10
    assert refused.header("access-control-allow-origin") == ORIGIN["Origin"]
    assert refused.header("access-control-expose-headers") == "Retry-After"
    assert server.post("/engage", records(50, other)).body == b"1"
    assert sample(server, "mixdown_rate_limited_requests_total", limit="records", project="1") == 1
    assert sample(server, "mixdown_requests_total", endpoint="/engage", status="429") == 1
    assert sample(server, "mixdown_records_total", endpoint="engage", outcome="refused") == 0
    assert server.get("/api/mixdown/refusals").json()["results"] == [], "nothing of it is kept"
    assert len(server.profiles()) == 50


@pytest.mark.parametrize(
    "send",
    [
        lambda server: server.post("/groups", [{"$token": TOKEN, "$group_key": "g", "$group_id": "1"}]),
        lambda server: server.post("/engage", f'no JSON "$token": "{TOKEN}"'),
        lambda server: server.request("GET", f"/engage?data=%7B%22%24token%22%3A%22{TOKEN}%22%7D"),
    ],
    ids=["groups", "a body that cannot be read", "GET"],
)
def test_every_kind_of_write_counts_as_a_request(
    start_server: StartServer, send: Callable[[Server], Response]
) -> None:
    server = start_server(arguments=["--rate-limit-requests-per-s", "1"])
    replies = [send(server).status for _ in range(12)]
    assert replies[:10] == [200] * 10
    assert 429 in replies[10:]
    assert sample(server, "mixdown_rate_limited_requests_total", limit="requests", project="1") >= 1


def test_events_count_whosever_token_they_bring_and_however_they_come(start_server: StartServer) -> None:
    server = start_server(arguments=["--rate-limit-records-per-s", "5"])
    other = server.command("project", "create", "other", "--json")["token"]
    # with its commit the worker sees the project: records of both, judged before, may be turned away
    seen = server.post("/engage", {"$token": other, "$distinct_id": "ada", "$set": {}})
    assert seen.body == b"1"

    def event(token: str, **more: Any) -> dict[str, Any]:
        return {"event": "E", "properties": {"token": token, **more}}

    odd = [event(other), *[event(TOKEN, time="now") for _ in range(50)]]  # none of them plain but the first
    assert server.post("/track", odd).status == 200
    assert server.post("/track", [event(TOKEN)] * 20).status == 429
    now_s = int(time.time())
    imported = [event(other, time=now_s)] * 20
    credentials = {"Authorization": f"Basic {TOKEN}:"}
    assert server.post("/import", imported, credentials).status == 429, (
        "its project is that of its credentials"
    )
    assert server.post("/import", imported, {"Authorization": f"Basic {other}:"}).status == 200


def test_a_limit_holds_over_all_workers_together(start_server: StartServer) -> None:
    server = start_server(workers=3, arguments=["--rate-limit-requests-per-s", "2"])
    passed: list[bool] = []
    began = time.monotonic()

    def send() -> None:
        # on a connection of its own each: the system spreads them over the workers
        passed.extend(server.post("/engage", records(1)).status == 200 for _ in range(15))

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    allowed = 2 * (BURST_S + time.monotonic() - began)
    assert 20 <= sum(passed) <= allowed + 1
    assert len(passed) == 60


def test_a_projects_own_limit_is_set_by_the_command_line_while_the_server_runs(
    start_server: StartServer,
) -> None:
    server = start_server()
    server.command("project", "set", "default", "--rate-limit-records-per-s", "1", "--json")
    assert server.post("/engage", records(1)).body == b"1"  # with its commit the worker sees the change
    assert server.post("/engage", records(2000)).body == b"1"
    assert server.post("/engage", records(1)).status == 429
    server.command("project", "set", "default", "--rate-limit-records-per-s", "default", "--json")
    wait_until(lambda: server.post("/engage", records(20)).status == 200)


@pytest.mark.parametrize("limit", ["-1", "1.5", "many", "10000000000", ""])
def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, limit: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "mixdown", "project", "set", "1", f"--rate-limit-records-per-s={limit}"],
        env=environment(MIXDOWN_DATA_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 2
    assert "is neither a whole number below a billion nor `default`" in asked.stderr


def test_queries_past_their_limit_are_told_so_as_mixpanel_does(start_server: StartServer) -> None:
    server = start_server(arguments=["--rate-limit-queries-per-hour", "2"])
    asked = [server.get("/api/query/engage", project_id=server.project_id) for _ in range(3)]
    assert [reply.status for reply in asked] == [200, 200, 429]
    assert asked[2].json()["error"].startswith("Query rate limit exceeded for project_id: 1.")
    assert 1700 < int(asked[2].header("retry-after") or 0) <= 1800
    assert asked[2].header("access-control-allow-origin") is None
    assert server.get("/api/mixdown/status").status == 200, "Mixdown's own API has no limit"
    assert sample(server, "mixdown_rate_limited_requests_total", limit="queries", project="1") == 1
