"""Clients that never give up: each request is sent again, with its keys, until it is answered `1`.

What they send can be checked exactly whatever the order in which clients interleave: counters only
add, lists take each element once, and every client has a property of its own, which must end at the
last value that it sent, its list elements in the order sent.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from typing import Any

PROFILES = 40
TIMEOUT_S = 60.0


class Client(threading.Thread):
    """One connection's worth of requests, by seed."""

    def __init__(self, number: int, port: int, token: str, seed: int, stop: threading.Event) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.number = number
        self.port = port
        self.token = token
        self.random = random.Random(f"{seed}/{number}")
        self.stop = stop
        self.in_flight = False
        self.resent = 0
        self.answered = 0
        self.records: list[dict[str, Any]] = []
        self.connection: http.client.HTTPConnection | None = None
        self.serial = 0

    def run(self) -> None:
        """Send until told to stop; whatever was begun is carried through."""
        while not self.stop.is_set():
            body, headers, records = self.request()
            tries = 0
            while not self.send(body, headers):
                tries += 1
                self.resent += 1
                assert tries < 2000, "the server never came back"
                time.sleep(0.02)
            self.records += records
            self.answered += 1
        if self.connection is not None:
            self.connection.close()

    def request(self) -> tuple[bytes, dict[str, str], list[dict[str, Any]]]:
        """A new request of 1 to 20 records that carries keys of one of the three sorts."""
        sort = self.random.choice(("request", "insert_id", "event_id"))
        records = []
        for _ in range(self.random.randint(1, 20)):
            self.serial += 1
            record: dict[str, Any] = {
                "$token": self.token,
                "$distinct_id": f"profile-{self.random.randrange(PROFILES)}",
            }
            mark = f"{self.number}:{self.serial}"
            record |= self.random.choice(
                (
                    {"$add": {"total": self.random.randint(1, 9)}},
                    {"$append": {f"log_{self.number}": mark}},
                    {"$set": {f"last_{self.number}": self.serial}},
                )
            )
            if sort == "insert_id":
                record["$insert_id"] = mark
            elif sort == "event_id":
                record["$mp_metadata"] = {"$mp_event_id": f"e{mark}"}
            records.append(record)
        headers = {"Content-Type": "application/json"}
        if sort == "request":
            headers["Idempotency-Key"] = str(uuid.UUID(int=self.random.getrandbits(128)))
        return json.dumps(records).encode(), headers, records

    def send(self, body: bytes, headers: dict[str, str]) -> bool:
        """One try; whether the answer was `1`. A refusal is a fault of the test or of the server."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
            self.in_flight = True
            self.connection.request("POST", "/engage?ip=0", body, headers)
            reply = self.connection.getresponse()
            text = reply.read()
        except (OSError, http.client.HTTPException):
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            return False
        finally:
            self.in_flight = False
        if reply.status == 503:
            return False
        assert (reply.status, text) == (200, b"1"), (reply.status, text)
        return True


def expected_profiles(clients: list[Client]) -> dict[str, dict[str, Any]]:
    """What the profiles must hold when each acknowledged record was applied exactly once."""
    totals: Counter[str] = Counter()
    profiles: dict[str, dict[str, Any]] = defaultdict(dict)
    for client in clients:
        for record in client.records:
            profile = profiles[record["$distinct_id"]]
            for name, delta in record.get("$add", {}).items():
                totals[record["$distinct_id"]] += delta
                profile[name] = totals[record["$distinct_id"]]
            for name, mark in record.get("$append", {}).items():
                profile.setdefault(name, []).append(mark)
            for name, value in record.get("$set", {}).items():
                profile[name] = value
    return dict(profiles)
