"""`mixdown cert create`: an authority made once, certificates that strict clients take, private files."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mixdown.server.certificates import CertificateError, create
from tests.serving import Certificate, StartServer

pytestmark = pytest.mark.slow

NOW = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `mixdown cert create` on a data folder."""
    return subprocess.run(
        [sys.executable, "-m", "mixdown", "cert", "create", "--data-dir", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def made(*arguments: str, folder: Path) -> dict[str, Any]:
    """What a run with `--json` says."""
    ended = run("--json", *arguments, folder=folder)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def loaded(path: Path | str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def names_of(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName), list(map(str, names.get_values_for_type(x509.IPAddress)))


def test_the_command_makes_authority_and_certificate_and_says_what_to_do_next(tmp_path: Path) -> None:
    ended = run("mixdown.example.com", "192.168.1.20", folder=tmp_path / "data")
    assert ended.returncode == 0, ended.stderr
    tls = tmp_path / "data" / "tls"
    assert f"--tls-cert {tls / 'cert.pem'} --tls-key {tls / 'key.pem'}" in ended.stdout
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
        assert f"{variable}={tls / 'ca.pem'}" in ended.stdout
    for word in ("keytool", "update-ca-certificates", "macOS", "Windows", "Firefox", "iOS", "Android", "PHP"):
        assert word in ended.stdout
    assert names_of(loaded(tls / "cert.pem")) == (["mixdown.example.com"], ["192.168.1.20"])


def test_all_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    made(folder=tmp_path / "data")
    folders = (tmp_path / "data", tmp_path / "data" / "tls")
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]
    files = {path.name: path.stat().st_mode & 0o777 for path in folders[1].iterdir()}
    assert files == dict.fromkeys(("ca-key.pem", "ca.pem", "cert.pem", "key.pem"), 0o600)


def test_without_names_this_machine_is_meant(tmp_path: Path) -> None:
    dns, addresses = names_of(loaded(made(folder=tmp_path)["certificate"]))
    assert dns[0] == "localhost"
    assert socket.gethostname().lower() in dns
    assert addresses == ["127.0.0.1", "::1"]


def test_the_certificate_is_one_that_strict_clients_take(tmp_path: Path) -> None:
    found = create(tmp_path / "tls", ["a.example"], now=NOW)
    leaf, authority = loaded(found.certificate), loaded(found.authority)
    extensions = leaf.extensions
    assert leaf.not_valid_before_utc <= NOW
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < dt.timedelta(days=825)
    assert leaf.not_valid_after_utc == found.expires
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH in usage
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert (limits.value.ca, limits.value.path_length) == (True, 0)
    leaf.verify_directly_issued_by(authority)


def test_a_longer_life_than_apple_takes_is_wrong_usage(tmp_path: Path) -> None:
    assert run("--days", "826", folder=tmp_path).returncode == 2


def test_a_second_run_renews_the_certificate_and_keeps_authority_and_names(tmp_path: Path) -> None:
    first = made("a.example", "::1", folder=tmp_path)
    serial = loaded(first["certificate"]).serial_number
    second = made(folder=tmp_path)
    assert (first["new_ca"], second["new_ca"]) == (True, False)
    assert second["ca_sha256"] == first["ca_sha256"]
    assert second["names"] == ["a.example", "::1"]
    assert loaded(second["certificate"]).serial_number != serial
    assert made("b.example", folder=tmp_path)["names"] == ["b.example"]


def test_runs_at_the_same_time_share_one_authority(tmp_path: Path) -> None:
    def create_one(number: int) -> str:
        return create(tmp_path / "tls", [f"n{number}.example"], now=NOW).fingerprint

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(create_one, range(16)))) == 1
    loaded(tmp_path / "tls" / "cert.pem").verify_directly_issued_by(loaded(tmp_path / "tls" / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls" / "cert.pem", tmp_path / "tls" / "key.pem")


NAMES = [
    ("mixdown.example.com", "mixdown.example.com"),
    ("*.example.com", "*.example.com"),
    ("box", "box"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("10.0.0.5", "10.0.0.5"),
    ("[::1]", "::1"),
    ("fe80:0:0:0:0:0:0:1", "fe80::1"),
]


@pytest.mark.parametrize(("name", "written"), NAMES)
def test_names_that_a_certificate_can_have(tmp_path: Path, name: str, written: str) -> None:
    dns, addresses = names_of(loaded(create(tmp_path / "tls", [name], now=NOW).certificate))
    assert [*dns, *addresses] == [written]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "https://example.com",
        "example.com:443",
        "a@example.com",
        "10.0.0.0/8",
        "a b",
        "-a.example",
        "a..b",
        "*",
        "a.*.b",
        "my_box.local",
        "x" * 64,
        "a." * 127 + "abc",
        "\u2603\u2603.☃\u0000",
        "a\nb",
    ],
)
def test_names_that_no_certificate_can_have_are_refused_and_nothing_is_made(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(CertificateError, match="no host name and no IP address"):
        create(tmp_path / "tls", ["good.example", name], now=NOW)
    assert not (tmp_path / "tls" / "cert.pem").exists()


def test_a_damaged_authority_is_not_replaced(tmp_path: Path) -> None:
    made(folder=tmp_path)
    kept = tmp_path / "tls" / "ca-key.pem"
    kept.write_text("no key")
    ended = run(folder=tmp_path)
    assert ended.returncode == 1
    assert "does not hold an authority's key and certificate" in ended.stderr
    assert "move it away" in ended.stderr
    assert kept.read_text() == "no key"


def test_a_lost_copy_of_the_authority_is_written_again(tmp_path: Path) -> None:
    first = made(folder=tmp_path)
    (tmp_path / "tls" / "ca.pem").unlink()
    second = made(folder=tmp_path)
    assert second["ca_sha256"] == first["ca_sha256"]
    assert (tmp_path / "tls" / "ca.pem").exists()


def test_an_expired_certificate_is_renewed_like_any_other(tmp_path: Path) -> None:
    create(tmp_path / "tls", ["a.example"], days=1, now=NOW)
    later = create(tmp_path / "tls", [], days=1, now=NOW + dt.timedelta(days=30))
    assert later.names == ("a.example",)
    assert loaded(later.certificate).not_valid_after_utc > NOW + dt.timedelta(days=30)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_server_with_it_is_trusted_by_strict_clients_under_each_of_its_names(
    start_server: StartServer, tmp_path: Path, host: str
) -> None:
    data = tmp_path / "data"
    found = made(folder=data)  # before the first start: the folder is the server's all the same
    pair = Certificate(Path(found["certificate"]), Path(found["key"]))
    server = start_server(data, certificate=pair, arguments=["--host", host])
    context = ssl.create_default_context(cafile=found["ca"])
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    port = int(server.base_url.rpartition(":")[2])
    with (
        socket.create_connection((host, port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert secure.recv(12) == b"HTTP/1.1 200"
    with (
        socket.create_connection((host, port), timeout=60) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def test_addresses_are_addresses_and_not_names(tmp_path: Path) -> None:
    leaf = loaded(create(tmp_path / "tls", ["127.0.0.1"], now=NOW).certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
