"""Clients that speak https only, unmodified, against a server with a certificate of `mixdown cert create`.

Each trusts the authority as docs/tls.md says, by a variable of its runtime. For clients whose hosts are fixed
the certificate names mixpanel.com, and tests/sdk/names stands for the name server that points it here.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mixpanel
import pytest

from tests.sdk.support import run_client, run_node, stored_group, stored_user, written_now
from tests.serving import Certificate, Server, StartServer

pytestmark = pytest.mark.timeout(900)  # the first test may have to install the SDKs

NAMES = Path(__file__).parent / "names"
USERS = 600  # three pages of tap-mixpanel


@dataclass
class Trusted:
    """A server, and the authority that its clients are to trust."""

    server: Server
    authority: Path

    @property
    def port(self) -> str:
        return self.server.base_url.rpartition(":")[2]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory, start_module_server: StartServer) -> Trusted:
    """A server whose certificate was made by the command."""
    folder = tmp_path_factory.mktemp("tls")
    command = [sys.executable, "-m", "mixdown", "cert", "create", "--json", "--dir", str(folder)]
    names = ["localhost", "127.0.0.1", "mixpanel.com", "*.mixpanel.com"]
    ended = subprocess.run([*command, *names], capture_output=True, timeout=120, check=True)
    made = json.loads(ended.stdout)
    # this test's own client trusts a file with everything in it
    both = folder / "both.pem"
    both.write_bytes(Path(made["certificate"]).read_bytes() + Path(made["ca"]).read_bytes())
    server = start_module_server(certificate=Certificate(both, Path(made["key"])))
    return Trusted(server, Path(made["ca"]))


def node_config(trusted: Trusted, **credentials: Any) -> dict[str, Any]:
    return {"host": "localhost", "port": int(trusted.port), "protocol": "https", **credentials}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_node_sdk_sends_its_secret(
    trusted: Trusted, node_environment: Mapping[str, str], tmp_path: Path, host: str
) -> None:
    server = trusted.server
    user = f"node at {host}"
    task = {
        "token": server.token,
        "config": {**node_config(trusted, secret=server.secret), "host": host},
        "calls": [["people.set", user, "a", 1], ["groups.set", "company", user, "b", 2]],
    }
    environment = {**node_environment, "NODE_EXTRA_CA_CERTS": str(trusted.authority)}
    assert run_node(tmp_path, "node_sdk.js", task, environment=environment) == [None, None]
    assert stored_user(server, user) == {"a": 1}
    assert stored_group(server, "company", user) == {"b": 2}


def test_a_client_that_does_not_trust_the_authority_sends_nothing(
    trusted: Trusted, node_environment: Mapping[str, str], tmp_path: Path
) -> None:
    server = trusted.server
    calls = [["people.set", "untrusting", "a", 1]]
    task = {"token": server.token, "config": node_config(trusted, secret=server.secret), "calls": calls}
    [outcome] = run_node(tmp_path, "node_sdk.js", task, environment=node_environment)
    assert "certificate" in outcome
    assert "untrusting" not in server.profiles()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_python_sdk_takes_the_server_as_its_api_host(
    trusted: Trusted, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted.authority))
    consumer = mixpanel.Consumer(api_host=f"{host}:{trusted.port}")
    mp = mixpanel.Mixpanel(trusted.server.token, consumer=consumer)
    user = f"python at {host}"
    mp.people_set(user, {"a": 1})
    mp.group_set("company", user, {"b": 2})
    assert stored_user(trusted.server, user) == {"a": 1}
    assert stored_group(trusted.server, "company", user) == {"b": 2}


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["undici", "got"])
def test_mixpanel_import_writes_and_reads_by_mixpanels_own_names(
    trusted: Trusted, node_environment: Mapping[str, str], tmp_path: Path, transport: str
) -> None:
    server = trusted.server
    user, password = server.account
    account = {"acct": user, "pass": password, "project": server.project_id, "token": server.token}
    name = f"imported with {transport}"
    write = {"recordType": "user", "fixData": True, "transport": transport}
    read = {"recordType": "profile-export", "skipWriteToDisk": True, "transport": transport}
    jobs = [
        {"credentials": account, "data": [{"distinct_id": name, "plan": "pro"}], "options": write},
        {"credentials": account, "data": None, "options": read},
    ]
    environment = {
        **node_environment,
        "MIXDOWN_TEST_PORT": trusted.port,
        "NODE_EXTRA_CA_CERTS": str(trusted.authority),
        "NODE_OPTIONS": f"--require {NAMES / 'names.js'}",
    }
    written, exported = run_node(tmp_path, "mixpanel_import.js", jobs, environment=environment)
    assert (written["success"], written["failed"], written["errors"]) == (1, 0, {})
    rows = {row["$distinct_id"]: row["$properties"] for row in exported["read"]}
    assert written_now(rows[name]) == {"plan": "pro"}


@pytest.mark.slow
def test_tap_mixpanel_reads_every_profile_by_mixpanels_own_name(
    trusted: Trusted, tap: Path, tmp_path: Path
) -> None:
    server = trusted.server
    records = [
        {"$token": server.token, "$distinct_id": f"tapped {number:03}", "$set": {"n": number}}
        for number in range(USERS)
    ]
    assert server.post("/engage", records).body == b"1"
    config = {
        "api_secret": server.secret,
        "project_timezone": "UTC",
        "attribution_window": "5",
        "start_date": "2026-01-01T00:00:00Z",
        "user_agent": "tests",
        "select_properties_by_default": "false",
    }
    schema = {
        "type": "object",
        "properties": {"distinct_id": {"type": ["null", "string"]}, "n": {"type": ["null", "integer"]}},
    }
    selected = [{"breadcrumb": [], "metadata": {"selected": True, "table-key-properties": ["distinct_id"]}}]
    selected += [
        {"breadcrumb": ["properties", name], "metadata": {"inclusion": "available", "selected": True}}
        for name in ("distinct_id", "n")
    ]
    stream = {"stream": "engage", "tap_stream_id": "engage", "schema": schema, "metadata": selected}
    stream["key_properties"] = ["distinct_id"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "catalog.json").write_text(json.dumps({"streams": [stream]}))
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(NAMES),
        "MIXDOWN_TEST_PORT": trusted.port,
        "REQUESTS_CA_BUNDLE": str(trusted.authority),
    }
    command = [tap, "--config", "config.json", "--catalog", "catalog.json"]
    ended = run_client(command, tmp_path, environment)
    assert ended.returncode == 0, ended.stderr[-3000:]
    messages = [json.loads(line) for line in ended.stdout.splitlines()]
    read = {row["record"]["distinct_id"]: row["record"] for row in messages if row["type"] == "RECORD"}
    assert {f"tapped {number:03}": number for number in range(USERS)} == {
        name: row["n"] for name, row in read.items() if name.startswith("tapped")
    }
    assert set(read) == set(server.profiles())
