"""`/livez`, `/readyz`, `/metrics`, the internal port and TLS: what machines and networks see of a server."""

import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from mixdown.http.health import asked_from_here
from mixdown.http.metrics import CHILD_LIMIT, METRICS, Metrics, reason_of
from mixdown.model import texts
from mixdown.store.chunk import Outcome
from tests import engine
from tests.operations.support import Wire, child, wait_until
from tests.serving import (
    TOKEN,
    Certificate,
    Server,
    StartServer,
    certificate,
    server,
    start_module_server,
    start_server,
)

__all__ = ["certificate", "server", "start_module_server", "start_server"]

OPERATIONS_PAGE = Path(__file__).parent.parent.parent / "docs" / "operations.md"


def metrics(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of `/metrics` by its name and labels."""
    reply = server.request("GET", "/metrics")
    assert reply.status == 200
    assert reply.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(reply.body.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def sample(server: Server, name: str, **labels: str) -> float:
    return metrics(server).get((name, frozenset(labels.items())), 0.0)


def test_a_new_server_lives_and_is_ready(server: Server) -> None:
    for path in ("/livez", "/readyz", "/livez/", "//readyz"):
        reply = server.request("GET", path)
        assert (reply.status, reply.json()["status"]) == (200, "ok"), path


def test_a_server_short_of_disk_lives_but_is_not_ready_and_says_why(start_server: StartServer) -> None:
    server = start_server(arguments=["--disk-reserve-bytes", str(10**15)])
    assert server.request("GET", "/livez").status == 200
    reply = server.request("GET", "/readyz")
    assert reply.status == 503
    assert reply.json() == {"status": "unavailable", "reasons": [texts.OVERLOADED_DISK]}
    assert reply.header("retry-after") is None
    written = server.post("/engage", [{"$token": TOKEN, "$distinct_id": "a", "$set": {}}])
    assert written.status == 503
    assert written.header("retry-after") is not None


def test_metrics_count_what_happened(start_server: StartServer) -> None:
    server = start_server()
    good = [{"$token": TOKEN, "$distinct_id": str(number), "$set": {"x": 1}} for number in range(5)]
    bad = [{"$token": "nobody", "$distinct_id": "a", "$set": {}}, {"$token": TOKEN, "$set": {}}]
    assert server.post("/engage", [*good, *bad]).body == b"1"
    assert server.post("/groups", [{"$token": TOKEN}]).body == b"0"
    assert server.post("/record/", b"r" * 1000).status == 200
    assert len(server.profiles()) == 5
    assert sample(server, "mixdown_requests_total", endpoint="/engage", status="200") == 1
    assert sample(server, "mixdown_records_total", endpoint="engage", outcome="stored") == 5
    assert sample(server, "mixdown_records_total", endpoint="engage", outcome="refused") == 2
    assert sample(server, "mixdown_records_total", endpoint="groups", outcome="refused") == 1
    assert sample(server, "mixdown_refusals_total", reason="token_unknown") == 1
    assert sample(server, "mixdown_refusals_total", reason="distinct_id_missing") == 1
    assert sample(server, "mixdown_auxiliary_discarded_total", path="/record") == 1
    assert sample(server, "mixdown_auxiliary_discarded_bytes_total", path="/record") == 1000
    # what no project has goes to a partition of its own
    assert sample(server, "mixdown_commit_seconds_count") == (3 if engine.ON_POSTGRES else 2)
    assert sample(server, "mixdown_commit_records_sum") == 5
    assert sample(server, "mixdown_folded_records_total") == 5
    assert sample(server, "mixdown_log_head") == 5
    assert sample(server, "mixdown_fold_behind_records") == 0
    assert sample(server, "mixdown_log_bytes") > 100


def test_counts_of_a_worker_that_died_are_kept_and_go_on(start_server: StartServer) -> None:
    server = start_server(workers=2)
    record = [{"$token": TOKEN, "$distinct_id": "a", "$set": {"x": 1}}]
    for _ in range(20):
        assert server.post("/engage", record).body == b"1"
    before = len(list((server.data_dir / "metrics").iterdir()))
    for _ in range(2):
        victim = next(pid for pid in _workers(server))
        subprocess.run(["kill", "-9", str(victim)], check=True)
        wait_until(lambda: len(_workers(server)) == 2)
    for _ in range(20):
        assert server.post("/engage", record).body == b"1"
    assert sample(server, "mixdown_records_total", endpoint="engage", outcome="stored") == 40
    assert len(list((server.data_dir / "metrics").iterdir())) <= before + 2, "no file for each death"


def test_the_health_of_a_server_tells_of_each_of_its_processes(server: Server) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("what processes take is read from /proc")
    told = server.request("GET", "/api/mixdown/health", headers=server.authorization()).json()["results"]
    processes = {one["process"]: one for one in told["processes"]}
    assert processes.keys() == {"supervisor", "fold", "events", "worker-0"}
    assert processes["supervisor"]["pid"] == server.pid
    assert processes["worker-0"]["pid"] in _workers(server)
    assert all(
        one["up"] and one["memory_bytes"] > 10_000_000 and one["started"] for one in processes.values()
    )
    checks = {check["check"]: check for check in told["checks"]}
    assert checks["processes"]["message"].startswith("All 4 processes run")


def _workers(server: Server) -> list[int]:
    from tests.operations.support import children

    return [pid for pid, command in children(server.pid).items() if "child worker" in command]


def test_a_fold_that_stands_still_shows_in_the_metrics(server: Server) -> None:
    subprocess.run(["kill", "-STOP", str(child(server.pid, "fold"))], check=True)
    assert server.post("/engage", [{"$token": TOKEN, "$distinct_id": "a", "$set": {}}]).body == b"1"
    assert sample(server, "mixdown_fold_behind_records") == 1
    assert server.request("GET", "/readyz").status == 200
    subprocess.run(["kill", "-CONT", str(child(server.pid, "fold"))], check=True)
    wait_until(lambda: sample(server, "mixdown_fold_behind_records") == 0)


def test_every_metric_is_documented_and_shown(server: Server) -> None:
    page = OPERATIONS_PAGE.read_text(encoding="utf-8")
    shown = server.request("GET", "/metrics").body.decode()
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
        assert f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |" in page
        if not metric.labels or metric.name == "mixdown_build_info":
            assert f"# TYPE {metric.name} {metric.kind}" in shown
    documented = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `mixdown_")]
    assert documented == [metric.name for metric in METRICS]
    for family in text_string_to_metric_families(shown):
        names = {family.name, f"{family.name}_total"}
        assert names & {metric.name for metric in METRICS}, family.name


def request_from(client: tuple[str, int] | None, *headers: tuple[bytes, bytes]) -> Request:
    return Request(
        {"type": "http", "method": "GET", "path": "/metrics", "headers": list(headers), "client": client}
    )


@pytest.mark.parametrize(
    ("host", "header", "local"),
    [
        ("127.0.0.1", None, True),
        ("127.8.8.8", None, True),
        ("::1", None, True),
        ("::ffff:127.0.0.1", None, True),
        ("192.0.2.1", None, False),
        ("2001:db8::1", None, False),
        ("::ffff:192.0.2.1", None, False),
        ("unix", None, False),
        ("127.0.0.1", (b"x-forwarded-for", b"127.0.0.1"), False),
        ("127.0.0.1", (b"forwarded", b"for=192.0.2.1"), False),
        ("127.0.0.1", (b"x-real-ip", b"192.0.2.1"), False),
    ],
)
def test_only_this_machine_itself_sees_metrics_without_an_account(
    host: str, header: tuple[bytes, bytes] | None, local: bool
) -> None:
    assert asked_from_here(request_from((host, 1), *([header] if header else []))) is local


def test_metrics_asked_through_a_proxy_want_an_account(server: Server) -> None:
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    refused = server.request("GET", "/metrics", headers=forwarded)
    assert refused.status == 401
    assert b"mixdown_" not in refused.body
    assert server.request("GET", "/metrics", headers={**forwarded, **server.authorization()}).status == 200


def test_label_values_stay_few_whatever_happens() -> None:
    counted = Metrics()
    for number in range(3 * CHILD_LIMIT):
        counted.request(f"/{number}", 200, 0.001)
    (family,) = (family for family in counted.registry.collect() if family.name == "mixdown_requests")
    totals = {s.labels["endpoint"]: s.value for s in family.samples if s.name == "mixdown_requests_total"}
    assert len(totals) == CHILD_LIMIT + 1
    assert totals["other"] == 2 * CHILD_LIMIT


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (texts.TOKEN_UNKNOWN, "token_unknown"),
        (texts.NOT_AN_OBJECT.format(field="$set"), "not_an_object"),
        (texts.STRICT_NUMBER.format(field="$add.secret name"), "strict_number"),
        (texts.BODY_TOO_LARGE.format(limit=10), "body_too_large"),
        ("something else", "other"),
    ],
)
def test_a_reason_is_the_name_of_an_error_text_and_quotes_nothing(message: str, reason: str) -> None:
    assert reason_of(message) == reason
    counted = Metrics()
    counted.records("engage", Outcome(1, 0, ((0, "$add", message),)))
    labels = [s.labels for family in counted.registry.collect() for s in family.samples]
    assert {"reason": reason} in labels


# --- the internal port


@pytest.fixture
def divided(start_server: StartServer) -> tuple[Server, str]:
    """A server with an internal port, and the internal address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = start_server(arguments=["--internal-port", str(port)])
    return server, f"http://127.0.0.1:{port}"


def test_the_public_port_takes_records_and_the_internal_port_answers_the_rest(
    divided: tuple[Server, str],
) -> None:
    server, internal = divided
    public = server.base_url
    record = [{"$token": TOKEN, "$distinct_id": "a", "$set": {"x": 1}}]
    assert server.post("/engage", record).body == b"1"
    assert [server.get(path).status for path in ("/livez", "/readyz", "/flags")] == [200, 200, 200]
    hidden = ["/metrics", "/api/query/engage", "/api/mixdown/refusals", "/static/app.css"]
    assert {path: server.get(path).status for path in hidden} == dict.fromkeys(hidden, 404) | {hidden[1]: 400}
    browser = server.request("GET", "/", headers={"Accept": "text/html"})
    assert b"Welcome" in browser.body
    server.base_url = internal
    assert server.profiles().keys() == {"a"}
    assert server.get("/metrics").status == 200
    assert server.get("/livez").status == 200
    assert server.request("GET", "/", headers={"Accept": "text/html"}).body.startswith(b"<!")
    assert server.post("/engage", record).status == 404
    server.base_url = public
    assert internal in server.log_text()


def test_a_taken_internal_port_is_told(tmp_path: Path) -> None:
    from tests.operations.support import failed_start

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        lines = failed_start("--port", "0", "--internal-port", port, "--data-dir", str(tmp_path / "data"))
    assert f"port {port} of 127.0.0.1 is taken" in lines[0]


# --- TLS


@pytest.fixture(scope="module")
def encrypted(start_module_server: StartServer, certificate: Certificate) -> Server:
    """A server with a certificate."""
    return start_module_server(certificate=certificate, arguments=["--header-timeout-s", "1"])


def test_with_a_certificate_the_server_speaks_https_alone(encrypted: Server) -> None:
    assert encrypted.base_url.startswith("https://127.0.0.1:")
    assert encrypted.post("/engage", [{"$token": TOKEN, "$distinct_id": "a", "$set": {"x": 1}}]).body == b"1"
    assert encrypted.profiles()["a"]["x"] == 1
    address = urlsplit(encrypted.base_url)
    assert address.hostname is not None
    assert address.port is not None
    with socket.create_connection((address.hostname, address.port), timeout=60) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"HTTP/1.1 200" not in plain.recv(4096)


def test_a_handshake_that_does_not_come_is_cut(encrypted: Server) -> None:
    with Wire(encrypted.base_url) as silent:
        assert silent.read_to_end() == b""
        assert 0.9 < silent.age_s < 9


@pytest.mark.parametrize(("version", "spoken"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_tls_older_than_1_2_is_not_spoken(
    encrypted: Server, certificate: Certificate, version: str, spoken: bool
) -> None:
    address = urlsplit(encrypted.base_url)
    # A process of its own: Python warns about old versions, and the tests take warnings for errors.
    script = f"""
import socket, ssl, warnings
warnings.simplefilter("ignore")
context = ssl.create_default_context(cafile={str(certificate.certificate_file)!r})
context.minimum_version = context.maximum_version = ssl.TLSVersion.{version}
context.set_ciphers("ALL:@SECLEVEL=0")
with socket.create_connection(({address.hostname!r}, {address.port})) as plain:
    with context.wrap_socket(plain, server_hostname={address.hostname!r}) as tls:
        print(tls.version())
"""
    asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (asked.returncode == 0) is spoken, asked.stderr


def test_the_python_sdk_writes_over_tls_by_its_host_option(
    encrypted: Server, certificate: Certificate
) -> None:
    script = f"""
from mixpanel import Consumer, Mixpanel
consumer = Consumer(api_host={urlsplit(encrypted.base_url).netloc!r})
Mixpanel({TOKEN!r}, consumer=consumer).people_set("ada", {{"plan": "free"}})
"""
    environment = {**encrypted.environment, "REQUESTS_CA_BUNDLE": str(certificate.certificate_file)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
    assert encrypted.profiles()["ada"]["plan"] == "free"
