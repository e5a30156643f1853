"""Lists of users and groups over HTTP: search, filters, columns, order, paging, downloads, roles."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from mixdown.explorer import people_rows, session
from mixdown.explorer.people import PAGE_ROWS
from tests.engine import open_store
from tests.explorer.test_session import csrf_of, sign_in
from tests.reads.support import ADMIN, IMPORTER, OWNER, PASSWORD, READER, World, group, user

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
ARABIC = "مرحبا بالعالم"
PEOPLE = 130


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One server for the tests that only look: 130 people, some of them odd, and two companies."""
    folder: Path = tmp_path_factory.mktemp("users") / "data"
    store = open_store(folder, role="worker", create=True)
    made = World(store, open_store(folder, role="fold", create=False))
    made.add_account("analyst.mp-service-account", "analyst")
    people = [
        user(
            f"u{n:04}",
            n=n,
            plan="pro" if n % 3 else "free",
            **{"$name": f"Person {n}", "$email": f"p{n}@example.com"},
        )
        for n in range(PEOPLE - 3)
    ]
    odd = [
        user(NASTY, plan=NASTY, **{"$name": NASTY, NASTY: NASTY}),
        user("long", plan="x" * 5000, tags=["y" * 5000], n=-1),
        user("rtl", plan=ARABIC, **{"$first_name": ARABIC, "$last_name": "Ω"}),
    ]
    made.send(*people, *odd)
    made.send(group("Company", "acme", plan="pro"), group("Company", "zeta & sons"), endpoint="groups")
    made.fold_all()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _signed_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FAILURE_PAUSE_S", 0.0)
    monkeypatch.setattr(people_rows, "PATIENCE_S", 10.0)
    sign_in(world, ADMIN)


def look(world: World, target: str, status: int = 200, /, **parameters: Any) -> httpx.Response:
    if parameters:
        target = f"{target}?{httpx.QueryParams(parameters)}"
    reply = world.get(f"/explorer/{world.project.id}/{target}", user=None, headers={"Accept": "text/html"})
    assert reply.status_code == status, reply.text
    return reply


def twin(world: World, target: str, **parameters: Any) -> Any:
    return look(world, f"{target}.json", **parameters).json()


def shown(reply: httpx.Response) -> list[str]:
    """The ids of the rows, by the links of the rows."""
    links = [html.unescape(each) for each in re.findall(r'class="row-link" href="([^"]+)"', reply.text)]
    return [parse_qs(urlsplit(link).query)["id"][0] for link in links]


def following(reply: httpx.Response) -> str | None:
    """The address of the part that comes next."""
    found = re.search(r'<tr class="goes-on" hx-get="/explorer/\d+/([^"]+)"', reply.text)
    return html.unescape(found[1]) if found else None


def all_shown(world: World, target: str, **parameters: Any) -> list[str]:
    """All ids, page after page, as htmx loads them."""
    reply = look(world, target, **parameters)
    found = shown(reply)
    while (rest := following(reply)) is not None:
        reply = look(world, rest)
        found += shown(reply)
    return found


def test_the_first_page_shows_who_is_there_and_each_row_leads_to_its_profile(world: World) -> None:
    reply = look(world, "users")
    ids = shown(reply)
    assert len(ids) == PAGE_ROWS
    assert ids == sorted(ids)
    assert "p7@example.com" in reply.text
    assert ">P7<" in reply.text
    assert f'href="/explorer/{world.project.id}/profile?id=u0007"' in reply.text


def test_pages_show_each_profile_once(world: World) -> None:
    everyone = all_shown(world, "users")
    assert len(everyone) == PEOPLE
    assert everyone == sorted(everyone)
    newest = all_shown(world, "users", sort="n", order="descending")
    assert sorted(newest) == everyone
    assert newest[:2] == ["u0126", "u0125"]
    assert all_shown(world, "users", where='properties["plan"] == "free"') == [
        f"u{n:04}" for n in range(0, PEOPLE - 3, 3)
    ]


def test_a_sorted_list_goes_on_behind_its_first_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = all_shown(world, "users", sort="n", order="descending")
    for pages in (1, 2):
        monkeypatch.setattr(people_rows, "FIRST_PAGES", pages)
        assert all_shown(world, "users", sort="n", order="descending") == whole
    assert len(set(whole)) == PEOPLE


