"""`/openapi.json` is complete and true: compared with the routes, the code's statuses, and real answers."""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jsonschema_rs
import pytest

from mixdown.http import app as http_app
from mixdown.http import openapi
from mixdown.http.openapi_operations import EXAMPLE_TOKEN, operations
from mixdown.http.parameters import Parameters
from mixdown.server.worker import application
from mixdown.settings import Settings
from tests.engine import ON_POSTGRES
from tests.http_writes.worker import Worker
from tests.serving import Response, Server, StartServer

SOURCE = Path(http_app.__file__).parents[1]
METHODS = ("get", "head", "post", "put", "options", "delete", "patch", "trace")

Document = dict[str, Any]


def whole(worker: Worker) -> http_app.App:
    """The application of a server with one port."""
    made = application(worker.services, internal_port=0)
    assert isinstance(made, http_app.App)
    return made


def application_parts(worker: Worker) -> list[http_app.App]:
    """The application on one port, and the two halves of it on two."""
    halves = application(worker.services, internal_port=1)
    return [whole(worker), *(part for part in vars(halves).values() if isinstance(part, http_app.App))]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


@pytest.fixture(scope="module")
def document(worker: Worker) -> Document:
    worker.app = whole(worker)
    described: Document = json.loads(worker.ask("GET", "/openapi.json").body)
    return described


