"""Logs: text for people, JSON for machines, and never a word of what clients sent."""

import ast
import asyncio
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mixdown.model.errors import QueryError, StoreError
from mixdown.server import logs
from mixdown.settings import load
from tests.serving import TOKEN, StartServer, start_server

SOURCE = Path(logs.__file__).parents[1]

pytestmark = pytest.mark.slow

__all__ = ["start_server"]

VALUE = "a property value that nobody may see"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Gives the test process its own logging back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)


def written(stream: io.StringIO, **flags: str) -> io.StringIO:
    logs.configure(load({}, flags), "worker-0", stream=stream)
    return stream


@pytest.mark.parametrize(
    ("flags", "terminal", "is_json"),
    [
        ({}, True, False),
        ({}, False, True),
        ({"log_format": "json"}, True, True),
        ({"log_format": "text"}, False, False),
    ],
)
def test_lines_are_text_on_a_terminal_and_json_otherwise(
    flags: dict[str, str], terminal: bool, is_json: bool
) -> None:
    stream = written(Terminal() if terminal else io.StringIO(), **flags)
    logs.info("a process died", status=-9)
    (line,) = stream.getvalue().splitlines()
    if is_json:
        facts = json.loads(line)
        assert facts["event"] == "a process died"
        assert (facts["level"], facts["process"], facts["status"]) == ("info", "worker-0", -9)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", facts["timestamp"])
    else:
        assert "a process died" in line
        assert not line.startswith("{")


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_decides_what_is_written(level: str, seen: list[str]) -> None:
    stream = written(io.StringIO(), log_level=level)
    for write in (logs.debug, logs.info, logs.warning, logs.error):
        write("a line")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == seen


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    "error", [ValueError(VALUE), KeyError(VALUE), QueryError(f"bad {VALUE}", status=400), UnicodeError(VALUE)]
)
@pytest.mark.parametrize("way", ["fault", "structlog", "logging", "asyncio"])
def test_an_exception_is_told_by_type_and_place_and_not_by_its_text(error: Exception, way: str) -> None:
    stream = written(io.StringIO())
    try:
        fail(error)
    except type(error):
        if way == "fault":
            logs.fault("it failed", error)
        elif way == "structlog":
            structlog.get_logger("mixdown.http").exception("it failed", path="/engage")
        elif way == "logging":
            logging.getLogger("uvicorn.error").exception("it failed with %s", VALUE)
        else:
            loop = asyncio.new_event_loop()
            loop.call_exception_handler({"message": "it failed", "exception": error, "secret": VALUE})
            loop.close()
    (line,) = stream.getvalue().splitlines()
    assert VALUE not in line
    assert json.loads(line)["error"] == type(error).__name__
    assert "test_logs.py" in json.loads(line)["at"]
    assert "fail" in json.loads(line)["at"]


def test_a_failing_thread_and_process_are_told_without_the_text_of_the_exception() -> None:
    script = f"""
import threading
from mixdown.server import logs
from mixdown.settings import load
def fail():
    raise ValueError({VALUE!r})
logs.configure(load({{}}, {{}}), "fold")
logs.catch_all()
thread = threading.Thread(target=fail, name="commit")
thread.start()
thread.join()
fail()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["event"] for line in told] == ["a thread failed", "the process failed"]
    assert [line["error"] for line in told] == ["ValueError", "ValueError"]
    assert VALUE not in ended.stderr


def test_what_speaks_of_the_server_alone_is_quoted() -> None:
    assert logs.exception_facts(StoreError("the folder is gone"))["reason"] == "the folder is gone"
    assert logs.exception_facts(OSError(28, VALUE))["reason"] == "No space left on device"
    assert "reason" not in logs.exception_facts(ValueError(VALUE))


def logged() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the source by which a line of the log is written."""
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id == "_log":
                    yield f"{file.name}:{node.lineno}", node


@pytest.mark.parametrize(
    ("where", "call"), list(logged()), ids=lambda value: value if type(value) is str else ""
)
def test_no_line_of_the_log_is_made_of_an_exceptions_text_or_of_a_request(where: str, call: ast.Call) -> None:
    """What `exc_info` brings is looked at by the log itself; a text that is put together is not."""
    del where
    assert isinstance(call.args[0], ast.Constant | ast.Attribute), "a sentence of the source"
    for keyword in call.keywords:
        if keyword.arg != "exc_info":
            assert not isinstance(keyword.value, ast.JoinedStr)
            assert not ast.unparse(keyword.value).startswith(("str(", "repr(", "scope[", "request."))


def test_a_running_server_never_writes_what_clients_sent(start_server: StartServer) -> None:
    server = start_server(arguments=["--log-level", "debug"])
    marks = {
        "value": "vvv-mark",
        "name": "nnn-mark",
        "id": "iii-mark",
        "token": "ttt-mark",
        "query": "qqq-mark",
    }
    record = {"$token": TOKEN, "$distinct_id": marks["id"], "$set": {marks["name"]: marks["value"]}}
    assert server.post("/engage", [record]).body == b"1"
    assert server.post("/engage", [{**record, "$token": marks["token"]}]).body == b"0"
    assert (
        server.post("/engage?strict=1", [{**record, "$add": {marks["name"]: marks["value"]}}]).status == 200
    )
    server.post("/engage", b'[{"vvv-mark": ')
    server.post("/groups", b"\x1f\x8bvvv-mark")
    server.request("GET", f"/nowhere/{marks['query']}?a={marks['value']}")
    server.request("GET", "/api/query/engage?project_id=1&where=vvv-mark", headers=server.authorization())
    server.request(
        "GET", f"/api/query/engage?distinct_id={marks['id']}", headers={"Authorization": "Basic ttt-mark"}
    )
    server.post("/record", b"vvv-mark")
    assert server.profiles().keys() == {marks["id"]}
    assert server.stop() == 0
    log = server.log_text()
    assert [mark for mark in marks.values() if mark in log] == []
    for secret in (server.secret, *server.account[1:]):
        assert secret not in log
    assert all(json.loads(line)["event"] for line in log.splitlines() if line.startswith("{"))
