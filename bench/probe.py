"""`python -m bench.probe PORT SECONDS`: how long after its reply a record can be read.

A client of its own, in a process of its own, updates a profile of its own. When the reply is there it reads
the profile by id, as clients do: the server lets the read wait until the fold has passed the log's head. The
time runs from the reply to the write until the answer that shows the written value is in hand; the read
itself, HTTP and all, is in it. An answer without the value is an error, not a sample. Printed as JSON.
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time
from typing import Final

from bench.load import waits_ms
from bench.records import TOKEN
from bench.server import SECRET

EVERY_S: Final = 0.02
PROFILES: Final = 100
_READING: Final = {"Authorization": "Basic " + base64.b64encode(f"{SECRET}:".encode()).decode()}
_WRITING: Final = {"Content-Type": "application/json"}


def main() -> None:
    """Probe for a time, and print what was seen."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
    deadline = time.perf_counter() + float(sys.argv[2])
    waits: list[float] = []
    written = time.time_ns()
    late = 0
    while time.perf_counter() < deadline:
        written += 1
        name = f"probe-{len(waits) % PROFILES:03d}"
        began = time.perf_counter()
        _write(connection, name, written)
        acknowledged = time.perf_counter()
        if not _reads(connection, name, written):
            late += 1  # the read's own bound ended before the fold was there
            while not _reads(connection, name, written):
                pass
        now = time.perf_counter()
        waits.append(now - acknowledged)
        time.sleep(max(0.0, EVERY_S - (now - began)))
    ordered = sorted(waits)
    print(
        json.dumps(
            {
                "probes": len(waits),
                "past_the_bound": late,
                **waits_ms(ordered),
            }
        )
    )


def _write(connection: http.client.HTTPConnection, name: str, written: int) -> None:
    body = json.dumps([{"$token": TOKEN, "$distinct_id": name, "$ip": 0, "$set": {"written": written}}])
    connection.request("POST", "/engage", body, _WRITING)
    reply = connection.getresponse().read()
    if reply != b"1":
        raise RuntimeError(f"the server did not take the probe's record: {reply!r}")


def _reads(connection: http.client.HTTPConnection, name: str, written: int) -> bool:
    """Whether a read shows what was written; one that does not must say that it is behind."""
    connection.request("GET", f"/api/query/engage?distinct_id={name}", headers=_READING)
    answer = connection.getresponse()
    found = json.loads(answer.read())["results"]
    if found and found[0]["$properties"].get("written") == written:
        return True
    if answer.getheader("X-Mixdown-Behind") is None:
        raise RuntimeError(
            "a read after the reply did not show the record, and did not say that it is behind"
        )
    return False


if __name__ == "__main__":
    main()
