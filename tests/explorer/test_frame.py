"""What every page of the explorer stands on: who may see it, what others are told, and its headers."""

from __future__ import annotations

import html
import json

import pytest
from structlog.testing import capture_logs

from mixdown.explorer import frame as frame_module
from mixdown.http.cookies import COOKIE_NAME
from mixdown.model.errors import StoreError
from tests.explorer.support import HTMX, NASTY, SIGN_IN, Site, tags_of
from tests.reads.support import ADMIN, OWNER, PASSWORD, READER, SECRET, STRANGER, basic


def test_a_page_and_its_twin_say_the_same(site: Site) -> None:
    site.sign_in(READER)
    page = site.get(f"{site.here}/page?q=ada")
    assert page.status_code == 200
    assert '<p id="shown">ada</p>' in page.text
    twin = site.get(f"{site.here}/page.json?q=ada")
    assert twin.headers["content-type"] == "application/json"
    assert twin.json() == {"shown": "ada", "project": site.world.project.id}


def test_the_twin_takes_an_account_or_a_secret_too_and_the_page_does_not(site: Site) -> None:
    for credentials in (f"{READER}:{PASSWORD}", f"{SECRET}:"):
        header = basic(credentials)
        assert site.get(f"{site.here}/page.json?q=x", Authorization=header).json()["shown"] == "x"
        assert site.get(f"{site.here}/page?q=x", Authorization=header).status_code == 303
    wrong = site.get(f"{site.here}/page.json", Authorization=basic("nobody:x"))
    assert wrong.status_code == 401
    foreign = site.get(f"{site.here}/page.json", Authorization=basic(f"{STRANGER}:{PASSWORD}"))
    assert foreign.status_code == 404


def test_who_has_not_signed_in_is_sent_to_sign_in_and_comes_back(site: Site) -> None:
    reply = site.get(f"{site.here}/page?q=a%26b&q=c")
    assert reply.status_code == 303
    assert (
        reply.headers["location"]
        == f"{SIGN_IN}?next=%2Fexplorer%2F{site.world.project.id}%2Fpage%3Fq%3Da%2526b%26q%3Dc"
    )
    asked = site.get(reply.headers["location"])
    fields = {a.get("name"): a.get("value") for tag, a in tags_of(asked) if tag == "input"}
    form = {"username": READER, "password": PASSWORD, "next": str(fields["next"])}
    back = site.post(SIGN_IN, form)
    assert back.headers["location"] == f"{site.here}/page?q=a%26b&q=c"


def test_data_asked_without_a_session_is_a_401_in_json(site: Site) -> None:
    for target in ("page.json", "page/raw"):
        reply = site.get(f"{site.here}/{target}", Accept="application/json")
        assert reply.status_code == 401
        assert reply.json()["status"] == "error"


@pytest.mark.parametrize(
    "wanted",
    [
        "http://evil.test/",
        "//evil.test/explorer/",
        "/explorer//evil.test",
        "/\\evil.test",
        "/explorer/\\evil.test",
        "javascript:alert(1)",
        "/explorer/1\r\nSet-Cookie: a=b",
        "/api/query/engage",
        "/explorer/" + "x" * 3000,
        "/explorer/\u202eevil",
    ],
)
def test_signing_in_leads_to_no_other_place(site: Site, wanted: str) -> None:
    reply = site.post(SIGN_IN, {"username": READER, "password": PASSWORD, "next": wanted})
    assert reply.status_code == 303
    assert reply.headers["location"] == "/"


def test_a_session_that_ends_while_htmx_asks_leads_to_signing_in(site: Site) -> None:
    current = {"HX-Current-URL": f"http://mixdown.test{site.here}/page?q=ada"}
    for reply in (
        site.get(f"{site.here}/page/part", **HTMX, **current),
        site.post(f"{site.here}/page/keep", {"word": "x"}, **HTMX, **current),
    ):
        assert reply.status_code == 401
        assert reply.headers["hx-redirect"].startswith(f"{SIGN_IN}?next=%2Fexplorer%2F")
        assert reply.text == ""


