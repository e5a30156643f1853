"""The start page and the live view as the server sends them: by role, with every kind of record."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from mixdown.explorer import snippets
from mixdown.explorer.snippets import PLAIN, SECURE, SNIPPETS, TOKEN, code_for
from tests.live.support import event
from tests.reads.support import ADMIN, OTHER_TOKEN, OWNER, PASSWORD, READER, World, group, user
from tests.reads.support import TOKEN as OWN_TOKEN

ROOT = Path(__file__).resolve().parents[2]
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
REFUSED = {"$token": OWN_TOKEN, "$set": {"plan": NASTY}}


def page(world: World, rest: str, username: str = ADMIN, **headers: str) -> httpx.Response:
    """A page of the project, as somebody who has signed in sees it; the cookies of others are forgotten."""
    world.http.cookies.clear()
    form = {"username": username, "password": PASSWORD}
    signed = world.post("/explorer/sign-in", user=None, data=form)
    assert signed.status_code == 303
    return world.get(f"/explorer/{world.project.id}{rest}", user=None, headers=headers)


def twin(world: World, rest: str, username: str = ADMIN) -> Any:
    reply = page(world, rest, username)
    assert reply.status_code == 200, reply.text
    return reply.json()


# --- snippets


def documented() -> str:
    return (ROOT / "README.md").read_text() + (ROOT / "docs/sdks.md").read_text()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)
def test_a_snippet_is_what_the_documents_say_with_this_address_and_token(snippet: snippets.Snippet) -> None:
    assert snippet.code in documented()
    for address in ("http://192.0.2.5:8080", "https://data.example.org", "http://[::1]:6493"):
        code = code_for(snippet, address, "T" * 32)
        assert "T" * 32 in code
        for example in (PLAIN, SECURE, TOKEN, "127.0.0.1:6493", "port: 6493" if "8080" in address else TOKEN):
            assert example not in code
        assert re.search(re.escape(address) + r"|192\.0\.2\.5|data\.example\.org|::1", code)


@pytest.mark.parametrize(
    ("name", "address", "part"),
    [
        ("node", "http://192.0.2.5:8080", 'host: "192.0.2.5", port: 8080, protocol: "http"'),
        ("node", "https://data.example.org", 'host: "data.example.org", port: 443, protocol: "https"'),
        ("php", "http://192.0.2.5:8080", "'host' => '192.0.2.5:8080',\n    'use_ssl' => false"),
        ("php", "https://data.example.org", "'host' => 'data.example.org',\n    'use_ssl' => true"),
        ("ruby", "https://data.example.org", 'server = "https://data.example.org"'),
        ("browser", "http://192.0.2.5:8080", 'api_host: "http://192.0.2.5:8080"'),
    ],
)
def test_the_host_option_is_right_for_each_sdk(name: str, address: str, part: str) -> None:
    assert part in code_for(snippets.chosen(name), address, "T0")


def test_a_token_that_no_quotes_hold_stays_a_placeholder() -> None:
    for token in ("it's", 'say "x"', "a b", "$(rm)", ""):
        for snippet in SNIPPETS:
            assert TOKEN in code_for(snippet, PLAIN, token)


# --- start


def test_the_start_page_has_the_token_and_the_snippet_for_this_very_address(world: World) -> None:
    reply = page(world, "?sdk=node")
    assert reply.status_code == 200
    assert OWN_TOKEN in reply.text
    assert "host: &#34;mixdown.test&#34;, port: 80, protocol: &#34;http&#34;" in reply.text
    assert twin(world, ".json?sdk=nonsense")["sdk"]["name"] == "curl"


def test_a_consumer_sees_no_token_anywhere(world: World) -> None:
    world.send(user("ada"), REFUSED)
    for rest in ("", ".json", "/snippet?sdk=php", "/live", "/live.json", "/first"):
        text = page(world, rest, READER).text
        if "live" in rest:  # what a refused record quotes is part of the record
            text = text.replace(json.dumps(REFUSED, separators=(",", ":")), "")
            text = re.sub(r"\\?(&#34;|\")\$token.{0,80}", "", text)
        assert OWN_TOKEN not in text, rest


def test_the_first_record_is_waited_for_without_an_answer_and_then_shown(world: World) -> None:
    waiting = page(world, "/first?new=1")
    assert "Waiting for the first record" in waiting.text
    poll = re.search(r'hx-get="([^"]+)"', waiting.text)
    assert poll is not None
    target = poll[1].replace("&amp;", "&").removeprefix(f"/explorer/{world.project.id}")
    assert page(world, target).status_code == 204
    world.send(user("theirs", token=OTHER_TOKEN))
    assert page(world, target).status_code == 204
    world.send(user("ada/?&", plan="pro"))
    lit = page(world, target)
    assert lit.status_code == 200
    assert "First record received" in lit.text
    assert "ada/?&amp;" in lit.text
    assert f"/explorer/{world.project.id}/profile?id=ada%2F%3F%26" in lit.text
    assert "hx-get" not in lit.text, "nothing is left to wait for"


def test_a_refused_first_record_is_told_with_its_reason_and_the_wait_goes_on(world: World) -> None:
    world.send(REFUSED)
    told = page(world, "/first?waited=1&new=1&seen=0")
    assert "A record was refused" in told.text
    assert "$distinct_id, missing or empty" in told.text
    target = re.search(r'hx-get="([^"]+)"', told.text)
    assert target is not None
    assert (
        page(world, target[1].replace("&amp;", "&").removeprefix(f"/explorer/{world.project.id}")).status_code
        == 204
    )
    world.send(user("lost", token="nobody"))
    assert page(world, "/first?waited=1&new=1&seen=1").status_code == 204
    assert "no project has this token" in page(world, "/first?waited=1&new=1&seen=1", OWNER).text


def test_the_chart_has_a_series_for_each_kind(world: World) -> None:
    world.send(user("ada"), REFUSED)
    world.send(group("Company", "Acme"), endpoint="groups")
    world.send(event("E", "ada"), endpoint="track")
    chart = twin(world, "/arrivals.json", READER)
    assert len(chart["x"]) == 120
    assert {series["label"]: sum(series["values"]) for series in chart["series"]} == {
        "profile updates": 2,
        "events": 1,
        "identity links": 0,
        "refused": 1,
    }


# --- live


def test_the_live_page_shows_every_kind_without_javascript(world: World) -> None:
    world.send(user("ada", plan="pro"), REFUSED)
    world.send(group("Company", NASTY), endpoint="groups")
    world.send(event(NASTY, "ada", **{"$device_id": "d1", "$user_id": "ada"}), endpoint="track")
    reply = page(world, "/live")
    assert reply.status_code == 200
    assert NASTY not in reply.text
    assert "alert(1)" in reply.text, "as text"
    assert "$distinct_id, missing or empty" in reply.text
    records = twin(world, "/live.json")["records"]
    assert sorted(record["kind"] for record in records) == ["event", "link", "refusal", "update", "update"]
    by_kind = {record["kind"]: record for record in records}
    assert by_kind["link"]["summary"] == "device belongs to user ada"
    assert by_kind["refusal"]["summary"] == "record 1: $distinct_id, missing or empty"


def test_the_filter_is_kept_in_the_address_and_goes_to_the_stream(world: World) -> None:
    world.send(user("ada", plan="pro"), user("bob"), REFUSED)
    found = twin(world, "/live.json?kind=refusal&kind=update&id=ada&text=PRO")
    assert [record["title"] for record in found["records"]] == ["ada"]
    stream = found["page"]["stream"]
    assert stream.startswith("/api/mixdown/live?")
    for part in (f"project_id={world.project.id}", "id=ada", "text=PRO", "refusal"):
        assert part in stream
    assert page(world, "/live?kind=nonsense").status_code == 400


def test_only_owners_choose_tokens_and_only_admins_mend(world: World) -> None:
    world.send(user("lost", token="nobody"), user("theirs", token=OTHER_TOKEN), user("ours"))

    def titles(rest: str, username: str) -> list[str]:
        return sorted(record["title"] for record in twin(world, f"/live.json{rest}", username)["records"])

    assert titles("", OWNER) == ["$token", "ours"]
    assert titles("?tokens=project", OWNER) == ["ours"]
    assert titles("?tokens=all", OWNER) == ["$token", "ours", "theirs"]
    assert titles("?tokens=all", READER) == ["ours"]
    assert 'id="mend"' in page(world, "/live", ADMIN).text
    assert 'id="mend"' not in page(world, "/live", READER).text
    assert twin(world, "/live.json", READER)["page"]["tokens"] == {}


def test_a_large_record_is_shown_by_how_it_begins(world: World) -> None:
    world.send(user("big", essay=["x" * 200] * 400))
    reply = page(world, "/live")
    assert "a large record" in reply.text
    assert len(reply.content) < 60_000


def test_who_manages_keys_gets_the_token_of_this_project_for_curl(world: World) -> None:
    world.add_account("analyst", "analyst")
    assert twin(world, "/live.json", ADMIN)["page"]["tokens"] == {str(world.project.id): OWN_TOKEN}
    assert twin(world, "/live.json", "analyst")["page"]["tokens"] == {}
