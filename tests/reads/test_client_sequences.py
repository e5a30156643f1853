"""What whole clients send, in their order and spelling, from their first probe to the last page.

`tests/sdk` runs the clients themselves, slowly; these are their requests as seen on the wire (contract query
§1.2, §2.3, §5.2), so that no change breaks one unnoticed. Every 200 is looked at for `Retry-After`, which
airbyte takes for a refusal, and every answer for a redirect.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from mixdown.store.protocols import Cohort
from tests.engine import plain_store
from tests.reads.support import NOON_MS, PASSWORD, READER, SECRET, TOKEN, World, basic, group, user

USERS = 1000  # whole pages of 250 and of 1,000
START = "2026-01-01T00:00:00Z"
PRO = 'properties["plan"] == "pro"'
TAP_SECRET = "Basic " + base64.urlsafe_b64encode(SECRET.encode()).decode()
Reply = httpx.Response


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A server with users, of whom the odd half is in a cohort, and an empty cohort."""
    made = World(plain_store())
    made.send(
        *(
            user(f"user-{number:04}", plan=("free", "pro")[number % 2], n=number, tags=["a"], on=number < 9)
            for number in range(USERS)
        )
    )
    made.send(group("Company", "Acme", seats=3), endpoint="groups")
    made.fold_all()
    for name, expression in (("Pros", PRO), ("Nobody", 'properties["plan"] == "gold"')):
        made.store.cohorts.create(
            Cohort(project=made.project.id, name=name, expression=expression, created_ms=NOON_MS)
        )
    yield made
    made.close()


def fine(reply: Reply) -> Any:
    """The answer of a good reply that no client misreads."""
    assert reply.status_code == 200, reply.text
    assert "retry-after" not in reply.headers
    return reply.json()


def cohort_ids(world: World) -> dict[str, int]:
    return {row["name"]: row["id"] for row in fine(world.get("/api/query/cohorts/list"))}


def ids(rows: list[dict[str, Any]]) -> list[str]:
    found = [row["$distinct_id"] for row in rows]
    assert len(set(found)) == len(found)
    return found


def pros() -> list[str]:
    return [f"user-{number:04}" for number in range(1, USERS, 2)]


# --- airbyte-source-mixpanel


def airbyte_headers(mode: str) -> dict[str, str]:
    credentials = f"{READER}:{PASSWORD}" if mode == "service account" else SECRET
    return {"Authorization": basic(credentials), "Accept": "application/json"}


@pytest.mark.parametrize("mode", ["service account", "project secret"])
def test_airbyte_checks_discovers_and_reads(world: World, mode: str) -> None:
    headers = airbyte_headers(mode)
    account = mode == "service account"
    project = f"&project_id={world.project.id}" if account else ""

    def get(target: str) -> Any:
        mark = "" if "?" in target else "?"
        return fine(world.get(f"/api/query/{target}{mark}{project}", headers=headers))

    cohorts = get("cohorts/list")
    assert [row["name"] for row in cohorts] == ["Pros", "Nobody"]
    for row in cohorts:
        assert row["created"] >= "2026-01-01 00:00:00"
        assert (type(row["id"]), type(row["count"])) == (int, int)
    since = quote(f'properties["$last_seen"] >= "{START}"')
    described = get(f"engage/properties?where={since}")["results"]
    assert {described[name]["type"] for name in ("plan", "n", "on", "tags")} == {
        "string",
        "number",
        "boolean",
        "list",
    }
    assert get("events/properties/top") == {}

    since = quote('properties["$last_seen"] >= "2026-01-01T00:00:00"')
    for page_size in (1, 250, 400, 5000):
        if page_size == 1:
            assert get(f"engage?where={since}&page_size=1")["total"] == USERS
            continue
        rows, page, asked = [], 0, f"engage?where={since}&page_size={page_size}"
        while True:
            answer = get(asked)
            rows += answer["results"]
            if answer["total"] <= page_size * (answer["page"] + 1):
                break
            page += 1
            asked = (
                f"engage?where={since}&page={page}&session_id={answer['session_id']}&page_size={page_size}"
            )
        assert len(ids(rows)) == USERS
    newest = max(row["$properties"]["$last_seen"] for row in rows)
    since = quote(f'properties["$last_seen"] >= "{newest}"')
    assert get(f"engage?where={since}")["total"] == USERS

    members = []
    cohort = {"filter_by_cohort": f'{{"id":{cohorts[0]["id"]}}}'}  # JSON in JSON; paging in the query
    asked = f"/api/query/engage?page_size=250{project}"
    for page in (1, 2):
        answer = fine(world.post(asked, headers=headers, json=cohort))
        assert answer["total"] == USERS // 2
        members += answer["results"]
        asked = f"/api/query/engage?page={page}&session_id={answer['session_id']}&page_size=250{project}"
    assert ids(members) == pros()

    assert get("funnels/list") == []
    if account:
        path = f"/api/app/projects/{world.project.id}/annotations"
        assert fine(world.get(path, headers=headers))["results"] == []
    else:
        assert get("annotations")["annotations"] == []
    export = world.get(f"/api/2.0/export?from_date=2026-01-01&to_date=2026-01-14{project}", headers=headers)
    assert (export.status_code, export.content) == (200, b"")


