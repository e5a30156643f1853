"""Settings, projects, accounts, health and SQL in the explorer: who sees which control, what each does."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import apsw
import httpx
import pytest

from mixdown.http.backups import archive_of
from mixdown.http.cookies import COOKIE_NAME
from tests.engine import ON_POSTGRES, folder_of, of_a_folder, open_store, plain_store
from tests.reads.support import ADMIN, OWNER, PASSWORD, READER, STRANGER, TOKEN, World, user

ANALYST: Final = "analyst.mp-service-account"
SPARE: Final = "spare.mp-service-account"
ROLES: Final = {READER: "consumer", ANALYST: "analyst", ADMIN: "admin", OWNER: "owner"}
NASTY: Final = "<script>alert(1)</script>"
HEX: Final = re.compile(r'<code class="mono" id="once"[^>]*>([0-9a-f]{64})</code>')
_sessions: WeakKeyDictionary[World, dict[str, str]] = WeakKeyDictionary()
_csrf_tokens: dict[str, str] = {}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server whose project has an account of each role; tests give back what they change."""
    folder = tmp_path_factory.mktemp("console") / "data"
    store = open_store(folder, role="worker", create=True)
    yield from _staffed(World(store, open_store(folder, role="fold", create=False)))


@pytest.fixture
def fresh() -> Iterator[World]:
    """Another one, for a test that changes what others rely on."""
    yield from _staffed(World(plain_store()))


def _staffed(made: World) -> Iterator[World]:
    for username in (ANALYST, SPARE):
        made.add_account(username, "analyst")
    made.send(user("ada", plan="pro", note=NASTY), user("bob", plan="free"))
    made.fold_all()
    yield made
    made.close()


def cookie(world: World, username: str, password: str = PASSWORD) -> dict[str, str]:
    """The header of a browser in which somebody has signed in."""
    sessions, key = _sessions.setdefault(world, {}), f"{username}:{password}"
    if key not in sessions:
        form = {"username": username, "password": password}
        reply = world.post("/explorer/sign-in", user=None, data=form)
        assert reply.status_code == 303, reply.text
        sessions[key] = SimpleCookie(reply.headers["set-cookie"])[COOKIE_NAME].value
    world.http.cookies.clear()
    return {"Cookie": f"{COOKIE_NAME}={sessions[key]}"}


def see(world: World, path: str, by: str = OWNER, **options: Any) -> httpx.Response:
    """A page, as somebody sees it."""
    headers = {**cookie(world, by), **options.pop("headers", {})}
    return world.get(address(world, path), user=None, headers=headers, **options)


def address(world: World, path: str) -> str:
    """Where a page is: below the project unless it begins with a slash."""
    return f"/explorer{path}" if path.startswith("/") else f"/explorer/{world.project.id}/{path}"


def field(page: httpx.Response, name: str) -> str:
    """The value of a hidden field of a page."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found, name
    return found[1]


def send(world: World, path: str, by: str = OWNER, *, page: str = "settings", **form: Any) -> httpx.Response:
    """A form of `page`, sent by somebody who sees that page."""
    shown = see(world, page, by)
    sent = {"csrf": csrf(world, by), **form}
    if "seen" not in sent and 'name="seen"' in shown.text:
        sent["seen"] = field(shown, "seen")
    return post(world, path, by, sent)


def csrf(world: World, by: str) -> str:
    """The token that somebody's forms have: one for as long as they are signed in."""
    session = cookie(world, by)["Cookie"]
    if session not in _csrf_tokens:
        found = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', see(world, "/projects", by).text)
        assert found
        _csrf_tokens[session] = found[1]
    return _csrf_tokens[session]


def post(world: World, path: str, by: str, form: dict[str, Any], **headers: str) -> httpx.Response:
    headers = {**cookie(world, by), **headers}
    return world.post(address(world, path), user=None, data=form, headers=headers)


# --- who may what

