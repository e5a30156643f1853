"""The redirect helper for Python: requests to Mixpanel reach Mixdown, all others are left alone."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from tests.sdk.support import PYTHON_REDIRECT, stored_user
from tests.serving import Certificate, Server

# Each program is what a user has: it names Mixpanel's hosts, or leaves them at their defaults.
SDK_PROGRAM = """
import mixpanel, sys
token, user = sys.argv[1:]
mp = mixpanel.Mixpanel(token)
mp.people_set(user, {"default host": 1})
for host in ("api-eu.mixpanel.com", "api-in.mixpanel.com"):
    consumer = mixpanel.BufferedConsumer(api_host=host)
    mixpanel.Mixpanel(token, consumer=consumer).people_set(user, {host: "Ü + &"})
    consumer.flush()
"""
UTILS_PROGRAM = """
import sys
from mixpanel_utils import MixpanelUtils
token, user, account, password, project = sys.argv[1:]
for residency in ("us", "eu", "in"):
    client = MixpanelUtils(password, token, account, project, residency=residency)
    client.people_set({residency: True}, profiles=[{"$distinct_id": user}], backup=False)
    assert client.query_engage({"distinct_id": user})[0]["$properties"][residency] is True
"""
OTHER_HOSTS_PROGRAM = """
import sys, requests, urllib.request
assert requests.get(sys.argv[1]).text == "not Mixdown"
assert urllib.request.urlopen(sys.argv[1]).read() == b"not Mixdown"
assert urllib.request.urlopen(urllib.request.Request(sys.argv[1])).read() == b"not Mixdown"
assert urllib.request.urlopen("data:text/plain,kept").read() == b"kept"
"""


def run(program: str, *arguments: object, base: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python of its own, with the helper on its path."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(PYTHON_REDIRECT), "MIXDOWN_BASE": base, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def succeed(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def other_server() -> Iterator[str]:
    """The address of a web server that is neither Mixpanel nor Mixdown."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"not Mixdown")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/"
        listening.shutdown()


def load_helper() -> ModuleType:
    """The helper as a module, without what it does at a start with MIXDOWN_BASE."""
    spec = spec_from_file_location("mixdown_redirect", PYTHON_REDIRECT / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    helper = module_from_spec(spec)
    spec.loader.exec_module(helper)
    return helper


def test_the_sdk_with_its_default_hosts_reaches_mixdown(server: Server) -> None:
    succeed(run(SDK_PROGRAM, server.token, "redirect-sdk", base=server.base_url))
    assert stored_user(server, "redirect-sdk") == {
        "default host": 1,
        "api-eu.mixpanel.com": "Ü + &",
        "api-in.mixpanel.com": "Ü + &",
    }


def test_mixpanel_utils_with_its_default_hosts_writes_to_and_reads_from_mixdown(server: Server) -> None:
    arguments = (server.token, "redirect-utils", *server.account, server.project_id)
    succeed(run(UTILS_PROGRAM, *arguments, base=f"{server.base_url}/"))
    assert stored_user(server, "redirect-utils") == {"us": True, "eu": True, "in": True}


def test_the_redirect_reaches_a_server_with_tls(tls_server: Server, certificate: Certificate) -> None:
    server = tls_server
    file = str(certificate.certificate_file)
    trust = {"REQUESTS_CA_BUNDLE": file, "SSL_CERT_FILE": file}
    succeed(run(SDK_PROGRAM, server.token, "tls-sdk", base=server.base_url, **trust))
    arguments = (server.token, "tls-utils", *server.account, server.project_id)
    succeed(run(UTILS_PROGRAM, *arguments, base=server.base_url, **trust))
    assert stored_user(server, "tls-sdk")["default host"] == 1
    assert stored_user(server, "tls-utils") == {"us": True, "eu": True, "in": True}


def test_other_hosts_are_left_alone(other_server: str) -> None:
    succeed(run(OTHER_HOSTS_PROGRAM, other_server, base="http://127.0.0.1:9"))


@pytest.mark.parametrize(
    "base", ["127.0.0.1:6493", "http://", "ftp://127.0.0.1", "http://127.0.0.1:6493/engage"]
)
def test_an_address_that_cannot_be_meant_ends_the_program_before_it_sends_anything(base: str) -> None:
    ended = run("print('sent')", base=base)
    assert ended.returncode != 0
    assert "MIXDOWN_BASE must look like" in ended.stderr
    assert "sent" not in ended.stdout


def test_programs_without_requests_start_as_ever(tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "__init__.py").write_text("raise ImportError('not installed')")
    path = f"{tmp_path}{os.pathsep}{PYTHON_REDIRECT}"
    succeed(run("print('started')", base="http://127.0.0.1:9", PYTHONPATH=path))


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        ("https://api.mixpanel.com/engage?a=1&b=%20#f", "http://box:6493/engage?a=1&b=%20#f"),
        ("https://mixpanel.com/api/2.0/engage", "http://box:6493/api/2.0/engage"),
        ("https://API-EU.Mixpanel.COM./track", "http://box:6493/track"),
        ("http://data.mixpanel.com:8443/api/2.0/export", "http://box:6493/api/2.0/export"),
        ("https://user:secret@api.mixpanel.com/import", "http://box:6493/import"),
        ("https://notmixpanel.com/engage", "https://notmixpanel.com/engage"),
        ("https://mixpanel.com.example.org/", "https://mixpanel.com.example.org/"),
        (
            "https://example.org/?to=https://api.mixpanel.com/",
            "https://example.org/?to=https://api.mixpanel.com/",
        ),
        ("data:text/plain,mixpanel.com", "data:text/plain,mixpanel.com"),
        ("file:///mixpanel.com", "file:///mixpanel.com"),
    ],
)
def test_only_mixpanels_own_hosts_are_redirected(
    monkeypatch: pytest.MonkeyPatch, url: str, reached: str
) -> None:
    monkeypatch.delenv("MIXDOWN_BASE", raising=False)
    assert load_helper().redirected(url, "http://box:6493") == reached
