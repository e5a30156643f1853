"""Starting: what the first start makes and prints, what presets do, and one clear line when it cannot be."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.operations.support import DEADLINE_S, environment, failed_start, serve_command, wait_until
from tests.serving import ACCOUNT, SECRET, TOKEN, Certificate, StartServer, certificate, start_server

__all__ = ["certificate", "start_server"]


def test_a_taken_port_is_told_in_one_line_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        lines = failed_start("--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert lines[0] == f"mixdown: port {port} of 127.0.0.1 is taken by another program"
    assert "--port" in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "192.0.2.1"], "192.0.2.1 is not an address of this machine"),
        (["--host", "no-such-host.invalid"], "the host 'no-such-host.invalid' has no address"),
        (["--database-url", "postgres://localhost/mixdown"], "PostgreSQL comes with a later release"),
        (["--geo-database", "/nowhere/geo.mmdb"], "/nowhere/geo.mmdb"),
        (
            ["--tls-cert", "/nowhere/cert.pem", "--tls-key", "/nowhere/key.pem"],
            "/nowhere/cert.pem cannot be read",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_told_in_one_line(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    lines = failed_start("--port", "0", "--data-dir", str(tmp_path / "data"), *arguments)
    assert words in lines[0]
    assert len(lines) == 2


def test_a_folder_below_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    lines = failed_start("--port", "0", "--data-dir", str(tmp_path / "file" / "data"))
    assert f"the data folder {tmp_path / 'file' / 'data'} cannot be made" in lines[0]
    assert "--data-dir" in lines[1]
    assert len(lines) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    lines = failed_start("--port", "0", "--data-dir", str(tmp_path / "closed" / "data"))
    assert "cannot be made: Permission denied" in lines[0]


def test_a_key_of_another_certificate_is_told_in_one_line(tmp_path: Path, certificate: Certificate) -> None:
    other = tmp_path / "other.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(other)],
        check=True,
        capture_output=True,
    )
    arguments = ["--port", "0", "--data-dir", str(tmp_path / "data"), "--tls-cert"]
    lines = failed_start(*arguments, str(certificate.certificate_file), "--tls-key", str(other))
    assert "is not that of the certificate" in lines[0]
    swapped = [str(certificate.key_file), "--tls-key", str(certificate.certificate_file)]
    assert "are not a certificate and a key in PEM form" in failed_start(*arguments, *swapped)[0]


IMPATIENT = """
import os, sys
from mixdown.server import supervisor
from mixdown.settings import load
supervisor.LOCK_WAIT_S = 0.3
sys.exit(supervisor.run(load(os.environ, {"port": 0, "data_dir": sys.argv[1]})))
"""


def test_a_second_server_names_the_process_that_holds_the_folder(start_server: StartServer) -> None:
    server = start_server()
    second = subprocess.run(
        [sys.executable, "-c", IMPATIENT, str(server.data_dir)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert second.returncode == 1
    lines = second.stderr.splitlines()
    assert lines[0] == f"mixdown: the data folder {server.data_dir} is in use by process {server.pid}"
    assert len(lines) == 2
    assert server.get("/livez").status == 200


def test_a_server_that_goes_down_hands_the_folder_to_the_next(start_server: StartServer) -> None:
    first = start_server()
    with first.log_file.open("ab") as log:
        second = subprocess.Popen(
            serve_command("--port", "0", "--data-dir", str(first.data_dir)),
            env=environment(),
            stdout=log,
            stderr=log,
        )
    try:
        first.process.send_signal(signal.SIGTERM)
        path = first.data_dir / "server.json"
        wait_until(lambda: path.exists() and json.loads(path.read_bytes())["pid"] == second.pid)
        assert first.process.wait(DEADLINE_S) == 0
    finally:
        second.send_signal(signal.SIGTERM)
        assert second.wait(DEADLINE_S) == 0
    assert not path.exists()


def test_the_lines_that_a_first_start_prints_work_when_pasted(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    log = tmp_path / "log"
    with log.open("wb") as target:
        process = subprocess.Popen(
            serve_command("--port", "0", "--data-dir", str(tmp_path / "data")),
            env=environment(),
            stdout=target,
            stderr=subprocess.DEVNULL,
        )
    try:
        wait_until(lambda: "curl -u" in log.read_text() and log.read_text().endswith("\n\n"))
        printed = log.read_text()
        send, read = re.findall(r"^curl .*$", printed, re.MULTILINE)
        snippet = printed[printed.index("from mixpanel") : printed.index("Read it back")]
        sent = subprocess.run(["sh", "-c", send], capture_output=True, text=True, check=True)
        assert sent.stdout == "1"
        subprocess.run([sys.executable, "-c", snippet], check=True, capture_output=True)
        answer = json.loads(subprocess.run(["sh", "-c", read], capture_output=True, check=True).stdout)
        (profile,) = answer["results"]
        assert profile["$distinct_id"] == "ada"
        assert profile["$properties"].items() >= {"$name": "Ada Lovelace", "plan": "free"}.items()
        assert str(tmp_path / "data") in printed
    finally:
        process.terminate()
        assert process.wait(DEADLINE_S) == 0


def printed_by_one_run(folder: Path) -> str:
    """All that a server prints from its start to its end, with its data in `folder`."""
    log = folder / "log"
    with log.open("wb") as target:
        process = subprocess.Popen(
            serve_command("--port", "0", "--data-dir", str(folder / "data")),
            env=environment(),
            stdout=target,
            stderr=target,
        )
    wait_until(lambda: '"event":"ready"' in log.read_text())
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    return log.read_text()


def test_secrets_are_printed_at_the_start_that_makes_them_and_never_again(tmp_path: Path) -> None:
    printed = [printed_by_one_run(tmp_path) for _ in range(2)]
    (secret,) = re.findall(r"^  Secret +(\w{64})$", printed[0], re.MULTILINE)
    (password,) = re.findall(r"^  Password +(\w{64})$", printed[0], re.MULTILINE)
    (token,) = re.findall(r"^  Token +(\w{32})$", printed[0], re.MULTILINE)
    assert token in printed[1]
    assert secret not in printed[1]
    assert password not in printed[1]
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert token.encode() in stored
    assert secret.encode() not in stored
    assert password.encode() not in stored


def test_presets_are_in_force_after_every_start(start_server: StartServer) -> None:
    first = start_server()
    record = {"$token": TOKEN, "$distinct_id": "a", "$set": {"x": 1}}
    assert first.post("/engage", [record]).body == b"1"
    assert first.profiles()["a"]["x"] == 1
    project = first.project_id
    assert first.stop() == 0
    renewed = {"MIXDOWN_TOKEN": "t" * 32, "MIXDOWN_SECRET": "s" * 40, "MIXDOWN_ACCOUNT": "grace:" + "p" * 40}
    second = start_server(first.data_dir, environment=renewed)
    assert second.project_id == project
    assert second.post("/engage", [record]).body == b"0"
    assert second.post("/engage", [{**record, "$token": "t" * 32}]).body == b"1"
    assert second.profiles()["a"]["x"] == 1
    listing = subprocess.run(
        [sys.executable, "-m", "mixdown", "account", "list", "--json"],
        env={**second.environment, "MIXDOWN_DATA_DIR": str(second.data_dir)},
        capture_output=True,
        check=True,
    )
    names = {account["username"]: account["role"] for account in json.loads(listing.stdout)}
    assert names == {ACCOUNT[0]: "owner", "grace": "owner"}
    log = second.log_text()
    assert not [secret for secret in (SECRET, ACCOUNT[1], "s" * 40, "p" * 40) if secret in log]


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])  # noqa: S104 - the point
def test_a_short_preset_is_taken_with_a_warning_where_others_can_reach_the_server(
    start_server: StartServer, host: str, warned: bool
) -> None:
    presets = {"MIXDOWN_TOKEN": "short", "MIXDOWN_SECRET": "s" * 32, "MIXDOWN_ACCOUNT": "ada:short-too"}
    server = start_server(environment=presets, arguments=["--host", host])
    assert server.post("/engage", [{"$token": "short", "$distinct_id": "a", "$set": {}}]).body == b"1"
    assert server.profiles().keys() == {"a"}
    lines = [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]
    found = {line["variable"] for line in lines if "can be guessed" in line["event"]}
    assert found == ({"MIXDOWN_TOKEN", "MIXDOWN_ACCOUNT"} if warned else set())


def test_an_ephemeral_server_leaves_no_folder_behind(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as target:
        process = subprocess.Popen(
            serve_command("--port", "0", "--ephemeral"),
            env=environment(TMPDIR=str(tmp_path)),
            cwd=tmp_path,
            stdout=target,
            stderr=target,
        )
    wait_until(lambda: '"event":"ready"' in log.read_text())
    folder = Path(re.findall(r"^  Data +(\S+) \(temporary", log.read_text(), re.MULTILINE)[0])
    assert folder.parent == tmp_path
    assert (folder / "server.json").exists()
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_the_data_folder_is_closed_to_others(start_server: StartServer) -> None:
    server = start_server()
    server.post("/engage", [{"$token": TOKEN, "$distinct_id": "a", "$set": {}}])
    assert server.profiles().keys() == {"a"}
    open_to_others = [path.name for path in server.data_dir.rglob("*") if path.stat().st_mode & 0o077]
    assert open_to_others == []
    assert server.data_dir.stat().st_mode & 0o777 == 0o700
