"""Who manages no keys reads no token: an attack over every route that reads, by search and by SQL.

Records that quote the token are refused in every form in which an SDK sends them. A mask that hides nothing
must be found out by the same attack.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import pytest

from mixdown.explorer.site import Explorer
from mixdown.model import masking
from mixdown.model.masking import Mask
from tests.engine import open_store
from tests.live.support import Listener, query
from tests.reads.support import ADMIN, OWNER, READER, SECRET, World, basic, user

OWN: Final = "3fa94c0de1b2a3948576aabbccddeeff"
ANALYST: Final = "analyst.mp-service-account"
REFUSALS: Final = "/api/mixdown/refusals"
LIVE: Final = "/api/mixdown/live/recent"
BAD: Final = {"$token": OWN, "$set": {"plan": "pro"}}
BAD_EVENT: Final = {"event": "", "properties": {"token": OWN, "distinct_id": "a"}}
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
SQL: Final = (
    "select * from refusals",
    "select hex(record) as h, upper(record) as u, lower(field || message || sdk) as l from refusals",
    "select json_extract(record, '$.properties.token') as e from refusals where json_valid(record)",
    "select record ->> '$.\"$token\"' as t from refusals where json_valid(record)",
    f"select count(*) as n from refusals where record like '%{OWN}%'",
    f"select count(*) as n from refusals where instr(record, '{OWN[:9]}') or record glob '*{OWN[4:12]}*'",
    "select substr(record, 1, 12) || substr(record, 13) as whole from refusals",
    "with refusals_ as (select record from refusals) select * from refusals_",
)


@pytest.fixture
def world(tmp_path: Any) -> Iterator[World]:
    """A project whose token stands in refused records: as JSON, forms, base64, cut, and in escapes."""
    store = open_store(tmp_path / "data", role="worker", create=True)
    made = World(store, open_store(tmp_path / "data", role="fold", create=False))
    made.store.catalog.change_project(made.project.id, token=OWN)
    made.add_account(ANALYST, "analyst")
    made.send(user("ada", token=OWN, plan="pro"))
    made.send(BAD)
    made.send(BAD_EVENT, endpoint="track")
    escaped = json.dumps(BAD).replace(OWN, "".join(f"\\u{ord(char):04x}" for char in OWN))
    for body in (
        b"data=" + quote(escaped).encode(),
        b"data=" + quote(base64.b64encode(json.dumps(BAD).encode())).encode(),
    ):
        _post(made, "/engage", body)
    _post(made, f"/engage?token={OWN}", b'{"$token":"%b", broken' % OWN.encode())
    _post(made, "/engage", b'{"$token":"%b"' % OWN.encode() + b" broken " * 400)
    made.fold_all()
    yield made
    made.close()


def _post(world: World, path: str, body: bytes) -> None:
    world.run(world.http.post(path, content=body, headers=_FORM if body.startswith(b"data") else {}))


def tells(text: str) -> bool:
    """Whether a text gives the token away, whatever it is written in."""
    wanted = OWN[:12]
    plain = re.sub(r"\\+u00(..)", lambda match: chr(int(match[1], 16)), text)
    seen = [text, plain, plain.replace("-", "")]
    seen += [bytes.fromhex(run).decode("latin-1") for run in re.findall(r"(?:[0-9A-Fa-f]{2}){24,}", text)]
    for run in re.findall(r"[A-Za-z0-9+/_%-]{40,}", text):
        for start in range(4):
            part = run.replace("%2B", "+").replace("%2F", "/")[start:]
            seen.append(base64.b64decode(part[: len(part) // 4 * 4] + "====").decode("latin-1"))
    return any(wanted in each.lower() for each in seen)


def walk(world: World, by: str) -> Iterator[tuple[str, str]]:
    """Every route that is read by GET, with what it answers to this account."""
    project = str(world.project.id)
    described = world.get("/openapi.json", user=None).json()["paths"]
    paths = [path for path, methods in described.items() if "get" in methods]
    paths += [route.path for route in Explorer(world.services).routes()]
    for path in dict.fromkeys(paths):
        if any(part in path for part in ("sign-", "/static/", "{rest", "/engage", "/track", "/import")):
            continue
        target = re.sub(r"\{project(_id)?(:\w+)?\}", project, path)
        target = re.sub(r"\{[^}]+\}", "1", target)
        params = {"project_id": project, "seconds": "1", "id": "ada", "distinct_id": "ada", "sdk": "curl"}
        yield target, world.get(target, user=by, params=params).text


def attack(world: World, by: str) -> list[str]:
    """By which ways an account without the right reads the token."""
    ways = [target for target, text in walk(world, by) if tells(text)]
    for target in (REFUSALS, LIVE):
        for length in (3, 6, 12, 32):
            part = OWN[10 - min(10, length) : 10 - min(10, length) + length]
            reply = world.get(target, user=by, params={"text": part, "limit": 100})
            found = reply.json()["results"]
            if found["records"] if target == LIVE else found:
                ways.append(f"{target}?text={part}")
    for text in SQL:
        reply = world.post("/api/mixdown/sql", user=by, json={"query": text})
        assert reply.status_code == 200, reply.text
        counted = reply.json()["results"]
        if tells(reply.text) or (" count(*) " in text and counted != [{"n": 0}]):
            ways.append(text)
    listener = Listener(world, query(), user=by)
    world.send(BAD)
    listener.hear(1)
    if tells(listener.body.decode()):
        ways.append("the stream")
    listener.leave()
    return ways


@pytest.mark.slow
@pytest.mark.parametrize("by", [READER, ANALYST])
def test_who_manages_no_keys_reads_no_token_by_any_way(world: World, by: str) -> None:
    assert attack(world, by) == []


@pytest.mark.slow
def test_the_attack_finds_a_mask_that_hides_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mask, "text", lambda _self, text: text)
    monkeypatch.setattr(masking, "_pattern", lambda _tokens: r"(?!)")
    ways = attack(world, READER)
    assert {REFUSALS, LIVE, "the stream", *SQL} <= set(ways) | {each.partition("?")[0] for each in ways}


def test_who_manages_keys_or_has_the_secret_reads_records_as_they_came(world: World) -> None:
    for by in (ADMIN, OWNER):
        assert tells(world.get(REFUSALS, user=by, params={"project_id": world.project.id}).text)
        reply = world.post(
            "/api/mixdown/sql", user=by, json={"query": SQL[0], "project_id": world.project.id}
        )
        assert tells(reply.text)
    assert tells(world.get(REFUSALS, headers={"Authorization": basic(SECRET)}).text)


def test_a_stream_ends_when_its_listener_may_read_tokens_no_more(world: World) -> None:
    listener = Listener(world, query(), user=ADMIN)
    world.store.catalog.grant_account(ADMIN, world.project.id, "consumer")
    listener.until(lambda: listener.ended)
    assert not tells(listener.body.decode())