def test_airbyte_is_told_in_its_words_that_credentials_are_wrong(world: World) -> None:
    reply = world.get("/api/query/cohorts/list", headers={"Authorization": basic(f"{READER}:wrong")})
    assert reply.status_code == 401
    assert "Unable to authenticate request" in reply.text


# --- tap-mixpanel


def test_the_tap_probes_discovers_and_syncs(world: World) -> None:
    headers = {"Authorization": TAP_SECRET, "Accept": "application/json", "User-Agent": "tests"}

    def get(target: str) -> Any:
        return fine(world.get(f"/api/2.0/{target}", headers=headers))

    def pages(query: str) -> list[dict[str, Any]]:
        """The tap goes on while its offset does not exceed the total: one page past the end."""
        rows, offset, page, session, total = [], 0, 0, "", 1
        while offset <= total:
            paging = f"&page={page}&session_id={session}" if page else ""
            answer = get(f"engage?page_size=250{paging}{query}")
            total, session = answer["total"], answer["session_id"]
            rows += answer["results"]
            offset, page = offset + 250, page + 1
        assert answer["results"] == []
        return rows

    assert get("engage")["total"] == USERS
    assert get("engage/properties?limit=2000")["status"] == "ok"
    assert get("events/properties/top?limit=2000") == {}
    assert len(ids(pages(""))) == USERS
    found = {}
    for cohort in get("cohorts/list"):
        chosen = quote(json.dumps({"id": cohort["id"]}))
        found[cohort["name"]] = ids(pages(f"&filter_by_cohort={chosen}"))
    assert found == {"Pros": pros(), "Nobody": []}
    assert get("funnels/list") == []
    days = "from_date=2026-01-01&to_date=2026-01-14"
    assert get(f"annotations?{days}")["annotations"] == []
    export = world.get(f"/api/2.0/export?{days}", headers=headers)
    assert (export.status_code, export.content) == (200, b"")


@pytest.mark.parametrize("secret", ["", "wrong", TOKEN])
def test_the_taps_probe_with_a_wrong_secret_is_401_and_never_402(world: World, secret: str) -> None:
    reply = world.get("/api/2.0/engage", headers={"Authorization": basic(secret)})
    assert reply.status_code == 401
    assert reply.json()["error"]


# --- mixpanel-headless


