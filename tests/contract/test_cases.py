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