PAGES: Final = {
    "sql": ROLES.values(),
    "sql/names": ROLES.values(),
    "settings": ROLES.values(),
    "settings/storage": ROLES.values(),
    "settings/zones": ("admin", "owner"),
    "/projects": ROLES.values(),
    "/accounts": ("admin", "owner"),
    "/account?id={spare}": ("admin", "owner"),
    "/health": ROLES.values(),
    "/health/now": ROLES.values(),
}
ACTIONS: Final = {
    "sql/run": ROLES.values(),
    "sql/download": ROLES.values(),
    "settings/change": ("admin", "owner"),
    "settings/rotate-token": ("admin", "owner"),
    "settings/rotate-secret": ("admin", "owner"),
    "settings/delete": ("owner",),
    "/projects/create": ("owner",),
    "/accounts/create": ("admin", "owner"),
    "/account/rotate": ("admin", "owner"),
    "/account/end": ("admin", "owner"),
    "/account/grant": ("admin", "owner"),
    "/account/revoke": ("admin", "owner"),
    "/account/delete": ("admin", "owner"),
    "/health/backup": ("owner",),
}


def number_of(world: World, username: str) -> int:
    return next(each.id for each in world.store.catalog.accounts() if each.username == username)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("by", ROLES)
def test_each_page_is_shown_to_those_who_may_see_it(world: World, path: str, by: str) -> None:
    reply = see(world, path.format(spare=number_of(world, SPARE)), by)
    assert reply.status_code == (200 if ROLES[by] in PAGES[path] else 403), reply.text
    if reply.status_code == 200:
        assert "no-store" in reply.headers["cache-control"]


@pytest.mark.parametrize("path", ACTIONS)
@pytest.mark.parametrize("by", ROLES)
def test_each_form_is_taken_from_those_who_may_send_it(world: World, path: str, by: str) -> None:
    """A form that says nothing changes nothing: whoever may not send it is told so before it is read."""
    reply = post(world, path, by, {"csrf": csrf(world, by)})
    if ROLES[by] not in ACTIONS[path]:
        assert reply.status_code == 403
        assert "Your role does not include this" in reply.text
    elif path == "/health/backup" and ON_POSTGRES:
        assert (reply.status_code, "data is not in files" in reply.text) == (400, True)
    elif path == "/health/backup":
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "application/x-tar"
    else:
        assert "Your role does not include this" not in reply.text
        assert reply.status_code < 500


@pytest.mark.parametrize("path", ACTIONS)
def test_no_form_is_taken_without_its_token(world: World, path: str) -> None:
    assert post(world, path, OWNER, {"q": "select 1"}).status_code == 403
    assert post(world, path, OWNER, {"csrf": "0" * 64}).status_code == 403
    assert world.post(address(world, path), user=None).headers["location"] == "/explorer/sign-in"


def controls(page: httpx.Response) -> set[str]:
    """Where the forms of a page go, without the server's own."""
    found = re.findall(r'(?:form)?action="/explorer/(?:\d+/)?([^"?]+)"', page.text)
    return set(found) - {"sign-out", "accounts"}


@pytest.mark.parametrize("by", ROLES)
def test_a_page_has_no_control_that_would_be_refused(world: World, by: str) -> None:
    for path, roles in PAGES.items():
        if ROLES[by] not in roles:
            continue
        for target in controls(see(world, path.format(spare=number_of(world, SPARE)), by)):
            assert ROLES[by] in ACTIONS.get(target, ACTIONS.get(f"/{target}", ())), (path, target)


def test_who_manages_no_keys_sees_no_token_anywhere(world: World) -> None:
    for path in (
        "sql",
        "settings",
        "settings.json",
        "/projects",
        "/projects.json",
        "/health",
        "/health.json",
    ):
        for by in (READER, ANALYST):
            assert TOKEN not in see(world, path, by).text, path
    assert TOKEN in see(world, "settings", ADMIN).text


def test_somebody_of_another_project_finds_nothing_here(world: World) -> None:
    for path in ("sql", "settings", "settings/storage", "settings.json"):
        assert see(world, path, STRANGER).status_code == 404
    assert send(world, "sql/run", STRANGER, page="/projects", q="select 1").status_code == 404
    spare = number_of(world, SPARE)
    assert see(world, f"/account?id={spare}", STRANGER).status_code == 404
    assert ">default<" in see(world, "/health", ADMIN).text
    assert ">default<" not in see(world, "/health", STRANGER).text


# --- settings


