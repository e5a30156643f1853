"""Traces: real OTLP over HTTP to a receiver on this machine; off, absent, slow and down."""

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mixdown.server import telemetry
from tests.operations.support import wait_until
from tests.serving import TOKEN, Server, StartServer, start_server

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

__all__ = ["start_server"]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
Span = dict[str, Any]


class Collector:
    """An OTLP/HTTP receiver; `delay_s` makes it slow, `status` makes it refuse."""

    def __init__(self, *, status: int = 200, delay_s: float = 0) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(delay_s)
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                collector.bodies.append(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that went away
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def variables(self) -> dict[str, str]:
        """What makes a server send its traces here, soon."""
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def spans(self) -> list[Span]:
        """What has come, as plain values."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        own = {
                            each.key: each.value.string_value or each.value.int_value
                            for each in span.attributes
                        }
                        found.append(
                            {
                                "name": span.name, "trace": span.trace_id.hex(), "kind": span.kind,
                                "parent": span.parent_span_id.hex(), "status": span.status.code,
                                "ns": span.end_time_unix_nano - span.start_time_unix_nano, **own, **about,
                            }
                        )  # fmt: skip
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collecting() -> Iterator[Callable[..., Collector]]:
    """Start collectors; all are ended with the test."""
    started: list[Collector] = []

    def start(**options: Any) -> Collector:
        started.append(Collector(**options))
        return started[-1]

    yield start
    for collector in started:
        collector.close()


def write(server: Server, count: int = 1, headers: dict[str, str] | None = None) -> None:
    records = [{"$token": TOKEN, "$distinct_id": f"u{n}", "$set": {"secret-name": 1}} for n in range(count)]
    assert server.post("/engage", [*records, {"$token": "nobody-knows"}], headers).body == b"1"


def test_requests_commits_and_folds_become_spans_of_the_callers_trace_or_their_own(
    start_server: StartServer, collecting: Callable[..., Collector]
) -> None:
    collector = collecting()
    server = start_server(environment=collector.variables)
    write(server, 3, {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert len(server.profiles()) == 3
    assert server.request("GET", "/no/such/path").status == 404
    wanted = {"POST /engage", "GET /api/query/engage", "GET other", "commit", "fold"}

    def told() -> dict[str, Any]:
        """The newest of each name; a record of no project is committed apart where partitions are many."""
        return {span["name"]: span for span in collector.spans() if span.get("mixdown.records") != 0}

    wait_until(lambda: wanted <= told().keys())
    spans = told()
    request = spans["POST /engage"]
    assert (request["trace"], request["parent"], request["kind"]) == (TRACE, PARENT, 2)
    assert (request["http.route"], request["http.response.status_code"]) == ("/engage", 200)
    assert (request["mixdown.records"], request["mixdown.refused"]) == (4, 1)
    assert request["service.name"] == "mixdown"
    assert request["mixdown.process"] == "worker-0"
    assert spans["GET /api/query/engage"]["trace"] != TRACE
    assert (spans["commit"]["mixdown.records"], spans["commit"]["mixdown.requests"]) == (3, 1)
    assert (spans["fold"]["mixdown.records"], spans["fold"]["mixdown.profiles"]) == (3, 3)
    assert spans["fold"]["mixdown.process"] == "fold"
    assert all(0 < span["ns"] < 10e9 for span in spans.values())
    everything = b"".join(collector.bodies)
    for secret in (b"nobody-knows", TOKEN.encode(), b"secret-name", b"no/such/path", b"127.0.0.1"):
        assert secret not in everything


def test_spans_that_wait_are_sent_when_the_server_stops(
    start_server: StartServer, collecting: Callable[..., Collector]
) -> None:
    collector = collecting()
    variables = {**collector.variables, "OTEL_BSP_SCHEDULE_DELAY": "600000", "OTEL_SERVICE_NAME": "shop"}
    server = start_server(environment=variables)
    write(server)
    assert server.stop() == 0
    spans = collector.spans()
    assert {"POST /engage", "commit", "fold"} <= {span["name"] for span in spans}
    assert {span["service.name"] for span in spans} == {"shop"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slow", "refusing", "down"])
def test_a_collector_that_is_slow_or_down_costs_spans_and_one_line(
    start_server: StartServer, collecting: Callable[..., Collector], kind: str
) -> None:
    collector = collecting(delay_s=30 if kind == "slow" else 0, status=400 if kind == "refusing" else 200)
    if kind == "down":
        collector.close()
    variables = {**collector.variables, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    server = start_server(environment=variables)
    began = time.monotonic()
    for _ in range(100):
        write(server)
    assert time.monotonic() - began < 60
    line = "the collector does not take traces"
    wait_until(lambda: server.log_text().count(line) >= 2)  # one of each process
    time.sleep(1.5)
    assert server.log_text().count(line) == 2
    assert "Traceback" not in server.log_text()
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 30


LOADED = """
import os, sys
from mixdown.server import telemetry, worker, folding, supervisor
assert telemetry.begin("worker-0", os.environ) is None
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_imported_unless_traces_are_asked_for(variables: dict[str, str]) -> None:
    assert not telemetry.is_wanted(variables)
    asked = subprocess.run(
        [sys.executable, "-c", LOADED], env=variables, capture_output=True, text=True, check=True
    )
    assert asked.stdout.strip() == "[]"


def test_the_address_of_traces_alone_is_enough() -> None:
    assert telemetry.is_wanted({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"})
    assert telemetry.is_wanted(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "console,otlp"}
    )


HIDING = """
import sys
from importlib.abc import MetaPathFinder
class Hide(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
"""


def test_a_missing_extra_is_told_once_with_what_to_install(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(HIDING)
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "PYTHONPATH": str(tmp_path / "hide"),
    }
    server = start_server(environment=variables)
    write(server)
    assert server.log_text().count("pip install 'mixdown[otel]'") == 1
    assert server.log_text().count("traces are sent by http/protobuf alone") == 1
