"""The short form of `make torture-postgres`, and single faults whose outcome is known to the record."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mixdown.model.errors import MixdownError, StoreDownError
from mixdown.store.postgres import open_postgres
from mixdown.store.postgres.answers import WatchedConnection
from tests.serving import TOKEN, Response, Server
from tests.store.support import append, appending
from tests.torture.ledger import Account
from tests.torture.postgres.__main__ import save
from tests.torture.postgres.clusters import DATABASE, Pair, pair, until
from tests.torture.postgres.faults import BOUNCED, STRAIGHT
from tests.torture.postgres.run import Report, Tally, run
from tests.torture.postgres.stage import Stage

BROKEN = str(Path(__file__).parent / "broken")
IN_SHORT = ("processes killed", "failover", "answers cut off")
IN_SHORT_BOUNCED = ("pgbouncer killed", "answers lost")


def test_each_run_that_is_kept_says_what_was_run_and_when(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    for seed, lost in ((7, 1), (5, 2), (7, 3)):
        save({"seed": seed, "lost": lost}, kept)
    found = json.loads(kept.read_text())
    assert [(run["seed"], run["lost"]) for run in found["runs"]] == [(5, 2), (7, 3)]
    assert {name for run in found["runs"] for name in run["run"]} == {
        "mixdown",
        "commit",
        "at",
        "load_before",
    }
    assert not {"commit", "at"} & found["machine"].keys(), "another run may be of another version"


@pytest.mark.slow
@pytest.mark.parametrize("bounced", [False, True], ids=["straight", "through pgbouncer"])
def test_nothing_is_lost_or_applied_twice_when_what_nodes_need_fails(*, bounced: bool) -> None:
    """One round of some faults, of the program that `make torture-postgres` runs."""
    faults = BOUNCED if bounced else STRAIGHT
    some = {name: faults[name] for name in (IN_SHORT_BOUNCED if bounced else IN_SHORT)}
    report = run(Report(2026), some, 0.0, bounced=bounced, large=not bounced)
    print("\n".join(["", *report.lines()]))  # noqa: T201 - the record of what was tried
    assert report.failures() == []
    assert {name.partition(", through")[0] for name in report.tallies} == set(some)
    assert all(tally.acknowledged > 0 for tally in report.tallies.values())
    assert report.traffic["answered 503"] > 0
    assert report.traffic["repeated after the answer"] > 0


@pytest.mark.slow
def test_torture_notices_retries_that_are_applied_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: nobody knows a key. Answers are cut off behind commits, and clients send again."""
    monkeypatch.setenv("PYTHONPATH", BROKEN, prepend=":")
    faults = {"answers cut off": STRAIGHT["answers cut off"]}
    report = run(Report(1), faults, 0.0, bounced=False, large=True, nodes=1, standby=False)
    assert not report.faults, report.faults
    assert sum(tally.twice for tally in report.tallies.values()) > 0


@contextmanager
def confirmed_by_a_standby(servers: Pair) -> Iterator[Callable[[], bool]]:
    """What appends once; whether it was acknowledged."""
    store = open_postgres(servers.primary.url(DATABASE), role="worker", create=False)

    def appended() -> bool:
        try:
            append(store.log, appending("x"))
        except StoreDownError:
            return False
        return True

    yield appended
    store.close()


def cancelled_while_it_waits(servers: Pair) -> bool:
    """Whether an append is acknowledged whose wait for the standby somebody cancelled."""
    acknowledged: list[bool] = []
    with confirmed_by_a_standby(servers) as appended:
        servers.other.pause(paused=True)
        try:
            thread = threading.Thread(target=lambda: acknowledged.append(appended()))
            thread.start()
            cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            until(lambda: servers.primary.ask(cancel) == 1, "nothing waits for the standby")
            thread.join(120)
        finally:
            servers.other.pause(paused=False)
        assert appended()
    return acknowledged == [True]


@pytest.mark.slow
def test_a_commit_that_no_standby_confirmed_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL says COMMIT when that wait is cancelled; the mutant believes it."""
    with pair() as servers:
        servers.migrate(1)
        assert not cancelled_while_it_waits(servers)
        monkeypatch.setattr(WatchedConnection, "watch_commits", lambda _: None)
        assert cancelled_while_it_waits(servers)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One node, on one database."""
    with pair(standby=False) as servers:
        made = Stage(servers, 1, nodes=1, large=True)
        yield made
        made.close()