def test_settings_are_changed_and_the_page_says_so(fresh: World) -> None:
    form = {"name": "shop", "timezone": "Europe/Berlin", "id_merge": "original", "ci_strings": "on"}
    reply = send(fresh, "settings/change", ADMIN, **form)
    assert (reply.status_code, reply.headers["location"]) == (303, f"/explorer/{fresh.project.id}/settings")
    changed = fresh.store.catalog.project(fresh.project.id)
    assert changed is not None
    assert (changed.name, changed.timezone, changed.id_merge) == ("shop", "Europe/Berlin", "original")
    assert (changed.ci_strings, changed.late_events) == (True, False)
    limits = {"rate_limit_records_per_s": "5", "rate_limit_requests_per_s": "0"}
    assert send(fresh, "settings/change", **form, **limits).status_code == 303
    limited = fresh.store.catalog.project(fresh.project.id)
    assert limited is not None
    assert (limited.rate_limit_records_per_s, limited.rate_limit_requests_per_s) == (5, 0)
    assert send(fresh, "settings/change", **form, rate_limit_records_per_s="").status_code == 303
    back = fresh.store.catalog.project(fresh.project.id)
    assert back is not None
    assert back.rate_limit_records_per_s is None


def test_what_somebody_else_changed_meanwhile_stays_as_they_made_it(fresh: World) -> None:
    field = re.search(r'name="shown" value="([^"]*)"', see(fresh, "settings").text)
    assert field is not None
    form = {"name": "default", "timezone": "UTC", "id_merge": "simplified", "shown": unescape(field[1])}
    fresh.store.catalog.change_project(fresh.project.id, timezone="Asia/Tokyo", ci_strings=True)
    fresh.store.catalog.limit_project(
        fresh.project.id, records_per_s=7, requests_per_s=None, queries_per_hour=None
    )
    reply = send(fresh, "settings/change", **{**form, "name": "shop"}, rate_limit_records_per_s="")
    assert reply.status_code == 303, reply.text
    changed = fresh.store.catalog.project(fresh.project.id)
    assert changed is not None
    assert (changed.name, changed.timezone, changed.ci_strings) == ("shop", "Asia/Tokyo", True)
    assert changed.rate_limit_records_per_s == 7


def test_what_cannot_be_a_setting_is_refused_in_the_words_of_the_api(world: World) -> None:
    reply = send(world, "settings/change", name="shop", timezone="Nowhere/At all", id_merge="simplified")
    assert reply.status_code == 400
    assert "must be the name of a time zone" in reply.text


@pytest.mark.parametrize("what", ["rotate-token", "rotate-secret", "delete"])
def test_what_is_for_good_wants_the_name_typed(world: World, what: str) -> None:
    before = world.store.catalog.project(world.project.id)
    for typed in ("", "Default", "other"):
        reply = send(world, f"settings/{what}", confirm=typed)
        assert reply.status_code == 400
        assert "Nothing was changed" in reply.text
    assert world.store.catalog.project(world.project.id) == before


def test_a_secret_is_shown_once_and_a_reload_does_nothing(fresh: World) -> None:
    shown = see(fresh, "settings")
    form = {
        "csrf": field(shown, "csrf"),
        "seen": field(shown, "seen"),
        "confirm": "default",
    }
    made = post(fresh, "settings/rotate-secret", OWNER, form)
    secret = HEX.search(made.text)
    assert secret
    assert made.status_code == 200
    assert "no-store" in made.headers["cache-control"]
    headers = {"Authorization": httpx.BasicAuth(secret[1], "")._auth_header}
    assert fresh.get("/api/query/engage", headers=headers).status_code == 200
    again = post(fresh, "settings/rotate-secret", OWNER, form)
    assert again.status_code == 409
    assert not HEX.search(again.text)
    for path in ("settings", "settings.json"):
        assert secret[1] not in see(fresh, path).text
    assert fresh.get("/api/query/engage", headers=headers).status_code == 200, "it was not rotated again"


def test_a_rotated_token_stops_at_once(fresh: World) -> None:
    assert send(fresh, "settings/rotate-token", ADMIN, confirm="default").status_code == 303
    assert TOKEN not in see(fresh, "settings").text
    reply = fresh.run(fresh.http.post("/engage", json=[user("ada")]))
    assert reply.text == "0"


def test_a_deleted_project_is_gone_with_its_accounts(fresh: World) -> None:
    page = see(fresh, "settings").text
    assert re.search(r"\d+ accounts that are in no other project go with it", page)
    assert send(fresh, "settings/delete", confirm="default").headers["location"] == "/explorer/projects"
    assert see(fresh, "settings").status_code == 404
    assert SPARE not in see(fresh, "/accounts").text


