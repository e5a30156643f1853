"""Processes: what dies comes back, SIGTERM drains, and nothing outlives the supervisor."""

import contextlib
import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.engine import of_a_folder, open_store
from tests.operations.support import Wire, child, children, is_alive, statuses, wait_until
from tests.serving import TOKEN, Server, StartServer, server, start_module_server, start_server

pytestmark = pytest.mark.slow

__all__ = ["server", "start_module_server", "start_server"]


def send(server: Server, *ids: str) -> bytes:
    records = [{"$token": TOKEN, "$distinct_id": own, "$set": {"x": 1}} for own in ids]
    return server.post("/engage", records).body


def log_lines(server: Server) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]


def answers(server: Server) -> bool:
    try:
        return server.get("/livez").status == 200
    except OSError:
        return False


def test_a_killed_worker_comes_back_and_the_service_goes_on(server: Server) -> None:
    assert send(server, "before") == b"1"
    killed = child(server.pid, "worker")
    os.kill(killed, signal.SIGKILL)
    # The supervisor holds the socket: connections queue up meanwhile, and none is refused.
    assert send(server, "after") == b"1"
    assert server.profiles().keys() >= {"before", "after"}
    assert child(server.pid, "worker") != killed
    (died,) = [line for line in log_lines(server) if "died" in str(line["event"])]
    assert (died["child"], died["child_pid"], died["status"]) == ("worker-0", killed, -9)


def test_a_killed_fold_comes_back_and_folds_what_was_stored_meanwhile(server: Server) -> None:
    killed = child(server.pid, "fold")
    os.kill(killed, signal.SIGSTOP)
    assert send(server, "a", "b") == b"1"
    behind = server.request(
        "GET", "/api/query/engage?project_id=1", headers={**server.authorization(), "X-Mixdown-Wait": "0"}
    )
    assert behind.header("X-Mixdown-Behind") == "2"
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: server.profiles().keys() >= {"a", "b"})
    assert child(server.pid, "fold") != killed


def exported(server: Server) -> list[str]:
    """Whose events the raw export has."""
    today = datetime.now(UTC).date()
    days = f"from_date={today - timedelta(days=1)}&to_date={today}"
    reply = server.request(
        "GET", f"/api/2.0/export?project_id={server.project_id}&{days}", headers=server.authorization()
    )
    assert reply.status == 200, reply.body
    return [json.loads(line)["properties"]["distinct_id"] for line in reply.body.splitlines()]


def test_a_killed_events_reader_comes_back_and_takes_what_was_stored_meanwhile(server: Server) -> None:
    killed = child(server.pid, "events")
    os.kill(killed, signal.SIGSTOP)
    event = {"event": "seen", "properties": {"token": TOKEN, "distinct_id": "meanwhile"}}
    assert server.post("/track", [event]).body == b"1"
    status = server.get("/api/mixdown/status").json()["results"]
    assert status["events_watermark"] < status["head"]
    assert status["behind"] >= 1
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: exported(server) == ["meanwhile"])
    assert child(server.pid, "events") != killed
    assert server.get("/api/mixdown/status").json()["results"]["behind"] == 0


def test_a_process_that_dies_again_and_again_is_started_with_growing_pauses(
    start_server: StartServer,
) -> None:
    server = start_server()
    for _ in range(3):
        os.kill(child(server.pid, "fold"), signal.SIGKILL)
        wait_until(lambda: not any("child fold" in command for command in children(server.pid).values()))
    child(server.pid, "fold")
    pauses = [line["pause_ms"] for line in log_lines(server) if line.get("child") == "fold"]
    assert pauses == [100, 200, 400]


def test_each_worker_of_several_is_replaced(start_server: StartServer) -> None:
    server = start_server(workers=2)
    workers = {pid for pid, command in children(server.pid).items() if "child worker" in command}
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: answers(server))
    assert send(server, "a") == b"1"

    def replaced() -> bool:
        living = {pid for pid, command in children(server.pid).items() if "child worker" in command}
        return len(living) == 2 and not living & workers

    wait_until(replaced)


