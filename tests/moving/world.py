"""Worlds to move: what a seeded chance sends to a server, and what a server answers about it.

A server enters; requests of every kind go to it, or the answers that its users would see come back. What
depends on the moment of asking, or on the engine (positions, sizes, the order of names), is left out.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final

from tests.serving import Server

IDS: Final = ("ann", "bob", "Zoë", "-7", "with space", "x" * 1500, "x" * 1499 + "y", "日本", "%s\\n", "q'\"")
NAMES: Final = ("plan", "n", "when", "list", "тег", "a\\b", 'q"t', "$city")
VALUES: Final[tuple[Any, ...]] = (
    1, 1.0, 0, -1.5, 1e22, 2**63 - 1, 9007199254740993, 1e-7, "", "pro", "1", "tab\tand\nline \\ ends", "é",
    None, True, False, [], [1, 1.0, "1"], {"b": 1, "a": [2.0]}, "2026-01-02T03:04:05", "w" * 9000,
)  # fmt: skip
EVENTS: Final = ("Sign up", "Order", "日")
FIRST_DAY_S: Final = 1_767_225_600  # 2026-01-01
DAYS: Final = 5
JSON: Final = {"Content-Type": "application/json"}


class Sender:
    """Sends to a project of a server what chance says. `number` tells records of one sender apart."""

    def __init__(self, server: Server, token: str, seed: int) -> None:
        self.server = server
        self.token = token
        self.chance = Random(seed)
        self.number = 0

    def updates(self, count: int, *, groups: bool = False) -> list[dict[str, Any]]:
        """Updates of users, or of groups."""
        return [self._update(groups=groups) for _ in range(count)]

    def _update(self, *, groups: bool) -> dict[str, Any]:
        pick = self.chance.choice
        name, value = pick(NAMES), pick(VALUES)
        operator: dict[str, Any] = pick(
            (
                {"$set": {name: value, pick(NAMES): pick(VALUES)}},
                {"$set_once": {name: value}},
                {"$add": {"n": pick((1, -2, 0.5))}},
                {"$append": {"list": value}},
                {"$union": {"list": [1, "a", value]}},
                {"$remove": {"list": 1}},
                {"$unset": [name]},
                {"$set": {f"own {self.chance.randrange(40)}": value}},
                {"$delete": ""},
            )
            if self.chance.random() > 0.05
            else ({"$nonsense": 1},)
        )
        record: dict[str, Any] = {"$token": self.token, **operator}
        if groups:
            record |= {"$group_key": pick(("Company", "Команда")), "$group_id": pick(IDS)}
        else:
            record["$distinct_id"] = pick((*IDS, f"p{self.chance.randrange(60)}"))
        if self.chance.random() < 0.3:
            self.number += 1
            record["$insert_id"] = f"{self.token[:6]}-{self.number}"
        return record

    def events(self, count: int) -> list[dict[str, Any]]:
        """Events, some of which say who is who."""
        found = []
        for _ in range(count):
            self.number += 1
            properties: dict[str, Any] = {
                "time": FIRST_DAY_S + self.chance.randrange(DAYS * 86400),
                "distinct_id": self.chance.choice((*IDS, f"p{self.chance.randrange(60)}")),
                "$insert_id": f"e{self.chance.randrange(self.number + 1)}",
                self.chance.choice(NAMES): self.chance.choice(VALUES),
                "price": self.chance.randrange(50),
            }
            if self.chance.random() < 0.1:
                properties["$device_id"] = f"d{self.chance.randrange(9)}"
                properties["$user_id"] = f"p{self.chance.randrange(9)}"
            found.append({"event": self.chance.choice(EVENTS), "properties": properties})
        return found

    def send(self, count: int) -> None:
        """A few requests of each kind."""
        for groups in (False, True):
            body = json.dumps(self.updates(count, groups=groups))
            path = "/groups" if groups else "/engage"
            self.server.request("POST", f"{path}?verbose=1&ip=0", body, {**JSON, **self._key()})
        events = json.dumps([self._with_token(event) for event in self.events(count)])
        reply = self.server.request("POST", "/track?verbose=1&ip=0", events, JSON)
        assert reply.status == 200, reply

    def _with_token(self, event: dict[str, Any]) -> dict[str, Any]:
        event["properties"]["token"] = self.token
        return event

    def _key(self) -> dict[str, str]:
        if self.chance.random() < 0.5:
            return {}
        self.number += 1
        return {"Idempotency-Key": f"{self.token[:6]}-r{self.number}"}


def furnish(server: Server, project: int) -> None:
    """Give a project what people make: cohorts, a lookup table, reports, annotations, a dictionary."""
    made = [
        server.request("POST", target, json.dumps(body), {**JSON, **server.authorization()})
        for target, body in (
            (
                f"/api/mixdown/cohorts?project_id={project}",
                {"name": "rich", "where": 'number(properties["n"]) > 0', "description": "é"},
            ),
            (
                f"/api/mixdown/cohorts?project_id={project}",
                {"name": "named", "distinct_ids": ["ann", "日本", "bob"]},
            ),
            (
                f"/api/mixdown/reports?project_id={project}",
                {
                    "name": "buy",
                    "definition": {"steps": ["Sign up", "Order"], "days": 30},
                },
            ),
            (f"/api/app/projects/{project}/annotations/tags", {"name": "release"}),
        )
    ]
    for reply in made:
        assert reply.status < 300, reply
    tag = made[-1].json()["results"]["id"]
    reply = server.request(
        "POST",
        f"/api/app/projects/{project}/annotations",
        json.dumps({"date": "2026-01-02 03:04:05", "description": "v1 <b>", "tags": [tag]}),
        {**JSON, **server.authorization()},
    )
    assert reply.status < 300, reply
    table = server.command("lookup-table", "create", "items", "--project", str(project), "--json")
    reply = server.request(
        "PUT",
        f"/lookup-tables/{table['id']}?project_id={project}",
        'sku,title\n1,"a, b"\n2,é\n'.encode(),
        {"Content-Type": "text/csv", **server.authorization()},
    )
    assert reply.status == 200, reply


def answers(server: Server, project: int, secret: str) -> dict[str, Any]:
    """What a project's users are told."""
    own = server.in_project(secret)
    days = {"from_date": "2026-01-01", "to_date": "2026-01-06"}
    found: dict[str, Any] = {"users": own.profiles()}
    for group_key in ("Company", "Команда"):
        found[f"groups {group_key}"] = own.groups(group_key)
    found["events"] = sorted(
        (json.dumps(event, sort_keys=True) for event in own.events()),
    )
    for profile_id in IDS:
        found[f"history {profile_id[:9]}"] = _history(own, profile_id)
        found[f"identity {profile_id[:9]}"] = _json(own, "/api/mixdown/identity", distinct_id=profile_id)
    for name, target, asked in (
        ("properties", "/api/query/engage/properties", {}),
        ("cohorts", "/api/query/cohorts/list", {}),
        ("expressions", "/api/mixdown/cohorts", {}),
        ("names", "/api/query/events/names", {}),
        ("segmentation", "/api/query/segmentation", {**days, "event": "Order", "on": 'properties["price"]'}),
        (
            "sum",
            "/api/query/segmentation/sum",
            {**days, "event": "Order", "on": 'number(properties["price"])'},
        ),
        ("retention", "/api/query/retention", {**days, "born_event": "Sign up", "retention_type": "birth"}),
        ("funnels", "/api/query/funnels/list", {}),
        ("reports", "/api/mixdown/reports", {}),
        ("annotations", "/api/query/annotations", days),
        ("refusals", "/api/mixdown/refusals", {"limit": 1000}),
        (
            "where",
            "/api/query/engage",
            {"where": 'properties["plan"] == "pro" or number(properties["n"]) > 1'},
        ),
    ):
        found[name] = _json(own, target, **asked)
    found["tables"] = _json(server, "/lookup-tables", project_id=project)
    found["refusals"] = _refusals(found["refusals"])
    found["where"] = sorted(row["$distinct_id"] for row in found["where"]["results"])
    return found


def _json(server: Server, target: str, **asked: object) -> Any:
    reply = server.get(target, **asked)
    assert reply.status == 200, (target, reply)
    return _plain(reply.json())


def _plain(value: Any) -> Any:
    """An answer without what says when it was made."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if key not in {"computed_at", "session_id"}}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _history(server: Server, profile_id: str) -> Any:
    reply = server.get("/api/mixdown/history", distinct_id=profile_id)
    return reply.status, _without_positions(_plain(reply.json()))


def _without_positions(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_positions(each) for key, each in value.items() if key != "position"}
    return [_without_positions(each) for each in value] if isinstance(value, list) else value


def _refusals(answer: Any) -> list[str]:
    return sorted(
        json.dumps({key: value for key, value in row.items() if key != "id"}, sort_keys=True)
        for row in answer["results"]
    )
