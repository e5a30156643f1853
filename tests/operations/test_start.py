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

from mixdown.model.errors import SettingsError
from mixdown.server.listening import address_of, listen, tls_context
from mixdown.settings import load
from tests import engine
from tests.erasure.raw import contents
from tests.operations.support import (
    DEADLINE_S,
    Wire,
    children,
    environment,
    failed_start,
    serve_command,
    wait_until,
)
from tests.serving import (
    ACCOUNT,
    SECRET,
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


def test_a_taken_port_is_told_in_one_line_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        lines = failed_start("--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert lines[0] == f"mixdown: port {port} of 127.0.0.1 is taken by another program"
    assert "--port" in lines[1]
    assert len(lines) == 2


def test_a_geo_database_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    """A child finds this; its words reach the terminal all the same."""
    arguments = ["--port", "0", "--data-dir", str(tmp_path / "data"), "--geo-database", "/nowhere/geo.mmdb"]
    lines = failed_start(*arguments)
    assert lines[0].startswith("mixdown: ")
    assert "/nowhere/geo.mmdb" in lines[0]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("192.0.2.1", 0, "192.0.2.1 is not an address of this machine"),
        ("x" * 70, 0, "the host 'x+' has no address"),
    ],
)
def test_an_address_that_is_none_is_told_with_what_to_do(host: str, port: int, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        listen(host, port)
    assert "--host 127.0.0.1" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("localhost", "http://localhost:"),
        ("0.0.0.0", "http://127.0.0.1:"),  # noqa: S104 - the point
    ],
)
def test_the_address_that_is_printed_reaches_the_server(host: str, address: str) -> None:
    with listen(host, 0) as sock:
        printed = address_of(sock, load({}, {"host": host}))
        assert printed == f"{address}{sock.getsockname()[1]}"
        Wire(printed).socket.close()


def test_a_folder_below_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    lines = failed_start("--port", "0", "--data-dir", str(tmp_path / "file" / "data"))
    assert f"the data folder {tmp_path / 'file' / 'data'} cannot be made" in lines[0]
    assert "--data-dir" in lines[1]
    assert len(lines) == 2


def test_a_folder_that_holds_something_else_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data" / "lock").mkdir(parents=True)
    lines = failed_start("--port", "0", "--data-dir", str(tmp_path / "data"))
    assert lines[0] == f"mixdown: the data folder {tmp_path / 'data'} cannot be used: Is a directory"
    assert len(lines) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    lines = failed_start("--port", "0", "--data-dir", str(tmp_path / "closed" / "data"))
    assert "cannot be made: Permission denied" in lines[0]


def test_a_certificate_that_cannot_be_used_is_told_by_what_is_wrong(
    tmp_path: Path, certificate: Certificate
) -> None:
    other = tmp_path / "other.pem"
    make_key = [
        "openssl",
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        str(other),
    ]
    subprocess.run(make_key, check=True, capture_output=True)
    cert, key = str(certificate.certificate_file), str(certificate.key_file)
    secret_key = tmp_path / "encrypted.pem"
    encrypt = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:word", "-out", str(secret_key)]
    subprocess.run(encrypt, check=True, capture_output=True)
    for given_cert, given_key, words in [
        (cert, str(other), "is not that of the certificate"),
        (key, cert, "are not a certificate and a key in PEM form"),
        (cert, str(tmp_path / "missing.pem"), "--tls-key: .*missing.pem cannot be read: No such file"),
        (str(tmp_path), key, "--tls-cert: .* cannot be read: Is a directory"),
        (cert, str(secret_key), "has a passphrase"),
    ]:
        with pytest.raises(SettingsError, match=words):
            tls_context(load({}, {"tls_cert": given_cert, "tls_key": given_key}))


def test_a_certificate_that_cannot_be_used_ends_the_start_with_one_line(tmp_path: Path) -> None:
    arguments = ["--port", "0", "--data-dir", str(tmp_path / "data"), "--tls-key", "/nowhere/key.pem"]
    lines = failed_start(*arguments, "--tls-cert", "/nowhere/cert.pem")
    assert lines[0] == "mixdown: --tls-cert: /nowhere/cert.pem cannot be read: No such file or directory"
    assert len(lines) == 2


IMPATIENT = """
import os, sys
from mixdown.server import supervisor
from mixdown.settings import load
supervisor.LOCK_WAIT_S = 0.3
sys.exit(supervisor.run(load(os.environ, {"port": 0, "data_dir": sys.argv[1]})))
"""


def test_a_second_server_names_the_process_that_holds_the_folder(server: Server) -> None:
    second = subprocess.run(
        [sys.executable, "-c", IMPATIENT, str(server.data_dir)],
        env=environment(**engine.variables(server.data_dir)),
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


@pytest.mark.slow
def test_a_server_that_goes_down_hands_the_folder_to_the_next(start_server: StartServer) -> None:
    first = start_server()
    with first.log_file.open("ab") as log:
        second = subprocess.Popen(
            serve_command("--port", "0", "--data-dir", str(first.data_dir)),
            env=environment(**engine.variables(first.data_dir)),
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
            env=environment(**engine.variables(tmp_path / "data")),
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
            env=environment(**engine.variables(folder / "data")),
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
    stored = b"\n".join(content for _, content in contents(tmp_path / "data"))
    assert token.encode() in stored
    assert secret.encode() not in stored
    assert password.encode() not in stored


@pytest.mark.slow
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


def test_a_short_preset_is_taken_with_a_warning_where_others_can_reach_the_server(
    start_server: StartServer,
) -> None:
    presets = {"MIXDOWN_TOKEN": "short", "MIXDOWN_SECRET": "s" * 32, "MIXDOWN_ACCOUNT": "ada:short-too"}
    server = start_server(environment=presets, arguments=["--host", "0.0.0.0"])  # noqa: S104 - the point
    assert server.post("/engage", [{"$token": "short", "$distinct_id": "a", "$set": {}}]).body == b"1"
    assert server.profiles().keys() == {"a"}
    lines = [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]
    found = {line["variable"] for line in lines if "can be guessed" in line["event"]}
    assert found == {"MIXDOWN_TOKEN", "MIXDOWN_ACCOUNT"}
    assert [line for line in lines if "without TLS" in line["event"]]


def test_secrets_do_not_pass_on_to_the_processes_that_strangers_talk_to(server: Server) -> None:
    for pid in children(server.pid):
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert not [secret for secret in (TOKEN, SECRET, ACCOUNT[1]) if secret.encode() in environ]


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


def test_the_data_folder_is_closed_to_others(server: Server) -> None:
    server.post("/engage", [{"$token": TOKEN, "$distinct_id": "a", "$set": {}}])
    assert server.profiles().keys() == {"a"}
    open_to_others = [path.name for path in server.data_dir.rglob("*") if path.stat().st_mode & 0o077]
    assert open_to_others == []
    assert server.data_dir.stat().st_mode & 0o777 == 0o700
