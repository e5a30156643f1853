"""How a case of the contract is written down, sent to a running server, and checked.

A case begins with an empty store, sends requests, compares each reply byte for byte, and then reads
back every profile that there is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.contract.geo import CLIENT_IP
from tests.serving import Profile, Response, Server

TOKEN = "TOK"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
GROUP_KEY = "Company"
BATCH = 2000
Record = dict[str, Any]
SET: Record = {"$set": {"a": 1}}
A1 = {"u1": {"a": 1}}
ACME_A1 = {"Acme": {"a": 1}}


def R(operation: Record, distinct_id: Any = "u1") -> Record:  # noqa: N802 - as the contract calls it
    """A user record."""
    return {"$token": TOKEN, "$distinct_id": distinct_id, **operation}


def G(operation: Record, group_id: Any = "Acme") -> Record:  # noqa: N802 - as the contract calls it
    """A group record."""
    return {"$token": TOKEN, "$group_key": GROUP_KEY, "$group_id": group_id, **operation}


@dataclass(frozen=True)
class Reply:
    """What must come back: status, content type, body; a body that is a function checks for itself."""

    status: int
    content_type: str | None
    body: bytes | Callable[[Response], bool]

    def check(self, response: Response) -> None:
        """Compare, with the whole response in the message."""
        assert (response.status, response.header("Content-Type")) == (self.status, self.content_type), (
            response
        )
        if isinstance(self.body, bytes):
            assert response.body == self.body, response
        else:
            assert self.body(response), response


ONE = Reply(200, "text/plain", b"1")
ZERO = Reply(200, "text/plain", b"0")
V1 = Reply(200, "application/json", b'{"error":null,"status":1}')


def V0(error: str) -> Reply:  # noqa: N802 - as the contract calls it
    """The verbose reply to a request without one good record."""
    return exactly(200, {"error": error, "status": 0})


def exactly(status: int, content: Any) -> Reply:
    """A JSON reply, its keys in this order."""
    return Reply(status, "application/json", json.dumps(content, separators=(",", ":")).encode())


def strict_reply(good: int, *failed: tuple[int, str, str]) -> Reply:
    """The reply under `strict=1` (contract ingestion §6.3)."""
    if not failed:
        return exactly(
            200,
            {"code": 200, "error": None, "num_good_events": good, "num_records_imported": good, "status": 1},
        )
    return exactly(
        200,
        {
            "code": 200,
            "error": "some data points in the request failed validation",
            "failed_records": [
                {"index": index, "field": name, "message": message} for index, name, message in failed
            ],
            "num_good_events": good,
            "num_records_imported": good,
            "status": 0,
        },
    )


@dataclass(frozen=True)
class Sent:
    """One request and its reply. `geo` leaves out the `ip=0` that the contract adds to all others."""

    target: str
    body: Any = None
    reply: Reply = ONE
    method: str = "POST"
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    geo: bool = False

    def full_target(self) -> str:
        """The target as it goes over the wire."""
        if self.geo:
            return self.target
        return self.target + ("&" if "?" in self.target else "?") + "ip=0"

    def send(self, server: Server) -> Response:
        """Send the request; what is neither bytes nor None goes as JSON."""
        body = self.body
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"X-Forwarded-For": CLIENT_IP, **self.headers}
        if body is not None and self.content_type:
            headers["Content-Type"] = self.content_type
        return server.request(self.method, self.full_target(), body or b"", headers)


@dataclass(frozen=True)
class Case:
    """A numbered case: what is given, what is sent, and all profiles that are there afterwards."""

    name: str
    sent: Sent | Sequence[Sent]
    users: Mapping[str, Profile] = field(default_factory=dict)
    groups: Mapping[str, Profile] = field(default_factory=dict)
    given: Sequence[Record] = ()
    last_seen: str = ""


def engage(*operations: Record, query: str = "", reply: Reply = ONE) -> Sent:
    """A batch of records of u1, as JSON."""
    return Sent("/engage" + query, [R(operation) for operation in operations], reply)


def groups(*operations: Record, query: str = "", reply: Reply = ONE) -> Sent:
    """A batch of records of Company/Acme, as JSON."""
    return Sent("/groups" + query, [G(operation) for operation in operations], reply)


def run(server: Server, case: Case) -> None:
    """Run one case against a server whose store may hold anything."""
    empty(server)
    if case.given:
        endpoint = "/groups" if "$group_id" in case.given[0] else "/engage"
        Sent(endpoint, list(case.given)).reply.check(Sent(endpoint, list(case.given)).send(server))
    began = datetime.now(UTC)
    for sent in [case.sent] if isinstance(case.sent, Sent) else case.sent:
        sent.reply.check(sent.send(server))
    users, found_groups = server.profiles(), server.groups(GROUP_KEY)
    for profile in [*users.values(), *found_groups.values()]:
        seen = profile.pop("$last_seen")
        if case.last_seen:
            assert seen == case.last_seen
        else:
            assert_recent(seen, began - timedelta(minutes=1))
    assert exact(users) == exact(case.users)
    assert exact(found_groups) == exact(case.groups)


def exact(value: Any) -> Any:
    """A value in a form in which 1, 1.0 and true differ, and the order of keys does not count."""
    return json.dumps(value, sort_keys=True)


def assert_recent(seen: str, since: datetime) -> None:
    """`$last_seen` names a moment between `since` and now."""
    moment = datetime.strptime(seen, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    assert since - timedelta(seconds=1) <= moment <= datetime.now(UTC) + timedelta(seconds=1), seen


def empty(server: Server) -> None:
    """Delete every profile that there is."""
    deletions = {
        "/engage": [R({"$delete": ""}, name) for name in server.profiles()],
        "/groups": [G({"$delete": ""}, name) for name in server.groups(GROUP_KEY)],
    }
    for path, records in deletions.items():
        for start in range(0, len(records), BATCH):
            sent = Sent(path, records[start : start + BATCH])
            sent.reply.check(sent.send(server))
