"""Pages ask the server's own API in process: as whoever has signed in, bounded, and nobody else can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from starlette.responses import Response
from starlette.routing import BaseRoute

from mixdown.explorer import asking
from mixdown.explorer.asking import error_text, query_string
from mixdown.explorer.frame import Frame, Problem, Visit
from mixdown.http.app import make_app
from mixdown.http.auth import CALLER_KEY
from mixdown.http.cookies import COOKIE_NAME
from tests.explorer.support import Site
from tests.reads.support import (
    ADMIN,
    ENGAGE,
    IMPORTER,
    OWNER,
    PASSWORD,
    READER,
    STRANGER,
    TOKEN,
    World,
    basic,
    user,
)

Ask = Callable[[Visit], Awaitable[Any]]


class Asking:
    """A site of one page that does what the test says, and keeps what came of it."""

    def __init__(self, world: World) -> None:
        self.ask: Ask
        self.site = Site(world, self._routes)

    def _routes(self, frame: Frame) -> list[BaseRoute]:
        async def build(visit: Visit) -> Mapping[str, Any]:
            return {"shown": await self.ask(visit)}

        async def raw(visit: Visit) -> Response:
            answer = await self.ask(visit)
            assert isinstance(answer, Response)
            return answer

        pages = frame.view("/page", "page.html", build, title="A page", section="users")
        whole = frame.view("/whole", "page.html", build, title="A page", section="", server=True)
        return [*pages, *whole, frame.raw("/raw", raw)]

    def shown(self, ask: Ask, path: str = "page") -> Any:
        """What a page shows that asks so."""
        reply = self.reply(ask, path)
        assert reply.status_code == 200, reply.text
        return reply.json()["shown"]

    def reply(self, ask: Ask, path: str = "page") -> httpx.Response:
        """The answer of the page's twin."""
        self.ask = ask
        below = "/explorer" if path == "whole" else self.site.here
        return self.site.get(f"{below}/{path}" + (".json" if path != "raw" else ""))


@pytest.fixture
def asked(world: World) -> Iterator[Asking]:
    made = Asking(world)
    yield made
    made.site.close()


def asks(method: str, path: str, **options: Any) -> Ask:
    """A page that shows the data of one good answer."""

    async def ask(visit: Visit) -> Any:
        return (await visit.ask(method, path, **options)).good()

    return ask


def test_a_page_reads_as_whoever_has_signed_in(asked: Asking, world: World) -> None:
    world.store_users(["ada"])
    asked.site.sign_in(READER)
    answer = asked.shown(asks("GET", ENGAGE, params={"output_properties": ["n"]}))
    assert [row["$distinct_id"] for row in answer["results"]] == ["ada"]
    other = {"project_id": world.other.id}
    refused = asked.reply(asks("GET", ENGAGE, params=other))
    assert refused.status_code == 403
    assert f"no access to project {world.other.id}" in refused.json()["error"]
    asked.site.sign_in(OWNER)
    assert asked.shown(asks("GET", ENGAGE, params=other))["total"] == 0
    assert len(asked.shown(asks("GET", "/api/mixdown/status"), "whole")["results"]["projects"]) == 2


def test_a_page_writes_by_the_way_of_every_record(asked: Asking, world: World) -> None:
    asked.site.sign_in(ADMIN)
    sent = {"$token": TOKEN, "$distinct_id": "ada", "$set": {"plan": "pro"}}
    verbose = {"verbose": 1, "strict": 1}
    assert asked.shown(asks("POST", "/engage", params=verbose, body=[sent]))["status"]
    world.fold_all()
    (row,) = asked.shown(asks("GET", ENGAGE))["results"]
    assert row["$properties"]["plan"] == "pro"
    assert "$country_code" not in row["$properties"], "the visitor's address is not the profile's"
    for params in (verbose, {"verbose": 1}):
        refused = asked.reply(asks("POST", "/engage", params=params, body=[{"$token": TOKEN}]))
        assert refused.status_code == 400
        assert "$distinct_id" in refused.json()["error"]


def test_pages_on_a_port_of_their_own_write_by_it_too(asked: Asking, world: World) -> None:
    app = make_app(world.services, extra_routes=asked.site.routes, part="internal")
    transport = httpx.ASGITransport(app=app, client=("192.0.2.7", 4711))
    asked.site.sign_in(ADMIN)
    elsewhere = httpx.AsyncClient(
        transport=transport, base_url="http://mixdown.test", cookies=asked.site.client.cookies
    )
    asked.ask = asks("POST", "/engage", params={"verbose": 1}, body=[user("ada", plan="pro")])
    assert world.run(elsewhere.post("/engage", json=[user("ada")])).status_code == 404
    assert world.run(elsewhere.get(f"{asked.site.here}/page.json")).json()["shown"]["status"] == 1
    world.fold_all()
    assert asked.shown(asks("GET", ENGAGE))["total"] == 1