def test_without_scripts_a_link_leads_to_the_next_page(world: World) -> None:
    for parameters in ({}, {"sort": "$name"}):
        reply = look(world, "users", **parameters)
        link = re.search(r'class="btn btn-small" href="/explorer/\d+/([^"]+)">More', reply.text)
        assert link
        second = look(world, html.unescape(link[1]))
        assert len(shown(second)) == PAGE_ROWS
        assert not set(shown(second)) & set(shown(reply))
        assert "Back to the start" in second.text


@pytest.mark.parametrize(
    ("search", "ids"),
    [
        ("u0042", ["u0042"]),
        ("Person 126", ["u0126"]),
        ("P42@EXAMPLE", ["u0042"]),
        (ARABIC, ["rtl"]),
        ("onerror", [NASTY]),
        ("nobody at all", []),
    ],
)
def test_a_search_finds_by_id_name_e_mail_and_any_text(world: World, search: str, ids: list[str]) -> None:
    assert all_shown(world, "users", search=search) == ids


def test_whoever_has_the_text_as_an_id_is_shown_at_once(world: World) -> None:
    found = twin(world, "users", search="u0042")["list"]["exact"]
    assert (found["id"], found["title"]) == ("u0042", "Person 42")
    assert "is an id of" in look(world, "users", search="u0042").text
    assert twin(world, "users", search="Person 42")["list"]["exact"] is None
    assert twin(world, "groups", key="Company", search="acme")["list"]["exact"]["id"] == "acme"


def test_what_matches_nothing_says_so_and_shows_a_way_out(world: World) -> None:
    reply = look(world, "users", search="nobody at all", where='properties["n"] > 3')
    assert "Nothing matches" in reply.text
    assert "nobody at all" in reply.text
    assert f'<a class="btn" href="/explorer/{world.project.id}/users">Show all</a>' in reply.text


def test_a_filter_with_an_error_shows_its_place(world: World) -> None:
    reply = look(world, "users", where='properties["plan"] = "pro"')
    assert "compare with `==`, at character 20" in reply.text
    assert "<mark>=</mark>" in reply.text
    assert "<span>properties[&#34;plan&#34;] </span>" in reply.text
    assert not shown(reply)
    assert "Nothing matches" not in reply.text
    assert "Save as cohort" not in reply.text
    at_end = look(world, "users", where='properties["plan"] ==')
    assert "found the end" in at_end.text
    assert "<mark> </mark>" in at_end.text


def test_columns_are_as_the_address_says(world: World) -> None:
    chosen = twin(world, "users", column=["n", "nothing", "plan", "n"])
    assert chosen["list"]["columns"] == ["n", "nothing", "plan"]
    row = next(row for row in chosen["list"]["rows"] if row["id"] == "u0001")
    assert [(cell["has"], cell["value"]) for cell in row["cells"]] == [
        (True, 1),
        (False, None),
        (True, "pro"),
    ]
    assert twin(world, "users", column="")["list"]["columns"] == []
    assert "plan" in twin(world, "users")["list"]["columns"]
    assert (
        look(world, "users", 400, column=[f"c{n}" for n in range(51)]).text.count("at most 50 columns") == 1
    )


def test_headings_are_links_that_sort(world: World) -> None:
    reply = look(world, "users", sort="n", column="n")
    assert reply.text.count("aria-sort") == 1
    heading = re.search(r'<th scope="col" aria-sort="ascending"><a href="/explorer/\d+/([^"]+)"', reply.text)
    assert heading
    turned = look(world, html.unescape(heading[1]))
    assert 'aria-sort="descending"' in turned.text
    assert shown(turned)[0] == "u0126"
    unsorted = look(world, "users")
    assert re.search(r'aria-sort="ascending"><a href="[^"]+" title="Sort by ID"', unsorted.text)


def test_the_column_chooser_lists_the_chosen_first_and_moves_them(world: World) -> None:
    chooser = look(world, "users/columns", column=["n", "plan", "tags"], up="plan")
    places = [chooser.text.index(f'value="{name}" checked') for name in ("plan", "n", "tags")]
    assert places == sorted(places)
    assert html.escape(NASTY, quote=False).replace('"', "&#34;").replace("'", "&#39;") in chooser.text
    told = twin(world, "users/columns", column=["n"], sort="n", where="true")
    assert [column["name"] for column in told["chosen"]] == ["n"]
    assert {"plan", "tags"} <= {column["name"] for column in told["others"]}
    assert ["where", "true"] in told["state"]


