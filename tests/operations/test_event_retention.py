"""`event_retention_days`: a server drops days of events that are older, says so, and keeps all others."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from mixdown.store.event_upkeep import CLOSED_EVENTS, SPLIT_EVENTS
from tests.operations.support import wait_until
from tests.serving import Server, StartServer, start_module_server, start_server

pytestmark = pytest.mark.slow

__all__ = ["start_module_server", "start_server"]

DAY_S = 86_400
AT_ONCE = 2_000
PATIENCE_S = 300.0


def imported(server: Server, time_s: int, numbers: range) -> None:
    """Import events of one moment, a few bytes each."""
    events = [
        {"event": "seen", "properties": {"time": time_s, "distinct_id": f"u{n % 50}", "$insert_id": f"i{n}"}}
        for n in numbers
    ]
    reply = server.request(
        "POST",
        f"/import?strict=1&project_id={server.project_id}",
        json.dumps(events),
        {**server.authorization(), "Content-Type": "application/json"},
    )
    assert reply.json()["num_records_imported"] == len(events), reply.body


def exported(server: Server, time_s: int) -> int:
    """How many events of a day the raw export has."""
    day = datetime.fromtimestamp(time_s, UTC).date()
    reply = server.request(
        "GET",
        f"/api/2.0/export?project_id={server.project_id}&from_date={day}&to_date={day}",
        headers=server.authorization(),
    )
    assert reply.status == 200, reply.body
    return len(reply.body.splitlines())


def test_days_that_are_too_old_go_by_themselves(start_server: StartServer) -> None:
    server = start_server(arguments=["--event-retention-days", "30"])
    noon_s = int(time.time()) // DAY_S * DAY_S - DAY_S // 2
    imported(server, noon_s, range(100))
    imported(server, noon_s - 29 * DAY_S, range(100, 200))
    old_s = noon_s - 40 * DAY_S
    for first in range(0, SPLIT_EVENTS + 2 * CLOSED_EVENTS, AT_ONCE):  # so many of a day are filed soon
        imported(server, old_s, range(first, first + AT_ONCE))
    wait_until(lambda: exported(server, old_s) < SPLIT_EVENTS // 2, timeout_s=PATIENCE_S)
    assert (exported(server, noon_s), exported(server, noon_s - 29 * DAY_S)) == (100, 100)
    said = [json.loads(line) for line in server.log_text().splitlines() if "event_retention_days" in line]
    first_kept = datetime.fromtimestamp(time.time(), UTC).date() - timedelta(days=30)
    assert said[-1]["kept_from"] in {str(first_kept), str(first_kept - timedelta(days=1))}
    assert sum(line["events"] for line in said) > SPLIT_EVENTS // 2