def operations_of(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def resolved(document: Document, node: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` stands for."""
    if "$ref" not in node:
        return node
    found: Any = document
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def is_valid(document: Document, schema: dict[str, Any], value: object) -> bool:
    """Whether a value is as a schema of the document has it."""
    whole = {**schema, "components": document["components"]}
    return jsonschema_rs.validator_for(whole).is_valid(value)


def test_every_path_and_method_that_is_served_is_described_and_no_other(worker: Worker) -> None:
    parts = application_parts(worker)
    assert len(parts) == 3
    for part in parts:
        worker.app = part
        described = json.loads(worker.ask("GET", "/openapi.json").body)
        served = openapi.served_paths(part._rest.routes, takes_writes=part._takes_writes)  # type: ignore[attr-defined]
        found = {
            path: {method.upper() for method in item if method in METHODS}
            for path, item in described["paths"].items()
        }
        assert found == served


def test_the_application_answers_405_and_those_allowed_to_methods_that_are_not_described(
    worker: Worker, document: Document
) -> None:
    worker.app = whole(worker)
    described = {(path, method) for path, method, _ in operations_of(document)}
    for path, item in document["paths"].items():
        for method in METHODS:
            answer = worker.ask(method.upper(), re.sub(r"\{\w+\}", "x", path))
            assert (answer.status != 405) == ((path, method) in described), (path, method, item.keys())
            if answer.status == 405:
                allowed = set(answer.headers["allow"].lower().split(", "))
                assert allowed == {method for method in METHODS if method in item}, path


def read_parameters() -> set[str]:
    """Every parameter that a route reads, as the code names it."""
    readers = {name for name in vars(Parameters) if not name.startswith("_")} - {"given"}
    found = set()
    for file in (SOURCE / "http").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in readers and node.args:
                of = getattr(node.func, "value", None)
                name = getattr(of, "attr", getattr(of, "id", ""))
                argument = node.args[0]
                if name == "parameters" and isinstance(argument, ast.Constant):
                    found.add(str(argument.value))
    return found


def test_every_parameter_that_a_read_takes_is_described(document: Document) -> None:
    read = read_parameters()
    assert {"page_size", "before_id", "ids", "record", "project_id", "output_properties"} <= read
    described = {
        parameter["name"]
        for _, _, told in operations_of(document)
        for parameter in told.get("parameters", ())
    }
    for _, _, told in operations_of(document):
        for content in told.get("requestBody", {}).get("content", {}).values():
            described |= resolved(document, content["schema"]).get("properties", {}).keys()
    assert read - described == set()


def test_every_parameter_of_a_write_is_described(document: Document) -> None:
    source = (SOURCE / "http" / "forms.py").read_text()
    read = {name for name in re.findall(r'merged\.get\(b"(\w+)"', source) if name != "mp_lib"}
    assert {"verbose", "callback"} <= read
    for path in ("/engage", "/groups", "/track", "/import"):
        post = document["paths"][path]["post"]
        of_imports = set() if path == "/import" else {"project_id", "api_key"}
        assert read - of_imports <= {parameter["name"] for parameter in post["parameters"]}


def statuses_in_code() -> set[int]:
    """Every HTTP status that the code answers with, as it is written there."""
    found: set[int] = set()
    for file in [
        *(SOURCE / "http").glob("*.py"),
        *(SOURCE / "explorer" / name for name in ("docs.py", "session.py", "static_files.py")),
        SOURCE / "server/protocol.py",
    ]:
        if file.name.startswith("openapi"):
            continue
        text = file.read_text()
        found |= {HTTPStatus[name].value for name in re.findall(r"HTTPStatus\.([A-Z_]+)", text)}
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            arguments = [
                *node.args[:2],
                *(word.value for word in node.keywords if "status" in (word.arg or "")),
            ]
            found |= {
                one.value
                for one in arguments
                if isinstance(one, ast.Constant) and type(one.value) is int and 200 <= one.value < 600
            }
    return found


def test_every_status_that_the_code_answers_with_is_described(document: Document) -> None:
    described = {int(status) for _, _, told in operations_of(document) for status in told["responses"]}
    in_code = statuses_in_code()
    assert {200, 204, 303, 400, 401, 403, 413, 429, 431, 503} <= in_code
    # 405 and 404 belong to what is not described; the document says so in its first words
    assert in_code - described - {404, 405} == set()
    assert "404" in document["info"]["description"]
    assert "405" in document["info"]["description"]


@pytest.mark.slow
def test_every_example_is_as_its_schema_has_it(document: Document) -> None:
    seen = 0
    for path, method, told in operations_of(document):
        contents = [*told.get("requestBody", {}).get("content", {}).values()]
        for response in told["responses"].values():
            contents += resolved(document, response).get("content", {}).values()
        for content in contents:
            examples = [example["value"] for example in content.get("examples", {}).values()]
            for example in (*examples, *([content["example"]] if "example" in content else [])):
                assert is_valid(document, content["schema"], example), (path, method, example)
                seen += 1
    assert seen > 100


def test_the_limits_are_those_of_the_settings() -> None:
    settings = Settings(records_per_request=77, body_limit_bytes=123_456)
    described = openapi.document(settings, {path: {"POST"} for path in operations(settings)})
    post = described["paths"]["/engage"]["post"]
    assert "77 records and 123456 bytes" in post["description"]
    assert described["components"]["schemas"]["UserRecords"]["anyOf"][0]["maxItems"] == 77


def test_an_operation_that_is_not_served_is_not_described() -> None:
    described = openapi.document(Settings(), {"/livez": {"GET"}})
    assert list(described["paths"]) == ["/livez"]
    assert [tag["name"] for tag in described["tags"]] == ["Operations"]


# --- against a real server


@pytest.fixture(scope="module")
def example_server(start_module_server: StartServer) -> Server:
    """A server whose project has the token of the examples, with a refusal, and reports to be shown."""
    server = start_module_server(environment={"MIXDOWN_TOKEN": EXAMPLE_TOKEN})
    server.post("/engage", [{"$token": EXAMPLE_TOKEN}])
    headers = {**server.authorization(), "Content-Type": "application/json"}
    for name in ("shown", "deleted"):
        report = {"project_id": 1, "name": name, "definition": {"steps": ["visit", "buy"]}}
        saved = server.request("POST", "/api/mixdown/reports", json.dumps(report).encode(), headers)
        assert saved.status == 200, saved
        note = {"date": "2026-11-22 12:00:00", "description": name}
        saved = server.request("POST", "/api/app/projects/1/annotations", json.dumps(note).encode(), headers)
        assert saved.status == 201, saved
    return server


def encoded(media: str, example: Any) -> tuple[str, bytes]:
    """An example as a body, with its Content-Type."""
    if media == "application/x-www-form-urlencoded":
        return media, urlencode(example).encode()
    if media == "multipart/form-data":
        parts = [
            f'--xx\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in example.items()
        ]
        return media + "; boundary=xx", ("".join(parts) + "--xx--\r\n").encode()
    return media, (example if type(example) is str else json.dumps(example)).encode()


def asked(server: Server, document: Document, path: str, method: str) -> Iterator[Response]:
    """What a server answers to an operation's examples: one for each kind of body."""
    told = document["paths"][path][method]
    query = {
        parameter["name"]: parameter["example"]
        for parameter in told.get("parameters", ())
        if parameter["in"] == "query" and "example" in parameter
    }
    target = path
    # an operation's own example of a part of its path comes before that of the path
    for parameter in (*told.get("parameters", ()), *document["paths"][path].get("parameters", ())):
        if parameter["in"] == "path":
            target = target.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    if query:
        target += "?" + urlencode(query)
    headers = server.authorization() if any(told["security"]) else {}
    bodies = told.get("requestBody", {}).get("content", {})
    if not bodies:
        yield server.request(method.upper(), target, headers=headers)
    for media, content in bodies.items():
        if "example" in content:
            content_type, body = encoded(media, content["example"])
            yield server.request(method.upper(), target, body, {**headers, "Content-Type": content_type})


@pytest.mark.slow
def test_every_example_really_works_and_is_answered_as_described(
    example_server: Server, document: Document
) -> None:
    # what sends a refusal again takes it away: it is asked once, in JSON
    tried = 0
    for path, method, told in operations_of(document):
        if path.startswith("/explorer/sign"):
            continue
        for answer in asked(example_server, document, path, method):
            tried += 1
            status = str(answer.status)
            assert status in told["responses"], (path, method, answer)
            expected = {"200", "201", "204"}
            if path.endswith(("/resend", "/unmerge")):
                expected |= {"404"}  # there is nothing refused, and nobody linked
            if "Administration" in told["tags"] and method != "get":
                expected |= {"403", "404"}  # what takes away is shown on what is not there
            if "{tracking_id}" in path or "lookup-tables/{" in path:
                expected |= {"404"}  # the server names its jobs and tables itself
            if path.endswith("/backup") and ON_POSTGRES:
                expected = {"400"}  # it is of a data folder
            assert status in expected, (path, method, answer)
            content = resolved(document, told["responses"][status]).get("content", {})
            media = (answer.header("content-type") or "").partition(";")[0]
            if method == "head" or not content:
                assert answer.body == b""
                continue
            assert media in content, (path, method, media)
            if media == "application/json":
                assert is_valid(document, content[media]["schema"], answer.json()), (path, method, answer)
    assert tried > 60


def test_credentials_are_wanted_exactly_where_they_are_described(
    example_server: Server, document: Document
) -> None:
    wrong = base64.b64encode(b"nobody:nothing").decode()
    for path, method, told in operations_of(document):
        for headers in ({}, {"Authorization": f"Basic {wrong}"}):
            status = example_server.request(method.upper(), path, headers=headers).status
            wanted = bool(told["security"]) and {} not in told["security"]
            assert (status == 401) == wanted or path == "/explorer/sign-in", (path, method, status)


def test_the_page_shows_every_operation_and_loads_nothing_from_elsewhere(
    example_server: Server, document: Document
) -> None:
    answer = example_server.get("/docs")
    page = answer.body.decode()
    for path, method, told in operations_of(document):
        if method != "head":
            assert f'id="{told["operationId"]}"' in page, path
    assert re.findall(r"(?:src|href)=\"(https?:|//)", page) == []
    assert re.findall(r"<script(?! src=\"/static/[\w.]+\?v=\w+\"></script>)", page) == []
    assert "style=" not in page
    assert re.search(r"\son\w+=", page) is None
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets - set(re.findall(r'id="([^"]+)"', page)) == set()
    policy = answer.header("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.header("x-frame-options") == "DENY"
