"""Real `mixdown serve` processes for tests: started on a free port, read over HTTP, ended by their own pid.

In comes what a test asks for (presets, flags, workers, TLS, a folder to start again on, whose database comes
with it where tests run on PostgreSQL: `tests.engine`); out goes a `Server`, which knows its address and
credentials and reads the stored profiles through the query API as any client would. Nothing here reaches into
the product: what a test sees of a server is what its users see.
"""

import base64
import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests import engine
from tests.leftovers import end_with_us

TOKEN = "0123456789abcdef0123456789abcdef"
SECRET = "5ec2e7" + "0" * 58
ACCOUNT = ("tests.mp-service-account", "pa55" + "0" * 60)

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 120.0
PAGE_SIZE = 1000

Profile = dict[str, Any]
Event = dict[str, Any]


@dataclass(frozen=True)
class Response:
    """One HTTP response: status, headers (`header` looks them up in any case) and the whole body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The value of the first header of that name, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True)
class Certificate:
    """A throw-away certificate for 127.0.0.1, localhost and *.mixpanel.com that is its own authority."""

    certificate_file: Path
    key_file: Path


@dataclass
class Server:
    """A `mixdown serve` process that a test started, and how to talk to it."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    log_file: Path
    environment: Mapping[str, str]
    token: str = TOKEN
    secret: str = SECRET
    account: tuple[str, str] = ACCOUNT
    certificate: Certificate | None = None
    base_url: str = field(default="", init=False)

    @property
    def pid(self) -> int:
        """The process id of the supervisor."""
        return self.process.pid

    @cached_property
    def project_id(self) -> int:
        """The id of the project that the token belongs to, asked of the command line."""
        projects = self.command("project", "list", "--json")
        return int(next(project["id"] for project in projects if project["token"] == self.token))

    def command(self, *arguments: str) -> Any:
        """Run `mixdown` with these arguments on the running server's folder; returns the JSON it prints."""
        ended = subprocess.run(
            [sys.executable, "-m", "mixdown", *arguments],
            env={**self.environment, "MIXDOWN_DATA_DIR": str(self.data_dir)},
            capture_output=True,
            text=True,
            timeout=ANSWER_TIMEOUT_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def in_project(self, secret: str) -> "Server":
        """The same running server, read with the secret of another of its projects."""
        other = replace(self, account=(secret, ""), secret=secret)
        other.base_url = self.base_url
        return other

    def log_text(self) -> str:
        """All that the server has printed so far."""
        return self.log_file.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        """Wait for the server's own word that it is ready, `server.json`, and take the address from it."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"mixdown serve ended with status {self.process.returncode}:\n{self.log_text()}")
            with contextlib.suppress(OSError, ValueError):
                found = json.loads((self.data_dir / "server.json").read_bytes())
                if found["pid"] == self.process.pid:  # else a leftover of a server that was killed here
                    self.base_url = found["address"].rstrip("/")
                    return
            time.sleep(0.02)
        self.stop()
        pytest.fail(f"mixdown serve was not ready after {START_TIMEOUT_S:.0f} s:\n{self.log_text()}")

    def stop(self) -> int:
        """End the server by SIGTERM, the hard way if it lingers; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """End the supervisor with SIGKILL; its children see the closed pipe and end by themselves."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def request(
        self, method: str, target: str, body: bytes | str = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """Send one request on a connection of its own; redirects and errors come back as they are."""
        address = urlsplit(self.base_url)
        assert address.hostname is not None
        connection: http.client.HTTPConnection
        if address.scheme == "https":
            assert self.certificate is not None
            context = ssl.create_default_context(cafile=str(self.certificate.certificate_file))
            connection = http.client.HTTPSConnection(
                address.hostname, address.port, timeout=ANSWER_TIMEOUT_S, context=context
            )
        else:
            connection = http.client.HTTPConnection(address.hostname, address.port, timeout=ANSWER_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request(method, target, body or None, dict(headers or {}))
            reply = connection.getresponse()
            return Response(reply.status, tuple(reply.getheaders()), reply.read())

    def get(self, target: str, **parameters: object) -> Response:
        """GET, with the service account's credentials and the parameters in the query."""
        query = urlencode(parameters)
        return self.request("GET", f"{target}?{query}" if query else target, headers=self.authorization())

    def post(self, target: str, body: object = b"", headers: Mapping[str, str] | None = None) -> Response:
        """POST; a body that is neither bytes nor text is sent as JSON."""
        if isinstance(body, (bytes, str)):
            return self.request("POST", target, body, headers)
        typed = {"Content-Type": "application/json", **(headers or {})}
        return self.request("POST", target, json.dumps(body), typed)

    def authorization(self) -> dict[str, str]:
        """The header that a service account sends."""
        credentials = base64.b64encode(":".join(self.account).encode()).decode()
        return {"Authorization": f"Basic {credentials}"}

    def profiles(self, **parameters: object) -> dict[str, Profile]:
        """All stored user profiles, as properties by distinct_id, read page by page through the query API."""
        return self._read_profiles(parameters)

    def groups(self, group_key: str, **parameters: object) -> dict[str, Profile]:
        """All profiles of one group key, as properties by group id; none for a key never written to."""
        try:
            return self._read_profiles({"data_group_id": group_key, **parameters})
        except UnknownGroupKeyError:
            return {}

    def events(self, first: str = "2000-01-01", last: str = "", **parameters: object) -> list[Event]:
        """The events of some days, all unless told, as lines of the raw export; times in milliseconds."""
        asked: dict[str, object] = {"from_date": first, "to_date": last or f"{datetime.now(UTC):%F}"}
        if self.account[0] != self.secret:
            asked["project_id"] = self.project_id
        reply = self.get("/api/2.0/export", time_in_ms="true", **asked, **parameters)
        assert reply.status == 200, reply
        return [json.loads(line) for line in reply.body.split(b"\n") if line]

    def _read_profiles(self, parameters: Mapping[str, object]) -> dict[str, Profile]:
        asked: dict[str, object] = {"page_size": PAGE_SIZE, **parameters}
        if self.account[0] != self.secret:  # a secret names its project by itself
            asked["project_id"] = self.project_id
        rows: list[dict[str, Any]] = []
        page = 0
        while True:
            reply = self.get("/api/query/engage", **asked, page=page)
            if reply.status == 400 and "data_group_id" in parameters:
                raise UnknownGroupKeyError(reply.body.decode())
            assert reply.status == 200, reply
            answer = reply.json()
            rows += answer["results"]
            if len(rows) >= answer["total"] or not answer["results"]:
                break
            page += 1
            asked["session_id"] = answer["session_id"]
        profiles = {row["$distinct_id"]: row["$properties"] for row in rows}
        assert len(profiles) == len(rows), "an id came back twice"
        return profiles


class UnknownGroupKeyError(Exception):
    """The server knows no group key of that name."""


def launch(
    data_dir: Path,
    *,
    workers: int = 1,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    certificate: Certificate | None = None,
) -> Server:
    """Start `mixdown serve` on a free port with its data in `data_dir`, and return when it is ready.

    Starting again on a folder of an earlier server continues its data. The caller ends the server with
    `stop()`; the fixtures below do so by themselves.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIXDOWN_")}
    presets = {"MIXDOWN_TOKEN": TOKEN, "MIXDOWN_SECRET": SECRET, "MIXDOWN_ACCOUNT": ":".join(ACCOUNT)}
    kept_in = {} if "MIXDOWN_DATABASE_URL" in (environment or {}) else engine.variables(data_dir)
    complete = {**inherited, **presets, **kept_in, **(environment or {})}
    command = [sys.executable, "-m", "mixdown", "serve", "--port", "0", "--data-dir", str(data_dir)]
    if workers != 1:
        command += ["--workers", str(workers)]
    if certificate is not None:
        command += ["--tls-cert", str(certificate.certificate_file), "--tls-key", str(certificate.key_file)]
    log_file = data_dir.with_name(data_dir.name + ".log")
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [*command, *arguments],
            env=complete,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    end_with_us(process)
    user, _, password = complete["MIXDOWN_ACCOUNT"].partition(":")
    server = Server(
        process,
        data_dir,
        log_file,
        complete,
        token=complete["MIXDOWN_TOKEN"],
        secret=complete["MIXDOWN_SECRET"],
        account=(user, password),
        certificate=certificate,
    )
    server.wait_until_ready()
    return server


StartServer = Callable[..., Server]


@contextlib.contextmanager
def servers_ended_together(folder: Path) -> Iterator[StartServer]:
    """A function that starts servers with `launch`'s options, each in a folder of its own if given none."""
    started: list[Server] = []

    def start(data_dir: Path | None = None, **options: Any) -> Server:
        server = launch(data_dir or folder / f"server-{len(started)}", **options)
        started.append(server)
        return server

    try:
        yield start
    finally:
        for server in started:
            server.stop()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers with `launch`'s options; all are ended with the test."""
    with servers_ended_together(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def start_module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Start servers with `launch`'s options; all are ended when the module's tests are over."""
    folder = tmp_path_factory.mktemp("mixdown")
    with servers_ended_together(folder) as start:
        yield start
    engine.forget(folder)


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> Server:
    """One server with default settings for all tests of a module; each test uses ids of its own."""
    return start_module_server()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A throw-away certificate, made with the `openssl` command."""
    folder = tmp_path_factory.mktemp("certificate")
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += [
        "-days",
        "2",
        "-subj",
        "/CN=Mixdown tests",
        "-addext",
        "keyUsage=digitalSignature,keyCertSign",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:mixpanel.com,DNS:*.mixpanel.com"]
    command += ["-keyout", str(made.key_file), "-out", str(made.certificate_file)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=ANSWER_TIMEOUT_S)
    except FileNotFoundError:
        pytest.skip("the openssl command, which makes the test's certificate, is not installed")
    return made
