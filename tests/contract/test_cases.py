"""Every case of contract ingestion §11 that sends profiles only, over real HTTP against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract import cases_of_profiles, cases_of_requests
from tests.contract.geo import BERLIN, OTHER_IP
from tests.contract.support import SET, Case, R, Sent, empty, run
from tests.serving import Server, StartServer

CASES = [*cases_of_requests.CASES, *cases_of_profiles.CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(mixdown: Server, case: Case) -> None:
    run(mixdown, case)


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


def test_case_120_untrusted(start_server: StartServer, geo_database: Path) -> None:
    server = start_server(environment={"MIXDOWN_TOKEN": "TOK", "MIXDOWN_GEO_DATABASE": str(geo_database)})
    sent = Sent("/engage?ip=1", [R(SET)], headers={"X-Forwarded-For": OTHER_IP}, geo=True)
    sent.reply.check(sent.send(server))
    profile = server.profiles()["u1"]
    assert {name: profile[name] for name in BERLIN} == BERLIN


def test_case_49_keeps_a_refusal_that_the_owner_alone_sees(mixdown: Server) -> None:
    empty(mixdown)
    record = {**R(SET, "of nobody"), "$token": "NOPE-49"}
    assert mixdown.post("/engage", [record]).body == b"0"
    (refusal,) = [
        kept
        for kept in mixdown.get("/api/mixdown/refusals", limit=1000).json()["results"]
        if "NOPE-49" in kept["record"]
    ]
    assert refusal["message"] == "$token, no project has this token"
    assert refusal["project_id"] is None
    of_project = mixdown.get("/api/mixdown/refusals", limit=1000, project_id=mixdown.project_id).json()
    assert not [kept for kept in of_project["results"] if "NOPE-49" in kept["record"]]


def test_cases_152_to_155_list_and_replace_a_lookup_table(mixdown: Server) -> None:
    named = f"?project_id={mixdown.project_id}"
    made = mixdown.command("lookup-table", "create", "cases", "--project", str(mixdown.project_id), "--json")
    listed = mixdown.request("GET", f"/lookup-tables{named}", b"", mixdown.authorization())
    wanted = {"code": 200, "status": "OK", "results": [{"id": made["id"], "name": "cases"}]}
    assert (listed.status, listed.json()) == (200, wanted)
    headers = {**mixdown.authorization(), "Content-Type": "text/csv"}
    target, rows = f"/lookup-tables/{made['id']}{named}", b"id,n\nk1,1\nk2,2\n"
    replaced = mixdown.request("PUT", target, rows, headers)
    assert (replaced.status, replaced.body) == (200, b'{"code":200,"status":"OK"}')
    mixdown.post("/engage", [R({"$set": {"id": "k2"}})])
    where, project = 'lookup["cases"]["n"] == 2', mixdown.project_id
    found = mixdown.get("/api/query/engage", where=where, project_id=project).json()
    assert [row["$distinct_id"] for row in found["results"]] == ["u1"]
    missing = mixdown.request("PUT", target.replace(made["id"], "f077cb07"), rows, headers)
    assert (missing.status, missing.json()["status"]) == (404, "Not Found")