def test_headless_asks_for_cohorts_figures_and_profiles(world: World) -> None:
    tail = f"?project_id={world.project.id}&query_origin=mixpanel-headless"
    project = {"project_id": str(world.project.id)}

    def post(path: str, **body: Any) -> Any:
        return fine(world.post(f"/api/query/{path}{tail}", json={**project, **body}))

    cohorts = fine(world.post(f"/api/query/cohorts/list{tail}"))
    assert [row["name"] for row in cohorts] == ["Pros", "Nobody"]
    member_of = json.dumps({"id": cohorts[0]["id"]})
    chosen = post("engage/", page=0, filter_by_cohort=member_of, include_all_users=False)
    assert ids(chosen["results"]) == pros()
    ordered = post("engage/", page=0, sort_key='properties["n"]', sort_order="descending", limit=3)
    assert [row["$properties"]["n"] for row in ordered["results"]] == [USERS - 1, USERS - 2, USERS - 3]
    assert ids(post("engage/", page=0, search="USER-0017")["results"]) == ["user-0017"]
    assert ids(post("engage/", page=0, data_group_id="Company")["results"]) == ["Acme"]
    assert post("engage/", page=0, where=PRO)["total"] == USERS // 2
    assert post("engage/stats", action="count()")["results"] == USERS
    assert post("engage/stats", action="count()", selector=PRO)["results"] == USERS // 2
    names = f"/api/query/events/names{tail}&type=general&limit=5000&from_date=2000-01-01&to_date=2026-01-15"
    assert fine(world.get(names)) == []
    assert fine(world.get(f"/api/app/projects/{world.project.id}/annotations/tags/"))["results"] == []


def test_headless_finds_its_project_and_workspace(world: World) -> None:
    me = fine(world.get("/api/app/me"))["results"]
    assert list(me["projects"]) == [str(world.project.id)]
    [workspace] = fine(world.get(f"/api/app/projects/{world.project.id}/workspaces/public"))["results"]
    assert workspace["is_default"] is True


# --- mixpanel-import, mixpanel-data-export, importers of other products


def test_mixpanel_import_exports_a_cohort_and_a_filter(world: World) -> None:
    path = f"/api/2.0/engage?project_id={world.project.id}"
    cohort = json.dumps({"id": cohort_ids(world)["Pros"]})
    for form in ({"filter_by_cohort": cohort, "include_all_users": "false"}, {"where": PRO}):
        answer = fine(world.post(path, data=form))
        assert (answer["page"], answer["page_size"], answer["total"]) == (0, 1000, USERS // 2)
        assert ids(answer["results"]) == pros()
    whole = fine(world.post(path))
    assert len(whole["results"]) == USERS  # as many as fill the page: it asks for one more
    following = f"{path}&page=1&session_id={whole['session_id']}"
    assert fine(world.post(following))["results"] == []


def test_mixpanel_data_export_writes_slashes_and_a_bare_question_mark(world: World) -> None:
    headers = {"Authorization": basic(f"{SECRET}:")}
    answer = fine(world.get("/api/2.0/engage/?", headers=headers))
    assert answer["total"] == USERS
    answer = fine(world.get(f"/api/2.0/engage/?where={quote(PRO)}", headers=headers))
    assert answer["total"] == USERS // 2
    assert fine(world.get("/api/2.0/events/properties/top/?event=a", headers=headers)) == {}
    assert (
        world.get("/api/2.0/export/?from_date=2026-01-01&to_date=2026-01-02", headers=headers).content == b""
    )


def test_an_importer_pages_a_cohort_by_form_until_the_total(world: World) -> None:
    """As a fork of PostHog does: it insists on the status and on a session."""
    cohort = json.dumps({"id": cohort_ids(world)["Pros"]})
    rows: list[dict[str, Any]] = []
    form = {"page_size": "200", "page": "0", "filter_by_cohort": cohort}
    for page in range(3):
        form["page"] = str(page)
        answer = fine(world.post(f"/api/query/engage?project_id={world.project.id}", data=form))
        assert answer["status"] == "ok"
        form["session_id"] = answer["session_id"]
        rows += answer["results"]
    assert (page + 1) * 200 >= answer["total"]
    assert ids(rows) == pros()


# --- mixpanel-utils


def test_mixpanel_utils_sends_where_and_its_older_name_selector(world: World) -> None:
    project = f"project_id={world.project.id}"
    for name in ("where", "selector"):
        chosen = quote('(defined (properties["plan"])) and properties["n"] < 4')
        answer = fine(world.get(f"/api/2.0/engage?{project}&{name}={chosen}"))
        assert len(answer["results"]) == answer["total"] == 4
    few = quote('properties["n"] < 4')
    both = f"where={quote(PRO)}&selector={few}"
    assert ids(fine(world.get(f"/api/2.0/engage?{project}&{both}"))["results"]) == ["user-0001", "user-0003"]
