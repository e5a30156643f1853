"""`/metrics` in the small: names and units, counting in shared files, and what each gauge tells."""

import contextlib
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.utils import floatToGoString

from mixdown.http.exposition import Seen, exposition, key_window_s
from mixdown.http.metrics import METRICS, FoldMetrics, Metric, Metrics, SupervisorMetrics
from mixdown.http.tally import Counters, Histograms, count_as
from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.settings import Settings
from mixdown.store import bounds
from mixdown.store.chunk import Outcome
from mixdown.store.memory import MemoryStore
from tests.engine import ON_POSTGRES
from tests.operations.support import Wire, child, statuses, wait_until
from tests.operations.test_health import metrics, sample
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
from tests.store.support import append, appending

pytestmark = pytest.mark.slow

__all__ = ["certificate", "server", "start_module_server", "start_server"]

NOW_MS = 1_768_478_400_000
BASE_UNITS = ("seconds", "bytes", "records", "requests", "info", "ratio")
WRONG_UNITS = ("milliseconds", "_ms", "minutes", "hours", "kilobytes", "megabytes", "percent", "count")


# --- names (https://prometheus.io/docs/practices/naming/)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_and_told_as_prometheus_recommends(metric: Metric) -> None:
    assert re.fullmatch(r"mixdown(_[a-z]+)+", metric.name)
    assert (metric.kind == "counter") is metric.name.endswith("_total")
    assert not [wrong for wrong in WRONG_UNITS if metric.name.removesuffix("_total").endswith(wrong)]
    assert not re.search(r"_(counter|gauge|histogram|summary|bucket|sum|created)(_|$)", metric.name)
    if metric.kind == "histogram":
        assert metric.name.endswith(BASE_UNITS)
        assert list(metric.buckets) == sorted(set(metric.buckets))
    assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)
    assert not {"le", "quantile", "job", "instance", metric.kind} & set(metric.labels)
    assert metric.help[0].isupper() or metric.help[0].isdigit()
    assert metric.help.endswith(".")


def test_no_metric_is_declared_twice() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS) > 35