def test_storage_counts_what_the_project_has(world: World) -> None:
    told = world.get(f"/api/mixdown/projects/{world.project.id}/storage").json()["results"]
    assert told["users"] == 2
    assert told["events"]["hot_events"] == 0
    assert 50 < told["profile_bytes"] < 1000
    assert "about" in see(world, "settings/storage", READER).text


# --- projects and accounts


def test_a_project_is_made_and_its_secret_shown_once(fresh: World) -> None:
    made = send(
        fresh, "/projects/create", page="/projects", name=f"shop {NASTY}", timezone="UTC", id_merge="original"
    )
    secret = HEX.search(made.text)
    assert secret
    assert NASTY not in made.text
    listed = see(fresh, "/projects")
    assert secret[1] not in listed.text
    assert "&lt;script&gt;" in listed.text
    refused = send(fresh, "/projects/create", page="/projects", name=" ", timezone="", id_merge="")
    assert refused.status_code == 400


def test_an_account_is_made_and_its_password_shown_once(fresh: World) -> None:
    form = {"username": "airbyte", "role": "analyst", "project": str(fresh.project.id), "expires": ""}
    made = send(fresh, "/accounts/create", ADMIN, page="/accounts", **form)
    password = HEX.search(made.text)
    assert password
    signed_in = fresh.post(
        "/explorer/sign-in", user=None, data={"username": "airbyte", "password": password[1]}
    )
    assert signed_in.status_code == 303
    for path in ("/accounts", "/accounts.json", f"/account?id={number_of(fresh, 'airbyte')}"):
        assert password[1] not in see(fresh, path, ADMIN).text
    assert "airbyte" in see(fresh, "/accounts?q=AIR").text
    assert SPARE not in see(fresh, "/accounts?q=AIR").text


def test_an_admin_is_not_offered_to_make_owners(world: World) -> None:
    assert 'value="owner"' not in see(world, "/accounts", ADMIN).text
    assert 'value="owner"' in see(world, "/accounts").text
    reply = send(world, "/accounts/create", ADMIN, page="/accounts", username="x", role="owner")
    assert reply.status_code == 403


def test_roles_are_set_and_taken(fresh: World) -> None:
    spare = number_of(fresh, SPARE)
    page = f"/account?id={spare}"
    form = {"id": str(spare), "project": str(fresh.other.id), "role": "admin"}
    assert send(fresh, "/account/grant", page=page, **form).status_code == 303
    known = {each.username: each for each in fresh.store.catalog.accounts()}
    assert dict(known[SPARE].grants)[fresh.other.id] == "admin"
    assert ">other</a>" in see(fresh, page).text
    assert ">other</a>" not in see(fresh, page, ADMIN).text, "an admin of one project never learns of another"
    assert "account/rotate" not in see(fresh, page, ADMIN).text, "its password opens that other project"
    assert send(fresh, "/account/revoke", page=page, **form).status_code == 303
    left = next(each for each in fresh.store.catalog.accounts() if each.username == SPARE)
    assert [project for project, _ in left.grants] == [fresh.project.id]


def test_the_end_of_an_account_is_set_and_taken_away(fresh: World) -> None:
    page = f"/account?id={number_of(fresh, SPARE)}"
    form = {"id": str(number_of(fresh, SPARE)), "expires": "2099-01-31T00:00:00"}
    assert send(fresh, "/account/end", page=page, **form).status_code == 303
    assert "2099-01-31" in see(fresh, page).text
    refused = send(fresh, "/account/end", page=page, **{**form, "expires": "soon"})
    assert (refused.status_code, "must be a time such as" in refused.text) == (400, True)
    assert send(fresh, "/account/end", page=page, **{**form, "expires": ""}).status_code == 303
    assert "2099-01-31" not in see(fresh, page).text


def test_nobody_takes_away_their_own_access_unknowingly(fresh: World) -> None:
    own = number_of(fresh, ADMIN)
    page = f"/account?id={own}"
    form = {"id": str(own), "project": str(fresh.project.id), "role": "consumer"}
    assert "This is the account that you signed in with" in see(fresh, page, ADMIN).text
    assert "account/delete" not in see(fresh, page, ADMIN).text
    for action in ("grant", "revoke"):
        reply = send(fresh, f"/account/{action}", ADMIN, page=page, **form)
        assert reply.status_code == 400
        assert "to confirm" in reply.text
    assert send(fresh, "/account/delete", ADMIN, page=page, id=str(own), confirm=ADMIN).status_code == 400, (
        "the API refuses it too"
    )
    owner = number_of(fresh, OWNER)
    told = see(fresh, f"/account?id={owner}").text
    assert "last owner account without an end" in told