def test_projects_of_others_are_not_found_and_roles_hold(site: Site) -> None:
    site.sign_in(READER)
    for number in (str(site.world.other.id), "999", "9" * 16):
        reply = site.get(f"/explorer/{number}/page")
        assert reply.status_code == 404
        assert "not yours to see" in reply.text
    refused = site.get(f"{site.here}/analysts")
    assert refused.status_code == 403
    assert "analyst, admin, owner" in refused.text
    assert site.get("/explorer/owned").status_code == 403
    assert site.get("/explorer/whole").status_code == 200
    site.sign_in(ADMIN)
    assert site.get(f"{site.here}/analysts").status_code == 200
    site.sign_in(OWNER)
    assert site.get(f"/explorer/{site.world.other.id}/analysts").status_code == 200
    assert '<p id="shown">owner</p>' in site.get("/explorer/owned").text


@pytest.mark.parametrize(
    "path", ["nothing", "0/page", "01/page", "x/page", "1e3", "9" * 5000, "1/page/x", "%00"]
)
def test_a_path_that_is_none_is_a_page_that_says_so(site: Site, path: str) -> None:
    site.sign_in(READER)
    reply = site.get(f"/explorer/{path}")
    assert reply.status_code == 404
    assert "There is no such page" in reply.text


def test_a_form_needs_the_sessions_token_and_the_role(site: Site) -> None:
    target = f"{site.here}/page/keep"
    site.sign_in(READER)
    assert site.post(target, {"csrf": site.csrf(), "word": "x"}).status_code == 403
    foreign = site.csrf()
    site.sign_in(ADMIN)
    token = site.csrf()
    for form, headers in (
        ({}, {}),
        ({"csrf": ""}, {}),
        ({"csrf": "0" * 64}, {}),
        ({"csrf": foreign}, {}),
        ({"csrf": token}, {"Origin": "http://evil.test"}),
        ({"csrf": token}, {"Sec-Fetch-Site": "same-site"}),
        ({}, {"X-CSRF-Token": foreign}),
    ):
        refused = site.post(target, {"word": "x", **form}, **headers)
        assert refused.status_code == 403, (form, headers)
        assert "This form has expired" in refused.text
    assert site.get(target).status_code == 404, "it takes no GET"
    for form, headers in (({"csrf": token}, {}), ({}, {"X-CSRF-Token": token})):
        assert site.post(target, {"word": "x", **form}, **headers).status_code == 303


def test_a_form_above_a_megabyte_is_refused(site: Site) -> None:
    site.sign_in(ADMIN)
    reply = site.post(f"{site.here}/page/keep", {"csrf": site.csrf(), "word": "x" * 2**20})
    assert reply.status_code == 413


def test_a_message_is_shown_once_on_the_next_page(site: Site) -> None:
    site.sign_in(ADMIN)
    word = f"<b>{NASTY}"
    reply = site.post(f"{site.here}/page/keep", {"csrf": site.csrf(), "word": word})
    assert (reply.status_code, reply.headers["location"]) == (303, f"{site.here}/page")
    first, second = site.get(f"{site.here}/page"), site.get(f"{site.here}/page")
    assert (
        html.escape(f"Kept {word}.", quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        in first.text
    )
    assert "Kept" not in second.text
    assert "<b>" not in first.text


def test_htmx_gets_redirects_parts_and_problems_in_its_own_way(site: Site) -> None:
    site.sign_in(ADMIN)
    target, token = f"{site.here}/page/keep", site.csrf()
    done = site.post(target, {"word": "x"}, **HTMX, X_CSRF_Token=token)
    assert (done.status_code, done.headers["hx-redirect"]) == (200, f"{site.here}/page")
    assert "location" not in done.headers
    refused = site.post(target, {"word": "x"}, **HTMX)
    assert refused.status_code == 403
    assert refused.headers["hx-reswap"] == "none"
    assert "expired" in json.loads(refused.headers["hx-trigger"])["mixdown:problem"]["text"]
    part = site.get(f"{site.here}/page/part?q=ada", **HTMX)
    assert part.text == '<p id="part">ada</p>'
    missing = site.get("/explorer/999/page/part", **HTMX)
    assert missing.status_code == 404
    assert missing.text.startswith('<p class="problem" role="alert"')


def test_nothing_may_be_embedded_sniffed_kept_or_run_inline(site: Site) -> None:
    signed_out = site.get(SIGN_IN)
    site.sign_in(READER)
    for reply in (
        signed_out,
        site.get(f"{site.here}/page"),
        site.get("/explorer/none"),
        site.get(f"{site.here}/page.json"),
    ):
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        for tag, attributes in tags_of(reply):
            assert tag != "style"
            assert "style" not in attributes
            assert not any(name.startswith(("on", "hx-on", "data-hx-on")) for name in attributes)
            assert tag != "script" or (attributes["src"] or "").startswith("/static/")


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("mixdown.test", "mixdown.test/static/"),
        ("mixdown.test:8080", "mixdown.test:8080/static/"),
        ("127.0.0.1:6493", "127.0.0.1:6493/static/"),
        ("evil.test; script-src *", "127.0.0.1:6493/static/"),
        ("evil.test 'unsafe-inline'", "127.0.0.1:6493/static/"),
    ],
)
def test_scripts_come_from_the_static_files_of_this_host_alone(site: Site, host: str, source: str) -> None:
    site.sign_in(READER)
    cookie = f"{COOKIE_NAME}={site.client.cookies[COOKIE_NAME]}"
    reply = site.get(f"{site.here}/page", Host=host, Cookie=cookie)
    directives = dict(
        part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";")
    )
    assert directives["script-src"] == source
    assert "evil" not in reply.headers["content-security-policy"]