def test_promtool_finds_nothing_to_say_about_the_answer(server: Server) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool (of the system's package prometheus) is not installed")
    everything_counted(server)
    shown = server.request("GET", "/metrics").body
    checked = subprocess.run(["promtool", "check", "metrics"], input=shown, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def everything_counted(server: Server) -> None:
    """Some of everything that a client can do."""
    good = {"$token": TOKEN, "$distinct_id": "a", "$set": {"x": 1}}
    for headers in ({}, {"Idempotency-Key": "one"}, {"Idempotency-Key": "one"}):
        assert server.post("/engage", [good], headers).status == 200
    assert server.post("/groups", [{"$token": "nobody"}]).status == 200
    assert server.post("/record", b"r").status == 200
    assert server.request("GET", "/nowhere").status == 404
    assert len(server.profiles()) >= 1


# --- counting in shared files


def shown_of(folder: Path) -> str:
    """What all processes that count in a folder show together."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return generate_latest(registry).decode()


@pytest.fixture
def count_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Count in a slot's files of the test's folder; how this process counts is put back at the end."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    with contextlib.ExitStack() as stack:

        def count(slot: str) -> None:
            stack.callback(count_as(slot, tmp_path))

        yield count


def test_what_processes_count_adds_up_and_one_that_starts_again_goes_on(
    tmp_path: Path, count_in_files: Callable[[str], None]
) -> None:
    for slot, records in (("worker-0", 5), ("worker-1", 7), ("worker-0", 1)):
        count_in_files(slot)
        counted = Metrics()
        counted.records("engage", Outcome(records, records))
        counted.request("/engage", 200, 0.004)
        counted.committed(requests=2, records=records, seconds=0.2)
    shown = shown_of(tmp_path)
    assert 'mixdown_records_total{endpoint="engage",outcome="stored"} 13.0' in shown
    assert 'mixdown_requests_total{endpoint="/engage",status="200"} 3.0' in shown
    assert 'mixdown_request_seconds_bucket{endpoint="/engage",le="0.0025"} 0.0' in shown
    assert 'mixdown_request_seconds_bucket{endpoint="/engage",le="0.005"} 3.0' in shown
    assert 'mixdown_request_seconds_bucket{endpoint="/engage",le="+Inf"} 3.0' in shown
    assert "mixdown_commit_requests_sum 6.0" in shown


def test_connections_add_up_over_workers_and_the_later_start_counts(
    tmp_path: Path, count_in_files: Callable[[str], None]
) -> None:
    for slot, connections in (("worker-0", 5), ("worker-1", 7)):
        count_in_files(slot)
        Metrics().connections(connections)
    count_in_files("supervisor")
    family = SupervisorMetrics()
    family.started("fold", 100.0)
    family.ended("fold")
    assert 'mixdown_process_up{process="fold"} 0.0' in shown_of(tmp_path)
    family.started("fold", 200.0)
    shown = shown_of(tmp_path)
    assert "mixdown_connections_open 12.0" in shown
    assert 'mixdown_process_up{process="fold"} 1.0' in shown
    assert 'mixdown_process_start_time_seconds{process="fold"} 200.0' in shown
    assert 'mixdown_process_restarts_total{process="fold"} 1.0' in shown


def test_counts_stay_right_while_their_file_grows(
    tmp_path: Path, count_in_files: Callable[[str], None]
) -> None:
    count_in_files("worker-0")
    counters = Counters(Metric("grown_total", "counter", "Grows.", ("number",)), CollectorRegistry())
    label = "x" * 1000
    for number in range(300):  # a file begins with 64 KiB
        counters.add((f"{label}{number}",))
    counters.add((f"{label}0",), 4)
    assert (tmp_path / "counter_worker-0.db").stat().st_size > 5 * 65536
    shown = shown_of(tmp_path)
    assert f'grown_total{{number="{label}0"}} 5.0' in shown
    assert shown.count("} 1.0\n") == 299


@pytest.mark.parametrize("amount", [0, 0.5, 1, 1.5, 2, 5, 6, 1e9])
def test_an_observation_is_in_every_bucket_whose_bound_it_does_not_exceed(amount: float) -> None:
    registry = CollectorRegistry()
    Histograms(Metric("h_seconds", "histogram", "H.", (), (1, 2, 5)), registry).observe((), amount)
    shown = generate_latest(registry).decode()
    for bound, text in ((1, "1.0"), (2, "2.0"), (5, "5.0"), (float("inf"), "+Inf")):
        assert f'h_seconds_bucket{{le="{text}"}} {float(amount <= bound)}' in shown
    assert f"h_seconds_sum {floatToGoString(amount)}" in shown  # type: ignore[no-untyped-call]


def test_recognised_records_are_told_apart_by_what_carried_the_key() -> None:
    fold = FoldMetrics()
    fold.folded(records=10, profiles=3, recognised=7, recognised_by_request=5, failed=1, seconds=0.1)
    shown = generate_latest(fold.registry).decode()
    assert 'mixdown_fold_recognised_retries_total{kind="record"} 2.0' in shown
    assert 'mixdown_fold_recognised_retries_total{kind="request"} 5.0' in shown
    assert "mixdown_folded_profiles_total 3.0" in shown
    assert "mixdown_fold_records_sum 10.0" in shown


# --- gauges of the store


def gauges(store: MemoryStore, now_ms: int = NOW_MS, **settings: object) -> dict[str, float]:
    """The samples of an exposition that have no labels."""
    seen = Seen(store=store, settings=Settings(**settings), now_ms=now_ms, ready=True)  # type: ignore[arg-type]
    lines = exposition(CollectorRegistry(), None, seen).decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.partition(" ") for line in lines if line[0] != "#")
    }


def test_the_lag_of_the_fold_is_told_in_records_bytes_and_seconds() -> None:
    store = MemoryStore()
    assert gauges(store)["mixdown_fold_behind_seconds"] == 0
    append(store.log, appending("a", "b"), now_ms=NOW_MS - 5000)
    append(store.log, appending("c", "d"), now_ms=NOW_MS - 3000)
    behind = gauges(store)
    assert behind["mixdown_fold_behind_records"] == 4
    assert behind["mixdown_fold_behind_seconds"] == 5
    assert behind["mixdown_fold_behind_bytes"] == store.log.size_bytes() == behind["mixdown_log_bytes"]
    assert behind["mixdown_backlog_limit_records"] == Settings().backlog_limit_records


def test_a_clock_that_was_set_back_shows_how_far_the_log_is_ahead_of_it() -> None:
    store = MemoryStore()
    append(store.log, appending("a"), now_ms=NOW_MS)
    assert gauges(store, now_ms=NOW_MS + 10)["mixdown_log_clock_ahead_seconds"] == 0
    assert gauges(store, now_ms=NOW_MS - 90_000)["mixdown_log_clock_ahead_seconds"] == 90
    assert gauges(store, now_ms=NOW_MS - 90_000)["mixdown_fold_behind_seconds"] == 0


DAY_S = 86_400
FEW = bounds.KEYS_HELD // 2


@pytest.mark.parametrize(
    ("held", "age_s", "window_s"),
    [
        (0, 0, 7 * DAY_S),
        (1, 60, 7 * DAY_S),  # a young server has forgotten nothing
        (FEW, 2 * DAY_S, 7 * DAY_S),
        (bounds.KEYS_HELD, 2 * DAY_S, 2 * DAY_S),
        (bounds.KEYS_HELD, 8 * DAY_S, 7 * DAY_S),
        (bounds.KEYS_HELD, -60, 0),  # the clock was set back
    ],
)
def test_the_window_in_force_is_seven_days_or_what_fifty_million_keys_reach(
    held: int, age_s: int, window_s: int
) -> None:
    assert KEY_WINDOW_MS == 7 * DAY_S * 1000
    assert key_window_s(held, NOW_MS - 1000 * age_s, NOW_MS) == window_s


# --- of a running server


def test_a_running_server_tells_of_its_files_disk_processes_and_connections(
    start_server: StartServer,
) -> None:
    server = start_server()
    everything_counted(server)
    shown = metrics(server)
    for process in ("supervisor", "worker-0", "fold"):
        assert shown["mixdown_process_up", frozenset({("process", process)})] == 1
    if not ON_POSTGRES:  # it has no files
        for file in ("log.db", "state.db", "catalog.db", "scratch.db"):
            assert shown["mixdown_database_bytes", frozenset({("file", file)})] >= 0
        assert shown["mixdown_wal_bytes", frozenset({("file", "log.db")})] > 0
    assert sample(server, "mixdown_disk_free_bytes") > sample(server, "mixdown_disk_reserve_bytes") > 0
    assert sample(server, "mixdown_ready") == 1
    assert sample(server, "mixdown_log_damaged_chunks") == 0
    with Wire(server.base_url), Wire(server.base_url):
        wait_until(lambda: sample(server, "mixdown_connections_open") >= 3)
    assert sample(server, "mixdown_recognised_requests_total", kind="key") == 1
    assert sample(server, "mixdown_request_seconds_count", endpoint="/engage") == 3
    assert sample(server, "mixdown_request_records_sum", endpoint="engage") == 3


def test_a_server_short_of_disk_shows_that_it_is_not_ready(start_server: StartServer) -> None:
    short = start_server(arguments=["--disk-reserve-bytes", str(10**15)])
    assert sample(short, "mixdown_ready") == 0
    assert sample(short, "mixdown_disk_reserve_bytes") == 10**15


def test_what_the_protocol_refuses_is_counted_by_status(start_server: StartServer) -> None:
    server = start_server(arguments=["--header-limit-bytes", "2048", "--connection-limit", "2"])
    for request, status in (
        (b"this is no HTTP\r\n\r\n", 400),
        (b"GET /" + b"x" * 4000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 4000 + b"\r\n\r\n", 431),
    ):
        with Wire(server.base_url) as wire:
            wire.send(request)
            assert statuses(wire.read_to_end()) == [status]
    for counted in ("400", "414", "431"):
        assert sample(server, "mixdown_protocol_refusals_total", status=counted) == 1, counted
    with Wire(server.base_url), Wire(server.base_url), Wire(server.base_url) as third:
        third.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert statuses(third.read_to_end()) == [503]
    wait_until(lambda: server.request("GET", "/livez").status == 200)
    wait_until(lambda: server.request("GET", "/metrics").status == 200)
    assert sample(server, "mixdown_protocol_refusals_total", status="503") >= 1


def test_a_child_that_dies_is_seen_to_be_down_and_counted_when_it_is_up_again(
    start_server: StartServer,
) -> None:
    server = start_server()
    labels = {"process": "fold"}
    began = sample(server, "mixdown_process_start_time_seconds", **labels)
    assert sample(server, "mixdown_process_restarts_total", **labels) == 0
    subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(child(server.pid, "fold"))], check=True)
    wait_until(lambda: sample(server, "mixdown_process_restarts_total", **labels) == 1)
    assert sample(server, "mixdown_process_up", **labels) == 1
    assert sample(server, "mixdown_process_start_time_seconds", **labels) > began


def test_the_end_of_the_certificate_in_use_is_shown(
    start_server: StartServer, certificate: Certificate
) -> None:
    server = start_server(certificate=certificate)
    ends = ["openssl", "x509", "-in", str(certificate.certificate_file), "-noout", "-enddate"]
    told = subprocess.run(ends, capture_output=True, text=True, check=True).stdout
    wanted = ssl.cert_time_to_seconds(told.strip().partition("=")[2])
    assert sample(server, "mixdown_tls_certificate_expiry_timestamp_seconds") == wanted
