"""`mixdown profiles import --from-mixpanel`, against a Mixdown server that plays Mixpanel.

Mixpanel's front stands in between (`mixpanel_front`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.mixpanel_front import Front, fronting
from tests.cli.support import Cli
from tests.serving import Server, StartServer, start_module_server

pytestmark = pytest.mark.slow

__all__ = ["start_module_server"]

PEOPLE = 2500
PAGES = 3


@pytest.fixture(scope="module")
def mixpanel(start_module_server: StartServer) -> Server:
    """A server that plays Mixpanel, with users and companies."""
    server = start_module_server()
    people = [
        {
            "$token": server.token,
            "$distinct_id": f"u{n:04}",
            "$ignore_time": True,
            "$set": {"n": n, "plan": "pro" if n % 5 == 0 else "free", "$last_seen": "2026-01-15T12:00:00"},
        }
        for n in range(PEOPLE)
    ]
    for start in range(0, PEOPLE, 2000):
        assert server.post("/engage", people[start : start + 2000]).body == b"1"
    company = {"$token": server.token, "$group_key": "Company", "$group_id": "Acme", "$set": {"seats": 5}}
    assert server.post("/groups", [company]).body == b"1"
    return server


@pytest.fixture
def front(mixpanel: Server) -> Iterator[Front]:
    """The proxy before it."""
    with fronting(mixpanel) as front:
        yield front


@pytest.fixture(autouse=True)
def _credentials(mixpanel: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXPANEL_ACCOUNT", ":".join(mixpanel.account))
    monkeypatch.delenv("MIXPANEL_SECRET", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def command(front: Front, mixpanel: Server, *more: str) -> tuple[str, ...]:
    project = str(mixpanel.project_id)
    return (
        "profiles",
        "import",
        "--from-mixpanel",
        project,
        "--mixpanel-url",
        front.url,
        "--project",
        "shop",
        *more,
    )


def profiles(cli: Cli, *more: str) -> dict[str, dict[str, Any]]:
    lines = cli("profiles", "export", "--project", "shop", *more).stdout.splitlines()
    return {row["$distinct_id"]: row["$properties"] for row in map(json.loads, lines)}


def test_all_pages_come_over_with_last_seen_as_it_was(shop: Cli, mixpanel: Server, front: Front) -> None:
    told = shop.json(*command(front, mixpanel))
    assert told == {"rows": PEOPLE, "imported": PEOPLE, "recognised": 0, "left_out": 0, "refused": 0}
    assert profiles(shop) == mixpanel.profiles()
    assert [form["page"] for form in front.seen] == ["0", "1", "2"]
    assert len({form.get("session_id") for form in front.seen[1:]}) == 1
    assert front.paths == [f"/api/query/engage?project_id={mixpanel.project_id}"] * PAGES
    assert list((shop.folder / "imports").iterdir()) == []


def test_it_waits_as_long_as_a_429_says_and_tries_again_after_faults(
    shop: Cli, mixpanel: Server, front: Front
) -> None:
    front.trouble = [429, 200, 0, 200, 503]
    result = shop(*command(front, mixpanel))
    assert "waiting 1 s" in result.stderr
    assert f"imported {PEOPLE} of {PEOPLE} rows" in result.stderr
    assert profiles(shop) == mixpanel.profiles()
    first, second = front.times[:2]
    assert 1.0 <= second - first < 10.0
    assert [form["page"] for form in front.seen] == ["0", "1", "2"]


def test_a_date_in_retry_after_is_waited_for(shop: Cli, mixpanel: Server, front: Front) -> None:
    front.trouble = [429]
    front.retry_after = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    shop(*command(front, mixpanel))
    first, second = front.times[:2]
    assert 0.5 <= second - first < 10.0


def test_an_import_that_was_turned_away_goes_on_with_the_next_page(
    shop: Cli, mixpanel: Server, front: Front
) -> None:
    front.trouble = [200, 200, 403]
    result = shop(*command(front, mixpanel), code=1)
    assert "Mixpanel answered 403" in result.stderr
    assert len(profiles(shop)) == 2000
    told = shop(*command(front, mixpanel))
    assert "going on with page 2: 2000 profiles were read before" in told.stderr
    assert [form["page"] for form in front.seen] == ["0", "1", "2"]
    assert profiles(shop) == mixpanel.profiles()


def test_a_page_that_was_appended_but_not_noted_is_not_applied_twice(
    shop: Cli, mixpanel: Server, front: Front
) -> None:
    front.trouble = [200, 403]
    shop(*command(front, mixpanel, "--operator", "union"), code=1)
    (place,) = (shop.folder / "imports").glob("*.json")
    noted = json.loads(place.read_bytes())
    place.write_text(json.dumps({**noted, "page": 0, "rows": 0}))
    shop.send({"$token": "shop-token", "$distinct_id": "u0000", "$unset": ["n"]})
    told = shop.json(*command(front, mixpanel, "--operator", "union"))
    assert told["recognised"] == 1000
    assert "n" not in profiles(shop)["u0000"]


def test_a_session_that_has_expired_is_begun_anew(shop: Cli, mixpanel: Server, front: Front) -> None:
    front.trouble = [200, 403]
    shop(*command(front, mixpanel), code=1)
    (place,) = (shop.folder / "imports").glob("*.json")
    noted = json.loads(place.read_bytes())
    assert noted["page"] == 1
    place.write_text(json.dumps({**noted, "session_id": "long-gone"}))
    told = shop(*command(front, mixpanel))
    assert "the session has expired: reading begins anew" in told.stderr
    assert profiles(shop) == mixpanel.profiles()


def test_a_filter_and_a_choice_of_properties_are_asked_of_mixpanel(
    shop: Cli, mixpanel: Server, front: Front
) -> None:
    shop(*command(front, mixpanel, "--where", 'properties["plan"] == "pro"', "--properties", "plan"))
    found = profiles(shop)
    assert len(found) == PEOPLE // 5
    assert found["u0000"] == {"plan": "pro", "$last_seen": "2026-01-15T12:00:00"}
    assert front.seen[0]["where"] == 'properties["plan"] == "pro"'


def test_groups_come_by_their_key_and_a_secret_names_the_project(
    shop: Cli, mixpanel: Server, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MIXPANEL_ACCOUNT")
    monkeypatch.setenv("MIXPANEL_SECRET", mixpanel.secret)
    shop(*command(front, mixpanel, "--group-key", "Company"))
    assert profiles(shop, "--group-key", "Company") == mixpanel.groups("Company")
    assert front.paths == ["/api/query/engage"]


def test_wrong_or_missing_credentials_end_in_one_clear_error(
    shop: Cli, mixpanel: Server, front: Front, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MIXPANEL_ACCOUNT", "nobody:nothing")
    wrong = shop(*command(front, mixpanel), code=1)
    assert "Mixpanel answered 401: Unable to authenticate request" in wrong.stderr
    monkeypatch.delenv("MIXPANEL_ACCOUNT")
    missing = shop(*command(front, mixpanel), code=1)
    assert "MIXPANEL_ACCOUNT" in missing.stderr
    assert "nothing" not in "".join(path.read_text() for path in tmp_path.rglob("imports/*"))


def test_a_redirect_is_not_followed_with_the_credentials(shop: Cli, mixpanel: Server, front: Front) -> None:
    front.trouble = [302]
    result = shop(*command(front, mixpanel), code=1)
    assert "Redirects are not followed" in result.stderr
    assert front.seen == []