def test_imports_and_lookup_tables_take_the_role_of_the_caller(asked: Asking, world: World) -> None:
    event = {
        "event": "x",
        "properties": {"distinct_id": "a", "time": world.now_ms // 1000, "$insert_id": "1"},
    }
    for name, status in ((READER, 401), (ADMIN, 200)):
        asked.site.sign_in(name)
        reply = asked.reply(asks("POST", "/import", params={"strict": 1}, body=[event]))
        assert reply.status_code == status, reply.text
        assert asked.shown(asks("GET", "/lookup-tables"))["results"] == []
        missing = asked.reply(asks("PUT", "/lookup-tables/none", body=b"id\n1"))
        assert missing.status_code == (404 if name == ADMIN else 401)


def test_metrics_count_a_page_once_and_its_records(asked: Asking, world: World) -> None:
    counted: list[str] = []
    records: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.services.metrics, "request", lambda name, *_: counted.append(name))
        patch.setattr(world.services.metrics, "records", lambda name, _: records.append(name))
        asked.site.sign_in(ADMIN)
        counted.clear()
        asked.shown(asks("GET", ENGAGE))
        asked.shown(asks("POST", "/engage", params={"verbose": 1}, body=[user("ada", n=1)]))
    assert counted == ["/explorer/{project}/page.json"] * 2
    assert records == ["engage"]


def test_an_answer_above_the_limit_is_a_clear_problem(
    asked: Asking, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.store_users([f"u{number}" for number in range(200)])
    asked.site.sign_in(READER)
    monkeypatch.setattr(asking, "ANSWER_LIMIT_BYTES", 2000)
    reply = asked.reply(asks("GET", ENGAGE))
    assert reply.status_code == 413
    assert reply.json()["error"] == asking.TOO_LARGE.format(limit=asking.ANSWER_LIMIT_BYTES // 1024**2)
    monkeypatch.setattr(asking, "ANSWER_LIMIT_BYTES", 200_000)
    assert len(asked.shown(asks("GET", ENGAGE))["results"]) == 200


def test_a_read_that_never_ends_is_given_up_and_a_write_is_not(
    asked: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.site.sign_in(ADMIN)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        del receive
        if scope["method"] == "GET":
            await asyncio.sleep(60)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def late(visit: Visit) -> Any:
        visit.request.scope["mixdown.app"] = slow
        return (await visit.ask(method, "/slow")).good()

    monkeypatch.setattr(
        "mixdown.explorer.visit.GRACE_S", -asked.site.world.services.settings.read_timeout_s + 0.05
    )
    method = "GET"
    assert asked.reply(late).status_code == 504
    method = "POST"
    assert asked.shown(late) == "done"


def test_a_fault_of_the_api_is_a_problem_of_the_page(asked: Asking) -> None:
    asked.site.sign_in(ADMIN)

    async def broken(*_: Any) -> None:
        raise ValueError("secret")

    async def ask(visit: Visit) -> Any:
        visit.request.scope["mixdown.app"] = broken
        return (await visit.ask("GET", "/x")).good()

    reply = asked.reply(ask)
    assert reply.status_code == 500
    assert "secret" not in reply.text


def test_a_download_is_passed_on_as_it_comes_with_a_plain_name(asked: Asking, world: World) -> None:
    world.store_users(["ada"])
    asked.site.sign_in(READER)

    async def relay(visit: Visit) -> Response:
        return visit.relay("GET", ENGAGE, filename='a"b\r\n/../ü.json')

    reply = asked.reply(relay, "raw")
    assert reply.status_code == 200
    assert reply.json()["results"][0]["$distinct_id"] == "ada"
    assert reply.headers["content-disposition"] == 'attachment; filename="a_b___..__.json"'
    assert reply.headers["x-content-type-options"] == "nosniff"

    async def wrong(visit: Visit) -> Response:
        return visit.relay("GET", ENGAGE, params={"where": "("})

    assert asked.reply(wrong, "raw").status_code == 400


def test_a_stream_that_is_passed_on_ends_with_its_reader(asked: Asking) -> None:
    """The API hears that the browser has gone."""
    asked.site.sign_in(READER)
    ended = asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        del scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    async def relay(visit: Visit) -> Response:
        visit.request.scope["mixdown.app"] = endless
        return visit.relay("GET", "/endless")

    asked.ask = relay
    cookie = f"{COOKIE_NAME}={asked.site.client.cookies[COOKIE_NAME]}".encode()
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"{asked.site.here}/raw",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"mixdown.test"), (b"cookie", cookie)],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }

    async def visit_and_leave() -> list[Any]:
        sent: list[Any] = []
        gone = asyncio.Event()
        first = True

        async def receive() -> dict[str, Any]:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if message.get("body") == b"first":
                gone.set()

        await asyncio.wait_for(asked.site.app(scope, receive, send), 5)
        return sent

    sent = asked.site.world.loop.run_until_complete(visit_and_leave())
    assert ended.is_set()
    assert sent[0]["status"] == 200