def test_a_new_password_of_ones_own_is_shown_before_one_is_signed_out(fresh: World) -> None:
    own = number_of(fresh, ADMIN)
    reply = send(fresh, "/account/rotate", ADMIN, page=f"/account?id={own}", id=str(own), confirm=ADMIN)
    password = HEX.search(reply.text)
    assert password
    assert "signed out" in reply.text
    assert see(fresh, "settings", ADMIN).status_code == 303, "to the page that asks for it"
    signed_in = fresh.post("/explorer/sign-in", user=None, data={"username": ADMIN, "password": password[1]})
    assert signed_in.status_code == 303


# --- SQL


def run(world: World, query: str, by: str = READER, over: str = "profiles", **more: str) -> httpx.Response:
    form = {"csrf": csrf(world, by), "q": query, "over": over, **more}
    return post(world, "sql/run", by, form, **{"HX-Request": "true"})


def test_a_link_fills_the_editor_and_runs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a query ran")

    monkeypatch.setattr(subprocess, "Popen", started)
    page = see(world, "sql", READER, params={"q": f"select '{NASTY}'", "over": "events"})
    assert "This query came with the link" in page.text
    assert "select &#39;&lt;script&gt;" in page.text
    assert re.search(r'value="events" checked', page.text)
    assert see(world, "sql.json", READER, params={"q": "select 1"}).json()["result"] is None


def test_a_query_is_answered_as_a_typed_table(world: World) -> None:
    reply = run(world, "select distinct_id, 1.5 as n, null as none, properties from users order by 1")
    assert reply.status_code == 200
    assert "<html" not in reply.text
    assert "2 rows" in reply.text
    assert '<th scope="col" dir="auto" class="num">n</th>' in reply.text
    assert '<td class="num">1.5</td>' in reply.text
    assert NASTY not in reply.text
    assert "&lt;script&gt;" in reply.text


def test_without_scripts_the_answer_stands_below_the_editor(world: World) -> None:
    form = {"csrf": csrf(world, READER), "q": "select 7 as n\r\nfrom users limit 1", "over": "profiles"}
    reply = post(world, "sql/run", READER, form)
    assert "<html" in reply.text
    assert '<td class="num">7</td>' in reply.text
    assert "select 7 as n\nfrom users" in reply.text


def test_an_error_says_its_line(world: World) -> None:
    reply = run(world, "select *\r\nfrom nowhere")
    assert reply.status_code == 200
    assert "no such table: nowhere" in reply.text
    wrong = run(world, "select 1,\r\n  frm users")
    assert 'data-line="2" data-column="3"' in wrong.text
    assert "Go to line 2" in wrong.text
    assert "There is no query yet" in run(world, " ").text
    assert "choose “Events”" in run(world, "select * from events").text


@pytest.mark.parametrize(
    ("kind", "media", "start"),
    [
        ("csv", "text/csv; charset=utf-8", "distinct_id,n\r\nada,1"),
        ("json", "application/json", '[{"distinct_id":"ada","n":1}'),
        ("ndjson", "application/x-ndjson", '{"distinct_id":"ada","n":1}\n'),
    ],
)
def test_the_answer_is_downloaded(world: World, kind: str, media: str, start: str) -> None:
    query = "select distinct_id, 1 as n from users order by 1"
    form = {"csrf": csrf(world, READER), "q": query, "over": "profiles", "format": kind}
    reply = post(world, "sql/download", READER, form)
    assert reply.headers["content-type"] == media
    assert reply.headers["content-disposition"] == f'attachment; filename="query.{kind}"'
    assert reply.text.startswith(start)
    wrong = post(world, "sql/download", READER, {**form, "q": "selec"})
    assert (wrong.status_code, "content-disposition" in wrong.headers) == (400, False)
    assert post(world, "sql/download", READER, {**form, "format": "exe"}).status_code == 400


def test_a_csv_of_a_query_is_for_spreadsheets_and_the_apis_is_exact(world: World) -> None:
    query = "select '=1+1' as \"@x\", -1 as n, '+' || '2' as y"
    form = {"csrf": csrf(world, READER), "q": query, "over": "profiles", "format": "csv"}
    assert post(world, "sql/download", READER, form).text == "'@x,n,y\r\n'=1+1,-1,'+2\r\n"
    asked = {"query": query, "format": "csv"}
    assert world.post("/api/mixdown/sql", user=READER, json=asked).text == "@x,n,y\r\n=1+1,-1,+2\r\n"