def test_under_an_ipv6_address_each_script_has_the_nonce_of_its_page(site: Site) -> None:
    policies = set()
    for _ in range(2):
        reply = site.get(SIGN_IN, Host="[::1]:6493")
        directives = dict(
            part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";")
        )
        nonce = directives["script-src"].removeprefix("'nonce-").removesuffix("'")
        scripts = [attributes for tag, attributes in tags_of(reply) if tag == "script"]
        assert scripts
        assert {attributes["nonce"] for attributes in scripts} == {nonce}
        policies.add(nonce)
    assert len(policies) == 2


def test_what_was_sent_is_text_in_pages_parts_and_error_pages(site: Site) -> None:
    site.sign_in(ADMIN)
    known = {tag for tag, _ in tags_of(site.get(f"{site.here}/page"))}
    for target in ("page", "page/part", "page?key"):
        reply = site.world.run(site.client.get(f"{site.here}/{target}", params={"q": NASTY}))
        assert {tag for tag, _ in tags_of(reply)} <= known
        assert "onerror" not in {name for _, attributes in tags_of(reply) for name in attributes}


def test_faults_of_ours_and_of_the_store_are_pages_that_give_nothing_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.sign_in(READER)
    for error, status in ((StoreError("/secret/path is broken"), 503), (ValueError("secret"), 500)):

        def broken(*_: object, error: Exception = error, **__: object) -> str:
            raise error

        monkeypatch.setattr(frame_module, "entries", broken)
        with capture_logs() as logged:
            bare = site.get(f"{site.here}/page?q=sent")
        assert (bare.status_code, "secret" in bare.text) == (status, False)
        assert {line.get("path", "") for line in logged} <= {"/explorer/{project}/page", ""}
        monkeypatch.undo()


def links_of(site: Site, target: str) -> dict[str, str]:
    """What the navigation of a page leads to, by address; the current one has `page`."""
    tags = tags_of(site.get(target))
    return {str(a["href"]): a.get("aria-current") or "" for tag, a in tags if tag == "a" and a.get("href")}


def test_the_navigation_leads_to_what_one_may_see_and_says_where_one_is(site: Site) -> None:
    site.sign_in(READER)
    links = links_of(site, f"{site.here}/page")
    assert links[f"{site.here}/users"] == "page"
    assert links[f"{site.here}/events"] == ""
    assert "/explorer/accounts" not in links
    assert not any(f"/explorer/{site.world.other.id}" in link for link in links)
    elsewhere = links_of(site, "/explorer/whole")
    assert elsewhere["/explorer/health"] == "page"
    assert f"{site.here}/users" in elsewhere, "the only project that one has stays at hand"
    site.sign_in(OWNER)
    links = links_of(site, "/explorer/whole")
    assert "/explorer/accounts" in links
    assert {site.here, f"/explorer/{site.world.other.id}"} <= links.keys(), "one chooses between two"
    assert f"{site.here}/users" not in links


@pytest.mark.parametrize(
    "cookie",
    ["", "!", "e30", "W10", "WzEsMl0", "bnVsbA", "WyJhIl0", "A" * 5000, "W1sxXSwiYSJd", "%ff", "a.b"],
)
def test_a_message_that_is_none_is_not_shown(site: Site, cookie: str) -> None:
    site.sign_in(READER)
    session = f"{COOKIE_NAME}={site.client.cookies[COOKIE_NAME]}"
    reply = site.get(f"{site.here}/page", Cookie=f"{session}; mixdown_notice={cookie}")
    assert reply.status_code == 200
    assert not [a for _, a in tags_of(reply) if a.get("class") in ("notice", "problem")]