def test_rows_make_an_expression_and_the_expression_rows(world: World) -> None:
    rows = {"property": ["plan", "n", ""], "operator": ["is", "gt", "is"], "value": ["pro", "100", ""]}
    reply = look(world, "users/apply", 303, **rows, search="x")
    where = 'properties["plan"] == "pro" and properties["n"] > 100'
    address = urlsplit(reply.headers["location"])
    assert parse_qs(address.query) == {"search": ["x"], "where": [where]}
    told = twin(world, "users", where=where)
    assert [(row["property"], row["operator"], row["value"]) for row in told["filter"]["rows"]] == [
        ("plan", "is", "pro"), ("n", "gt", "100"), ("", "is", ""),
    ]  # fmt: skip
    more = twin(world, "users", where='properties["n"] + 1 == 2')
    assert not more["filter"]["is_rows"]
    assert more["filter"]["text"] == 'properties["n"] + 1 == 2'


def test_the_two_forms_are_kept_in_step(world: World) -> None:
    by_rows = look(
        world, "users/filter", by="rows", property="plan", operator="is", value="pro", joined="all"
    )
    assert "properties[&#34;plan&#34;] == &#34;pro&#34;</textarea>" in by_rows.text
    by_text = look(world, "users/filter", by="text", where='properties["n"] >= 5')
    assert re.search(r'name="value" value="5"', by_text.text)
    broken = look(world, "users/filter", by="text", where="plan")
    assert "unknown word" in broken.text
    unfit = look(world, "users/filter", by="rows", property="n", operator="gt", value="many", where="true")
    assert "this is no number" in unfit.text
    assert ">true</textarea>" in unfit.text
    fitting = look(world, "users/filter", by="rows", property="n", operator="is", value="")
    assert '<option value="eq" selected>' in fitting.text


def test_a_row_whose_value_does_not_fit_is_not_applied(world: World) -> None:
    reply = look(world, "users/apply", 303, property="n", operator="eq", value="many")
    assert "where" not in reply.headers["location"]
    assert "this is no number" in look(world, "users").text


def test_totals_come_by_themselves(world: World) -> None:
    assert "130" in look(world, "users/totals").text
    matching = re.sub(r"<[^>]+>|\s+", " ", look(world, "users/totals", where='properties["n"] < 5').text)
    assert re.search(r"6\s+of\s+130\s+users\s+match", matching)


def test_groups_have_lists_of_their_own(world: World) -> None:
    for parameters in ({"key": "Company"}, {}):
        assert all_shown(world, "groups", **parameters) == ["acme", "zeta & sons"]
    assert "group_key=Company" in look(world, "groups").text
    assert "no group key of that name" in look(world, "groups", 404, key="Team").text
    assert all_shown(world, "groups", key="Company", search="sons") == ["zeta & sons"]


def test_the_groups_of_a_project_without_any_say_so(world: World) -> None:
    sign_in(world, OWNER)
    reply = world.get(f"/explorer/{world.other.id}/groups", user=None, headers={"Accept": "text/html"})
    assert reply.status_code == 200
    assert "No groups yet" in reply.text
    nobody = world.get(f"/explorer/{world.other.id}/users", user=None, headers={"Accept": "text/html"})
    assert "No profiles yet" in nobody.text
    assert f'href="/explorer/{world.other.id}">Send the first one' in nobody.text


def test_what_clients_sent_is_shown_as_text_and_cut(world: World) -> None:
    reply = look(world, "users", column=["plan", NASTY, "tags"], search="x")
    assert "<script>alert" not in reply.text
    assert "<img src=x" not in reply.text
    long = look(world, "users", search="long", column=["plan", "tags"])
    assert len(long.text) < 60_000
    assert "x" * 301 not in long.text
    rtl = look(world, "users", search="rtl")
    assert f'<span class="title" dir="auto">{ARABIC} Ω</span>' in rtl.text


def test_a_download_is_the_list_with_its_filter_columns_and_order(world: World) -> None:
    asked = {"where": 'properties["n"] < 3', "sort": "n", "order": "descending", "column": ["plan", "n"]}
    reply = look(world, "users/download", format="csv", **asked)
    assert reply.headers["content-disposition"].startswith('attachment; filename="default-users-')
    assert reply.text.splitlines()[0] == "$distinct_id,$name,$email,$last_seen,plan,n"
    assert [line.partition(",")[0] for line in reply.text.splitlines()[1:]] == [
        "u0002",
        "u0001",
        "u0000",
        "long",
    ]
    whole = look(world, "users/download", format="ndjson", all="1", search="u0042")
    api = world.get(
        "/api/mixdown/profiles/export", user=READER, params={"format": "ndjson", "search": "u0042"}
    )
    assert whole.content == api.content
    assert json.loads(whole.text)["$properties"]["n"] == 42
    assert look(world, "groups/download", format="parquet", key="Company").content.startswith(b"PAR1")
    links = twin(world, "users", **asked)["downloads"]
    assert [(each["label"], each["what"]) for each in links][:2] == [
        ("CSV", "columns shown"),
        ("JSON lines", "columns shown"),
    ]
    assert look(world, links[0]["url"].split("/", 3)[3]).content == reply.content
    refused = look(world, "users/download", 400, format="xlsx")
    assert "format, must be one of" in refused.text