def test_more_rows_than_are_shown_are_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixdown.explorer.pages.sql.ROWS_SHOWN", 5)
    counted = "with recursive n(x) as (select 1 union all select x + 1 from n where x < 9) select x from n"
    assert "These are the first 5 rows" in run(world, counted).text


def test_names_of_properties_are_quoted_for_sql(world: World) -> None:
    page = see(world, "sql/names", READER).text
    assert "properties -&gt;&gt; &#39;$.plan&#39;" in page
    assert "properties -&gt;&gt; &#39;$.&#34;$last_seen&#34;&#39;" in page


# --- health


def test_an_owner_sees_the_server_and_others_their_projects(world: World) -> None:
    server = world.get("/api/mixdown/health", user=OWNER).json()["results"]
    assert server["scope"] == "server"
    assert {"log", "files", "disk", "processes", "settings", "versions"} <= server.keys()
    assert server["readers"][0]["behind_records"] == 0
    own = world.get("/api/mixdown/health", user=READER).json()["results"]
    assert own["scope"] == "projects"
    assert own.keys() == {"scope", "verdict", "checks", "readers", "projects"}
    assert [project["name"] for project in own["projects"]] == ["default"]
    assert ("Download a backup" in see(world, "/health").text) != ON_POSTGRES
    assert "Download a backup" not in see(world, "/health", ADMIN).text
    assert str(folder_of(world.store)) not in see(world, "/health", ADMIN).text


def test_no_secret_is_among_the_settings_in_force(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data", role="worker", create=True)
    made = World(store, token="preset-token", secret="preset-secret", account="preset:word", sql_rows=7)
    told = made.get("/api/mixdown/health", user=OWNER)
    assert "preset" not in told.text
    assert {one["name"] for one in told.json()["results"]["settings"]} >= {"sql_rows"}
    made.close()


def test_what_is_late_or_wrong_is_said_with_what_to_do(fresh: World) -> None:
    fresh.send(user("late"))
    fresh.now_ms += 400_000
    fresh.run(fresh.http.post("/engage", json=[{"$token": "unknown", "$distinct_id": "x", "$set": {}}]))
    told = fresh.get("/api/mixdown/health", user=OWNER).json()["results"]
    found = {check["check"]: check for check in told["checks"]}
    assert told["verdict"] == "fail"
    assert found["profiles"]["status"] == "fail"
    assert "behind" in found["profiles"]["message"]
    assert found["profiles"]["hint"]
    assert "token that no project has" in found["tokens"]["message"]
    page = see(fresh, "/health").text
    assert page.index("Broken") < page.index("OK")


@of_a_folder("backups are those of its files")
def test_a_backup_is_downloaded_noted_and_told_of(world: World, tmp_path: Path) -> None:
    reply = send(world, "/health/backup", page="/health")
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-disposition"].startswith('attachment; filename="mixdown-2026-01-15T')
    archive = tmp_path / "backup.tar"
    archive.write_bytes(reply.content)
    from mixdown.store.sqlite.restore import restore_backup

    with archive.open("rb") as file:
        manifest = restore_backup(file, tmp_path / "restored", progress=lambda *_: None)
    assert manifest.head == world.store.log.head()
    told = world.get("/api/mixdown/health", user=OWNER).json()["results"]["backup"]
    assert told["last"]["head"] == manifest.head
    assert "The last one that is known" in see(world, "/health").text


@of_a_folder("backups are those of its files")
def test_a_backup_that_nobody_takes_to_its_end_leaves_no_copy_of_the_data(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    copied = tmp_path / "data"
    shutil.copytree(folder_of(world.store), copied)
    with closing(apsw.Connection(str(copied / "state.db"))) as state:
        state.execute("CREATE TABLE padding AS SELECT randomblob(4000000) AS bytes")
    pieces = archive_of(copied)
    assert next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert [path for path in tmp_path.iterdir() if path != copied] == []


@of_a_folder("backups are those of its files")
def test_a_backup_that_cannot_be_made_is_a_page_that_says_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.store, "folder", Path("/nowhere/at/all"))
    reply = send(world, "/health/backup", page="settings")
    assert reply.status_code == 503
    assert "<html" in reply.text
    assert "there is no Mixdown data" in reply.text
