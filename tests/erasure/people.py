"""People with unmistakable names, values and property names, and how a test sends and erases them."""

from __future__ import annotations

import random
import time
from typing import Any

from tests.serving import Response, Server

DELETIONS = "/api/app/data-deletions/v3.0"
RETRIEVALS = "/api/app/data-retrievals/v3.0"
PATIENCE_S = 150.0


class Crowd:
    """Some people of one project, and their records: every value tells whose it is."""

    def __init__(self, server: Server, name: str, count: int, *, seed: int = 7) -> None:
        self.server = server
        self.ids = [f"{name}-{number:04d}-id" for number in range(count)]
        self._random = random.Random(seed)
        self._sent = 0

    def markers(self, person: str) -> set[str]:
        """What must not be found once this person is erased; all that `send` made begins with one of them."""
        bare = person.removesuffix("-id")
        return {person, f"{bare}-value", f"{bare}-property"}

    def record(self, person: str) -> dict[str, Any]:
        """A record of one of several kinds, with values of many sizes."""
        self._sent += 1
        bare = person.removesuffix("-id")
        value = f"{bare}-value-{self._sent}-" * self._random.choice((1, 3, 10, 40, 200))
        operation = self._random.choice(
            (
                {"$set": {"name": value, f"{bare}-property": 1, "same": "for all"}},
                {"$append": {"visits": value[:300]}},
                {"$set": {"name": value, "nested": {f"{bare}-property": [value[:100]]}}},
                {"$unset": ["name"]},
                {"$union": {"tags": [value[:50]]}},
            )
        )
        return {"$token": self.server.token, "$distinct_id": person, **operation}

    def send(self, rounds: int, *, at_once: int = 50) -> None:
        """Send records of all people, in random order; each request also brings one that is refused."""
        for _ in range(rounds):
            order = self._random.sample(self.ids, len(self.ids))
            for at in range(0, len(order), at_once):
                some = order[at : at + at_once]
                refused = {**self.record(some[0]), "$set": 5, "$insert_id": f"{some[0]}-insert"}
                self.post([*map(self.record, some), refused])

    def post(self, records: list[dict[str, Any]], *, key: str = "") -> Response:
        """Send records, with an idempotency key where one is given."""
        headers = {"Idempotency-Key": key} if key else {}
        reply = self.server.post("/engage?strict=0&verbose=1", records, headers)
        assert reply.status == 200, reply
        return reply


def ask_erasure(server: Server, ids: list[str], **body: object) -> dict[str, Any]:
    """Ask for an erasure; the job as it was answered."""
    reply = server.post(
        f"{DELETIONS}?token={server.token}",
        {"distinct_ids": ids, "compliance_type": "GDPR", **body},
        server.authorization(),
    )
    assert reply.status == 201, reply
    job: dict[str, Any] = reply.json()["results"]
    return job


def job_of(server: Server, task_id: str) -> dict[str, Any]:
    """The job as it is now, or a moment later."""
    reply = server.get(f"{DELETIONS}/{task_id}/", token=server.token)
    assert reply.status == 200, reply
    job: dict[str, Any] = reply.json()["results"]
    return job


def wait_until_erased(server: Server, task_id: str) -> dict[str, Any]:
    """The job when it is done."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        job = job_of(server, task_id)
        if job["status"] == "SUCCESS":
            return job
    raise AssertionError(f"not erased after {PATIENCE_S} s: {job}")
