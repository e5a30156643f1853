"""Script in every field of every kind of record: in a real browser nothing of it runs or becomes an element.

A crawl visits each page, each part that pages load, each twin, with every parameter hostile too. Mutants show
that it would find what it looks for: servers whose templates escape nothing.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.explorer import hostile
from tests.explorer.browser import PROGRAMS, Browser
from tests.explorer.seed import seed
from tests.serving import Server, StartServer

pytestmark = pytest.mark.slow  # the first test may have to install the driver

ATTACK = PROGRAMS / "attack.mjs"
UNESCAPED = Path(__file__).parent / "unescaped"
WHOLE: dict[str, str] = {"MIXDOWN_STRING_LIMIT_BYTES": "0"}


def attacked(server: Server) -> dict[str, Any]:
    """Fill a server, names of projects and the like included; the flow's configuration."""
    config = seed(server).config()
    headers = {**server.authorization(), "Content-Type": "application/json"}

    def change(method: str, path: str, body: object) -> Any:
        reply = server.request(method, path, json.dumps(body), headers)
        assert reply.status in (200, 201), reply
        return reply.json()["results"]

    project = server.project_id
    change("PATCH", f"/api/mixdown/projects/{project}", {"name": hostile.markup("project name")})
    change("POST", "/api/mixdown/projects", {"name": hostile.markup("other project")})
    broken = server.request("POST", "/engage", hostile.BROKEN_BODY, {"User-Agent": hostile.USER_AGENT})
    assert broken.status < 500, broken
    update = [{"$token": server.token, "$distinct_id": hostile.markup("agent id"), "$set": {"a": 1}}]
    assert server.post("/engage", update, {"User-Agent": hostile.USER_AGENT}).body == b"1"
    named = {name: hostile.markup(name) for name in ("user id", "group key", "group id", "event name")}
    marks = [hostile.markup("parameter"), hostile.address("parameter")]
    return {**config, "writes": hostile.writes(server.token), "named": named, "marks": marks}


def test_nothing_that_a_client_sent_runs(
    start_module_server: StartServer, browser: Browser, tmp_path: Path
) -> None:
    told = browser.run(ATTACK, attacked(start_module_server(environment=WHOLE)), tmp_path)
    visited = int(next(line for line in told if line.startswith("visited")).split()[1])
    assert visited > 40, told


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        pytest.param({}, "data-xss", id="escaping"),
        pytest.param({"EXPLORER_WITHOUT_POLICY": "1"}, "a client's script ran", id="escaping and policy"),
    ],
)
def test_a_server_without(
    environment: dict[str, str],
    found: str,
    start_module_server: StartServer,
    browser: Browser,
    tmp_path: Path,
) -> None:
    path = os.pathsep.join([str(UNESCAPED), *filter(None, [os.environ.get("PYTHONPATH")])])
    broken = {**WHOLE, "PYTHONPATH": path, **environment}
    config = {**attacked(start_module_server(environment=broken)), "pages": 6}
    outcome = browser.outcome(ATTACK, config, tmp_path)
    assert any(found in failure["text"] for failure in outcome["failures"]), outcome