def test_no_request_from_outside_can_name_its_caller(world: World) -> None:
    name = CALLER_KEY
    for headers in ({name: OWNER}, {"x-" + name.replace(".", "-"): OWNER}, {"cookie": f"{name}={OWNER}"}):
        for target in (ENGAGE, "/api/mixdown/status", "/lookup-tables"):
            reply = world.get(f"{target}?{name}={OWNER}&project_id=1", user=None, headers=headers)
            assert reply.status_code == 401, (headers, target)


# --- the cookie and Mixdown's own API


def api(site: Site, method: str, target: str, **headers: str) -> httpx.Response:
    """What a script of a page asks of the API: the browser adds the cookie."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.world.run(site.client.request(method, target, headers=sent))


def test_the_cookie_counts_for_mixdowns_own_api_beside_its_token_alone(site: Site) -> None:
    site.sign_in(STRANGER)
    site.client.cookies.clear()
    site.sign_in(READER)
    token = site.csrf()
    own, project = "/api/mixdown/status", f"?project_id={site.world.project.id}"
    assert api(site, "GET", own, X_CSRF_Token=token).status_code == 200
    for wrong in ({}, {"X_CSRF_Token": ""}, {"X_CSRF_Token": "0" * 64}):
        assert api(site, "GET", own, **wrong).status_code == 401
    for target in (ENGAGE, "/api/2.0/engage", "/api/app/me", "/lookup-tables", "/metrics", "/api/mixdownx"):
        assert api(site, "GET", target + project, X_CSRF_Token=token).status_code in (401, 404)
    assert api(site, "GET", f"//api//mixdown/../query/engage{project}", X_CSRF_Token=token).status_code != 200
    assert api(site, "GET", own, X_CSRF_Token=token, Sec_Fetch_Site="cross-site").status_code == 403
    assert api(site, "GET", own, X_CSRF_Token=token, Authorization=basic("x:y")).status_code == 401
    resend = api(site, "POST", "/api/mixdown/refusals/resend", X_CSRF_Token=token)
    assert resend.status_code == 403, "a consumer may not"
    site.client.cookies.clear()
    assert api(site, "GET", own, X_CSRF_Token=token).status_code == 401


def test_who_may_only_import_gets_nowhere_with_a_cookie(site: Site) -> None:
    reply = site.post("/explorer/sign-in", {"username": IMPORTER, "password": PASSWORD})
    assert reply.status_code == 403
    assert COOKIE_NAME not in site.client.cookies


# --- the small functions


@pytest.mark.parametrize(
    ("params", "query"),
    [
        (None, ""),
        ({"a": None, "b": "x y&z"}, "b=x+y%26z"),
        ({"a": 1, "b": True, "c": 1.5}, "a=1&b=true&c=1.5"),
        ({"a": ["x", 1], "b": {"c": "é"}}, "a=%5B%22x%22%2C1%5D&b=%7B%22c%22%3A%22%C3%A9%22%7D"),
    ],
)
def test_parameters_are_encoded_as_the_api_reads_them(params: Mapping[str, Any] | None, query: str) -> None:
    assert query_string(params) == query


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"error": "no"}, "no"),
        (
            {"error": "some failed", "failed_records": [{"index": 0, "field": "$x", "message": "bad"}]},
            "some failed $x: bad",
        ),
        ("plain words", "plain words"),
        ({}, asking.FAILED),
        (None, asking.FAILED),
        ({"error": {"deep": 1}}, asking.FAILED),
        ({"error": "e", "failed_records": ["x", {}]}, "e None"),
    ],
)
def test_an_error_is_told_in_the_apis_own_words(data: object, text: str) -> None:
    assert error_text(data) == text
    with pytest.raises(Problem) as raised:
        asking.Answer(400, data, {}).good()
    assert raised.value.text == text
