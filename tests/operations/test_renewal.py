"""A renewed certificate is served without a restart; one that does not work never replaces one that does."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from mixdown.server.certificates import Made, create
from tests.serving import Certificate, Server, StartServer

pytestmark = pytest.mark.slow

WAIT_S = 90.0


def renew(folder: Path) -> Made:
    return create(folder, ["localhost", "127.0.0.1"], now=dt.datetime.now(dt.UTC))


def served(server: Server, made: Made) -> int:
    """The serial number of the certificate that a new connection is shown; the authority is checked."""
    address = urlsplit(server.base_url)
    context = ssl.create_default_context(cafile=str(made.authority))
    with (
        socket.create_connection((address.hostname, address.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=address.hostname) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def serial_in(made: Made) -> int:
    return x509.load_pem_x509_certificate(made.certificate.read_bytes()).serial_number


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_renewed_certificate_is_served_and_connections_go_on(
    start_server: StartServer, tmp_path: Path
) -> None:
    made = renew(tmp_path / "tls")
    server = start_server(workers=2, certificate=Certificate(made.certificate, made.key))
    old = serial_in(made)
    assert {served(server, made) for _ in range(6)} == {old}
    address = urlsplit(server.base_url)
    context = ssl.create_default_context(cafile=str(made.authority))
    with (
        socket.create_connection((address.hostname, address.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=address.hostname) as open_before,
    ):
        renew(tmp_path / "tls")
        new = serial_in(made)
        assert new != old
        until(lambda: server.log_text().count("the renewed certificate is in use") == 2)
        assert {served(server, made) for _ in range(6)} == {new}
        open_before.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert open_before.recv(12) == b"HTTP/1.1 200"
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=819)
    server.certificate = Certificate(made.authority, made.key)  # what this test's own client trusts
    metrics = server.get("/metrics").body.decode()
    [line] = [
        line for line in metrics.splitlines() if line.startswith("mixdown_tls_certificate_expiry_timestamp")
    ]
    assert float(line.split()[1]) > ends.timestamp()


def test_a_pair_that_does_not_fit_is_not_used_until_it_does(
    start_server: StartServer, tmp_path: Path
) -> None:
    made = renew(tmp_path / "tls")
    other = renew(tmp_path / "other")
    server = start_server(certificate=Certificate(made.certificate, made.key))
    old = serial_in(made)
    made.key.write_bytes(other.key.read_bytes())
    until(lambda: "the changed certificate is not used" in server.log_text())
    assert "is not that of the certificate" in server.log_text()
    assert served(server, made) == old
    made.key.unlink()
    until(lambda: server.log_text().count("the changed certificate is not used") == 2)
    assert served(server, made) == old
    renew(tmp_path / "tls")
    until(lambda: served(server, made) == serial_in(made) != old)