def test_a_slow_order_comes_after_the_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people_rows, "PATIENCE_S", 0.0)
    reply = look(world, "users", sort="plan")
    assert not shown(reply)
    assert 'hx-trigger="load"' in reply.text
    rest = following(reply)
    assert rest is not None
    assert len(shown(look(world, rest))) == PAGE_ROWS
    waiting = look(world, "users", sort="plan", wait="1")
    assert len(shown(waiting)) == PAGE_ROWS
    assert len(twin(world, "users", sort="plan")["list"]["rows"]) == PAGE_ROWS


def test_a_session_that_is_gone_says_what_to_do(world: World) -> None:
    reply = look(world, "users/rows", sort="n", session="f" * 32, page="1")
    assert "start again at page 0" in reply.text


def test_an_analyst_saves_the_filter_as_a_cohort_and_a_reader_sees_no_such_thing(world: World) -> None:
    where = 'properties["plan"] == "pro"'
    assert "Save as cohort" not in look(world, "users").text
    assert "Save as cohort" not in look(world, "users", where=where, search="x").text
    sign_in(world, "analyst.mp-service-account")
    assert "Save as cohort" in look(world, "users", where=where).text
    form = look(world, "users/cohort", where=where)
    save = re.search(r'action="([^"]+/save[^"]*)"', form.text)
    assert save
    fields = {"csrf": csrf_of(form), "name": "paying", "description": "who pays"}
    target = html.unescape(save[1])
    assert world.post(target, user=None, data={**fields, "csrf": "0" * 64}).status_code == 403
    done = world.post(target, user=None, data=fields)
    assert (done.status_code, done.headers["location"]) == (303, f"/explorer/{world.project.id}/cohorts")
    made = world.get("/api/mixdown/cohorts").json()["results"]
    assert [(each["name"], each["where"], each["description"]) for each in made] == [
        ("paying", where, "who pays")
    ]
    again = world.post(target, user=None, data=fields)
    assert again.headers["location"].startswith(f"/explorer/{world.project.id}/users/cohort?")
    limited = look(world, "users", cohort=made[0]["id"])
    assert "Cohort <span" in limited.text
    assert ">paying</span>" in limited.text
    assert "Save as cohort" not in limited.text
    sign_in(world, READER)
    assert "Save as cohort" not in look(world, "users", where=where).text
    look(world, "users/cohort", 403, where=where)
    assert world.post(target, user=None, data=fields).status_code == 403


def test_who_has_not_signed_in_or_may_only_import_sees_no_list(world: World) -> None:
    world.http.cookies.clear()
    reply = world.get(f"/explorer/{world.project.id}/users", user=None, headers={"Accept": "text/html"})
    assert reply.status_code == 303
    assert "/explorer/sign-in" in reply.headers["location"]
    for account, status in ((READER, 200), (IMPORTER, 401)):
        data = world.get(f"/explorer/{world.project.id}/users.json", user=account)
        assert data.status_code == status
    assert PASSWORD not in reply.text


def test_large_values_in_a_list_are_a_clear_problem_and_no_load(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_rows, "LIST_LIMIT_BYTES", 2000)
    shown = world.get(f"/explorer/{world.project.id}/users.json?column=plan", user=READER)
    assert shown.status_code == 200
    assert "larger than a page can take" in shown.json()["list"]["problem_text"]


def test_a_profile_whose_id_is_blank_can_be_seen_and_clicked(world: World) -> None:
    world.send(user("   ", n=1))
    world.fold_all()
    sign_in(world, READER)
    page = world.get(f"/explorer/{world.project.id}/users", user=None).text
    assert page.count("(a blank name)") == 2
    shown = world.get(f"/explorer/{world.project.id}/profile?id=%20%20%20", user=None).text
    assert "(a blank name)" in shown