def write(server: Server, name: str, *ids: str, key: str = "") -> Response:
    """Add 1 to `name` of each profile."""
    records = [{"$token": TOKEN, "$distinct_id": each, "$add": {name: 1}} for each in ids]
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    return server.request("POST", "/engage?ip=0", json.dumps(records), headers)


def values(stage: Stage, name: str, *ids: str) -> list[Any]:
    stored = stage.stored()
    return [stored.get(("", each), {}).get(name) for each in ids]


IDS = tuple(f"person-{number}" for number in range(20))


@pytest.mark.slow
def test_a_write_whose_outcome_is_unknown_is_503_and_its_retry_is_stored_once(stage: Stage) -> None:
    """With a key. Of a large project some partitions may have it and others not."""
    (network,) = stage.networks.values()
    for weather in ("cut", "mute"):
        name, key = f"n {weather}", f"key {weather}"
        assert write(stage.server, name, "first", key="another").status == 200
        network.weather = "cut" if weather == "cut" else "mute"
        began = time.monotonic()
        reply = write(stage.server, name, *IDS, key=key)
        assert (reply.status, bool(reply.header("Retry-After"))) == (503, True), reply
        assert time.monotonic() - began < 20
        network.weather = "clear"

        def taken(name: str = name, key: str = key) -> bool:
            return write(stage.server, name, *IDS, key=key).status == 200

        until(taken, "it is never taken")
        assert taken(), "and once more"
        assert values(stage, name, *IDS) == [1] * len(IDS)


@pytest.mark.slow
def test_while_the_database_is_away_every_write_is_503_with_retry_after(stage: Stage) -> None:
    """Those too that ask it something before they are on their way: /import, requests with a key."""
    server = stage.server
    assert write(server, "away", "ada").status == 200
    stage.pair.primary.kill()
    event = {"event": "e", "properties": {"time": 1, "distinct_id": "ada", "$insert_id": "i"}}
    for _ in range(3):
        replies = [
            write(server, "away", "ada"),
            write(server, "away", "ada", key="k"),
            write(server, "away", *IDS, key="k2"),
            server.post("/import?strict=1", [event], server.authorization()),
            server.post("/track", [{"event": "e", "properties": {"token": TOKEN, "distinct_id": "ada"}}]),
            server.request("POST", "/engage", "data=%7Bbroken", {"Content-Type": "text/plain"}),
        ]
        told = [(reply.status, reply.header("Retry-After") is not None) for reply in replies]
        assert told == [(503, True)] * len(replies)
        assert server.get("/api/query/engage", project_id=1).status == 503
        assert server.request("GET", "/readyz").status == 503
    stage.pair.primary.start()
    until(lambda: write(server, "away", "ada").status == 200, "it does not come back")
    assert values(stage, "away", "ada") == [2]


@pytest.mark.slow
def test_a_node_goes_on_when_it_was_stopped_while_others_read_its_partitions(stage: Stage) -> None:
    """Its processes have lost their leases, and write nothing late; then they take them again."""
    server = stage.server
    with stage.stopped(stage.readers(0)):
        assert write(server, "stopped", *IDS).status == 200
        url = stage.pair.primary.url(DATABASE)
        with suppress(MixdownError):
            open_postgres(url, role="cli", create=False).close()
        with stage.pair.primary.connect(DATABASE) as connection:
            expired = "SELECT count(*) FROM mixdown.leases WHERE kind = 'fold' AND expires_at < now()"

            def all_expired() -> bool:
                found: Any = connection.execute(expired).fetchone()
                return bool(found[0] == stage.partitions)

            until(all_expired, "leases of stopped processes last")
            # as another holder takes them: each has a higher fence from now on
            connection.execute("UPDATE mixdown.leases SET fence = fence + 1, holder = NULL")
            connection.execute("UPDATE mixdown.watermarks SET fence = fence + 1")
    assert values(stage, "stopped", *IDS) == [1] * len(IDS)


def test_a_report_fails_for_what_was_lost_applied_twice_late_or_unanswered() -> None:
    report = Report(1)
    report.tallies["a"] = Tally(rounds=1, acknowledged=10)
    assert report.failures() == []
    account = Account(losses=2, duplicates=1)
    report.tallies["a"] = Tally(1, 10, account.losses, account.duplicates, 1, recovered_s=99)
    assert report.tallies["a"].found == 8
    assert len(report.failures()) == 4
    report.stood_still_s = 60.0
    assert len(report.failures()) == 3
