"""Fills a server over HTTP with something of everything that the explorer shows, for tests in a browser.

A running server enters; a `Seeded` leaves, whose `config()` is what flows get. Two halves: `pleasant`, which
looks like a real product's data, and `hostile`, which looks like an attack and like accidents. The same each
time but for the clock.
"""

import json
import random
import time
from dataclasses import dataclass
from typing import Any, Final

from tests import engine
from tests.explorer import hostile as attack
from tests.explorer import pleasant as ordinary
from tests.serving import Server

ROLES: Final = ("admin", "analyst", "consumer")
PROJECT_NAME: Final = "Harbor"
_BATCH: Final = 500


@dataclass(frozen=True)
class Seeded:
    """The server with what is in it: `accounts` by role as (username, password), cohorts by name."""

    server: Server
    accounts: dict[str, tuple[str, str]]
    cohorts: dict[str, int]
    lookup_tables: dict[str, str]

    def config(self) -> dict[str, Any]:
        """What a flow is told of the server, as plain JSON."""
        return {
            "url": self.server.base_url,
            "isOfFolder": not engine.ON_POSTGRES,
            "project": self.server.project_id,
            "token": self.server.token,
            "secret": self.server.secret,
            "accounts": {
                role: {"username": name, "password": password}
                for role, (name, password) in self.accounts.items()
            },
            "cohorts": self.cohorts,
            "lookupTables": self.lookup_tables,
            "people": {
                "ada": ordinary.ADA,
                "plain": "user-0005",
                "wide": attack.WIDE,
                "hostile": attack.HOSTILE,
                "company": "Acme",
                "event": "Page viewed",
            },
        }


def seed(server: Server, *, with_records: bool = True, with_hostile: bool = True) -> Seeded:
    """Fill a fresh server; without records where they are in it already."""
    now_s = int(time.time())
    _owned(server, "PATCH", f"/api/mixdown/projects/{server.project_id}", {"name": PROJECT_NAME})
    accounts = {"owner": server.account} | {role: _account(server, role) for role in ROLES}
    if with_records:
        for batch in ordinary.profile_updates(now_s):
            _write(server, "/engage", batch)
        _write(server, "/groups", ordinary.group_updates(now_s))
        _import(server, ordinary.events(now_s))
        _write_recent(server, now_s)
    for path, records in ordinary.refused(server.token, now_s):
        assert server.post(f"{path}{'&' if '?' in path else '?'}ip=0", records).status == 200
    cohorts = {name: _cohort(server, name, where) for name, where in ordinary.COHORTS}
    tables = {"plans": _lookup_table(server, "plans", ordinary.LOOKUP_TABLE)}
    if with_hostile:
        for path, records in attack.writes(server.token):
            assert server.post(path, records).status == 200
        _import(server, attack.events(now_s))
        for name, where in attack.COHORTS:
            cohorts[name] = _cohort(server, name, where)
        for name, cells in attack.LOOKUP_TABLES:
            tables[name] = _lookup_table(server, name, cells)
    return Seeded(server, accounts, cohorts, tables)


def save_reports(server: Server) -> int:
    """Save reports, a cohort that counts events and a dashboard, as `pleasant` has them; its number."""
    own = {"project_id": server.project_id}
    _owned(server, "POST", "/api/mixdown/cohorts", {**ordinary.COUNTING_COHORT, **own})
    numbers = []
    for name, kind, description, definition in ordinary.REPORTS:
        body = {"name": name, "kind": kind, "description": description, "definition": definition, **own}
        numbers.append(_owned(server, "POST", "/api/mixdown/reports", body)["id"])
    title, places = ordinary.DASHBOARD
    placed = [{"id": numbers[place], "width": width} for place, width in places]
    made = _owned(server, "POST", "/api/mixdown/dashboards", {"title": title, "reports": placed, **own})
    return int(made["id"])


def _write(server: Server, path: str, records: list[dict[str, Any]]) -> None:
    for start in range(0, len(records), _BATCH):
        batch = [{"$token": server.token, **record} for record in records[start : start + _BATCH]]
        reply = server.post(f"{path}?ip=0&verbose=1", batch)
        assert reply.json() == {"error": None, "status": 1}, reply


def _import(server: Server, events: list[dict[str, Any]]) -> None:
    for start in range(0, len(events), _BATCH):
        target = f"/import?project_id={server.project_id}&verbose=1"
        reply = server.post(target, events[start : start + _BATCH], server.authorization())
        assert reply.json()["error"] is None, reply


def _write_recent(server: Server, now_s: int) -> None:
    """What has just arrived, for the pages that show the last minutes."""
    source = random.Random(10)
    everyone = ordinary.people(now_s)
    sent = []
    for number in range(40):
        event = ordinary.event(
            source.choice(everyone), source, now_s - source.randrange(120), f"now-{number:03}"
        )
        event["properties"]["token"] = server.token
        sent.append(event)
    assert server.post("/track?ip=0", sent).body == b"1"


def _owned(server: Server, method: str, path: str, body: object) -> Any:
    headers = {**server.authorization(), "Content-Type": "application/json"}
    reply = server.request(method, path, json.dumps(body), headers)
    assert reply.status in (200, 201), reply
    return reply.json()["results"]


def _account(server: Server, role: str) -> tuple[str, str]:
    asked = {"username": f"{role}.tests", "role": role, "project_id": server.project_id}
    made = _owned(server, "POST", "/api/mixdown/accounts", asked)
    return made["username"], made["password"]


def _cohort(server: Server, name: str, where: str) -> int:
    asked = {"name": name, "where": where, "project_id": server.project_id}
    return int(_owned(server, "POST", "/api/mixdown/cohorts", asked)["id"])


def _lookup_table(server: Server, name: str, cells: str) -> str:
    asked = {"name": name, "project_id": server.project_id}
    table = str(_owned(server, "POST", "/api/mixdown/lookup-tables", asked)["id"])
    target = f"/lookup-tables/{table}?project_id={server.project_id}"
    reply = server.request("PUT", target, cells, {**server.authorization(), "Content-Type": "text/csv"})
    assert reply.status == 200, reply
    return table