def test_sigterm_answers_the_request_in_flight_and_folds_it(start_server: StartServer) -> None:
    server = start_server()
    body = json.dumps([{"$token": TOKEN, "$distinct_id": "late", "$set": {"x": 1}}]).encode()
    head = b"POST /engage HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with Wire(server.base_url) as idle, Wire(server.base_url) as wire:
        idle.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        idle.read_until(b'{"status":"ok"}')
        wire.send(head % len(body), body[:10])
        time.sleep(0.2)  # the worker has the request by now
        server.process.send_signal(signal.SIGTERM)
        assert idle.read_to_end() == b"", "an idle connection is closed at once"
        assert server.process.poll() is None
        with pytest.raises(ConnectionRefusedError):  # and not left waiting to be cut off
            Wire(server.base_url)
        wire.send(body[10:])
        answer = wire.read_to_end()
    assert statuses(answer) == [200]
    assert answer.endswith(b"\r\n\r\n1")
    assert b"connection: close" in answer
    assert server.process.wait(60) == 0
    assert not (server.data_dir / "server.json").exists()
    assert start_server(server.data_dir).profiles().keys() == {"late"}


def test_after_a_drain_everything_that_was_acknowledged_is_folded(start_server: StartServer) -> None:
    server = start_server()
    os.kill(child(server.pid, "fold"), signal.SIGSTOP)
    assert send(server, *map(str, range(500))) == b"1"
    fold = child(server.pid, "fold")
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not any("child worker" in command for command in children(server.pid).values()))
    os.kill(fold, signal.SIGCONT)
    assert server.process.wait(60) == 0
    with contextlib.closing(open_store(server.data_dir, role="worker", create=False)) as store:
        assert store.state.count(1, "") == 500


def test_a_request_that_does_not_end_holds_the_drain_only_so_long(start_server: StartServer) -> None:
    server = start_server(arguments=["--shutdown-timeout-s", "1"])
    with Wire(server.base_url) as wire:
        wire.send(b"POST /engage HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n[")
        time.sleep(0.2)
        began = time.monotonic()
        assert server.stop() == 0
    assert time.monotonic() - began < 40, "far below the 60 s that a body may take"


def test_a_second_signal_ends_at_once(start_server: StartServer) -> None:
    server = start_server(arguments=["--shutdown-timeout-s", "60"])
    family = [server.pid, *children(server.pid)]
    with Wire(server.base_url) as wire:
        wire.send(b"POST /engage HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n[")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping" in server.log_text())
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 1
    assert time.monotonic() - began < 40, "far below the 60 s that a drain may take"
    assert not [pid for pid in family if is_alive(pid)]


def test_children_of_a_killed_supervisor_end_within_a_second_and_the_folder_is_free(
    start_server: StartServer,
) -> None:
    server = start_server(workers=2)
    assert send(server, "kept") == b"1"
    orphans = list(children(server.pid))
    assert len(orphans) == 4
    server.kill()
    began = time.monotonic()
    wait_until(lambda: not any(is_alive(pid) for pid in orphans))
    assert time.monotonic() - began < 30, "within a second, but on a busy machine"
    # of a database the dead fold has its leases for a while
    again = start_server(server.data_dir, environment={"MIXDOWN_READ_WAIT_MS": "30000"})
    assert again.profiles().keys() == {"kept"}


@of_a_folder("a database has no lock that keeps a second server out")
def test_a_child_stopped_by_a_debugger_keeps_the_folder_locked(start_server: StartServer) -> None:
    server = start_server()
    worker = child(server.pid, "worker")
    os.kill(worker, signal.SIGSTOP)
    server.kill()
    from mixdown.store.sqlite.folder import FolderLock

    assert FolderLock(server.data_dir).holder() == server.pid
    os.kill(worker, signal.SIGCONT)
    wait_until(lambda: FolderLock(server.data_dir).holder() is None)


def test_server_json_tells_where_the_server_is_while_it_is_ready(server: Server) -> None:
    told = json.loads((server.data_dir / "server.json").read_bytes())
    assert told["pid"] == server.pid
    assert told["data_dir"] == str(server.data_dir)
    assert told["address"] == server.base_url
    assert told["version"]
