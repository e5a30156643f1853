"""Where the database is: TLS that is verified, passwords from files, and none of it in any message."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from mixdown.model.errors import SettingsError, StoreError
from mixdown.store.postgres.address import address_of
from mixdown.store.postgres.connection import Database
from tests.durability.processes import free_port
from tests.store.postgres import Server, postgres_server

HOST = "db.example.com"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://u@db.example.com/d", "verify-full"),
        ("postgresql://u@10.0.0.7/d", "verify-full"),
        ("postgresql://u@localhost,db.example.com/d", "verify-full"),
        ("host=db.example.com dbname=d", "verify-full"),
        ("postgresql://u@db.example.com/d?sslmode=require", "require"),
        ("postgresql://u@localhost/d", None),
        ("postgresql://u@127.0.0.5/d", None),
        ("postgresql://u@[::1]/d", None),
        ("postgresql://u@/d?host=/run/postgresql", None),
        ("postgresql:///d", None),
    ],
)
def test_tls_is_verified_for_other_machines_unless_the_url_says_otherwise(url: str, mode: str | None) -> None:
    assert address_of(url).parameters.get("sslmode") == mode


def test_the_environment_says_otherwise_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert "sslmode" not in address_of("postgresql://u@db.example.com/d").parameters
    monkeypatch.delenv("PGSSLMODE")
    monkeypatch.setenv("PGHOST", "db.example.com")
    assert address_of("postgresql:///d").parameters["sslmode"] == "verify-full"


def test_authorities_are_those_of_the_system_unless_some_are_named(tmp_path: Path) -> None:
    found = address_of("postgresql://u@db.example.com/d").parameters["sslrootcert"]
    assert found == "system" or Path(found).is_file()
    named = address_of("postgresql://u@db.example.com/d?sslrootcert=/own.pem").parameters
    assert named["sslrootcert"] == "/own.pem"
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").write_text("")
    assert "sslrootcert" not in address_of("postgresql://u@db.example.com/d").parameters


def test_of_several_hosts_the_one_that_takes_writes_is_wanted() -> None:
    assert address_of("postgresql://u@a,b/d").parameters["target_session_attrs"] == "read-write"
    given = address_of("postgresql://u@a,b/d?target_session_attrs=any").parameters
    assert given["target_session_attrs"] == "any"
    assert "target_session_attrs" not in address_of("postgresql://u@a/d").parameters


def test_messages_name_the_place_and_no_credentials() -> None:
    what = address_of("postgresql://someone:hunter2@db.example.com:6432/shop").what
    assert what == "the database shop on db.example.com:6432"
    with pytest.raises(SettingsError) as raised:
        address_of("postgresql://someone:hunter2%@db.example.com/shop")
    assert "hunter2" not in f"{raised.value}{raised.value.__cause__}"
    assert raised.value.__suppress_context__


def test_a_password_file_is_read_at_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    address = address_of("postgresql://u:ignored@h/d", password_file=str(file))
    assert address.current()["password"] == "first"
    file.write_text("second")
    assert address.current()["password"] == "second"
    file.unlink()
    with pytest.raises(StoreError, match="password cannot be read"):
        address.current()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def encrypted(authority: trustme.CA, postgresql: Server) -> Iterator[tuple[Server, int]]:
    """A server that has a certificate for `HOST`, asks for passwords, and listens on loopback."""
    del postgresql  # skips where PostgreSQL is not tried
    port = free_port()
    with postgres_server({"listen_addresses": "127.0.0.1", "port": str(port)}) as server:
        leaf = authority.issue_cert(HOST)
        leaf.private_key_pem.write_to_path(server.folder / "server.key")
        leaf.cert_chain_pems[0].write_to_path(server.folder / "server.crt")
        owner = (server.folder / "data").stat()
        for name in ("server.key", "server.crt"):
            os.chown(server.folder / name, owner.st_uid, owner.st_gid)
            (server.folder / name).chmod(0o600)
        (server.folder / "data" / "pg_hba.conf").write_text(
            "local all all trust\nhostssl all all all scram-sha-256\n"
        )
        with server.connect() as connection:
            connection.execute("CREATE USER shop PASSWORD 'right'")
            for name, value in (
                ("ssl_key_file", "server.key"),
                ("ssl_cert_file", "server.crt"),
            ):
                connection.execute(f"ALTER SYSTEM SET {name} = '{server.folder}/{value}'")
            connection.execute("ALTER SYSTEM SET ssl = on")
            connection.execute("SELECT pg_reload_conf()")
        yield server, port


def asked(url: str, password_file: Path | None = None) -> object:
    database = Database(url, password_file=str(password_file or ""))
    try:
        return database.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    finally:
        database.close()


def test_a_server_is_believed_that_has_a_certificate_for_its_name_from_somebody_trusted(
    encrypted: tuple[Server, int], authority: trustme.CA, tmp_path: Path
) -> None:
    _, port = encrypted
    own = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(own)
    password = tmp_path / "password"
    password.write_text("right\n")
    there = f"postgresql://shop@{HOST}:{port}/postgres?hostaddr=127.0.0.1"
    assert asked(f"{there}&sslrootcert={own}", password) is True
    with pytest.raises(StoreError, match="certificate"):
        asked(there, password)  # the system trusts no such authority
    elsewhere = there.replace(HOST, "other.example.com")
    with pytest.raises(StoreError, match=r"other\.example\.com"):
        asked(f"{elsewhere}&sslrootcert={own}", password)
    assert asked(f"{elsewhere}&sslmode=require", password) is True
    (tmp_path / ".postgresql").mkdir()
    shutil.copy(own, tmp_path / ".postgresql" / "root.crt")
    assert asked(there, password) is True


def test_a_wrong_password_is_told_and_not_shown(
    encrypted: tuple[Server, int], authority: trustme.CA, tmp_path: Path
) -> None:
    _, port = encrypted
    own = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(own)
    url = f"postgresql://shop:hunter2@{HOST}:{port}/postgres?hostaddr=127.0.0.1&sslrootcert={own}"
    with pytest.raises(StoreError) as raised:
        asked(url)
    assert "password authentication failed" in raised.value.message
    assert "MIXDOWN_DATABASE_PASSWORD_FILE" in raised.value.hint
    assert "hunter2" not in str(raised.value)
