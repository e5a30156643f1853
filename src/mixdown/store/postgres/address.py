"""Where the database is: a URL, as people give it, made into what libpq connects with.

Enters: `--database-url`, the environment's PG* variables, a file that holds the password. Leaves: parameters
of libpq, and a name for messages that quotes no password. Nothing connects here.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from typing import Final

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

from mixdown.model.errors import SettingsError, StoreError

CONNECT_LIMIT_S: Final = 5
# A network that swallows packets is noticed within half a minute; what the URL says instead counts.
_LIVENESS: Final = {
    "connect_timeout": str(CONNECT_LIMIT_S),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# Where Linux distributions keep the authorities that the system trusts.
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_PASSWORD_LIMIT_BYTES: Final = 4096


class Address(msgspec.Struct, frozen=True):
    """Where a database is; `what` names it in messages."""

    what: str
    parameters: dict[str, str]
    password_file: str = ""

    def current(self) -> dict[str, str]:
        """The parameters to connect with now: a password file is read anew. Raises `StoreError`."""
        if not self.password_file:
            return self.parameters
        try:
            with Path(self.password_file).open(encoding="utf-8") as file:
                password = file.read(_PASSWORD_LIMIT_BYTES).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(
                f"the file with the database's password cannot be read: {error}",
                hint="MIXDOWN_DATABASE_PASSWORD_FILE names a text file that this user may read.",
            ) from error
        return {**self.parameters, "password": password}


def address_of(url: str, *, application: str = "mixdown", password_file: str = "") -> Address:
    """What a URL says, with what Mixdown adds where it is silent: TLS that is verified, signs of life.

    Raises `SettingsError`.
    """
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError:
        # what libpq says of it quotes it, and a password may stand in it
        raise SettingsError(
            "database_url cannot be read",
            hint="It is of the form postgresql://user@host:5432/database?option=value, where other characters"
            " than letters and digits are written as %40.",
        ) from None
    hosts = _hosts(given)
    parameters = {**_LIVENESS, "application_name": application, **given, "client_encoding": "UTF8"}
    if len(hosts) > 1 and "PGTARGETSESSIONATTRS" not in os.environ:
        parameters.setdefault("target_session_attrs", "read-write")  # the primary, whichever it is now
    if not all(map(_is_local, hosts)):
        if "PGSSLMODE" not in os.environ:
            parameters.setdefault("sslmode", "verify-full")
        if parameters.get("sslmode", "").startswith("verify") and not _names_authorities(given):
            parameters["sslrootcert"] = _system_authorities()
    return Address(_named(given, hosts), parameters, password_file)


def _hosts(given: dict[str, str]) -> list[str]:
    host = given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST") or ""
    return host.split(",")


def _is_local(host: str) -> bool:
    """Whether a connection stays on this machine: a socket, or a loopback address."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _names_authorities(given: dict[str, str]) -> bool:
    own = Path("~/.postgresql/root.crt").expanduser()
    return "sslrootcert" in given or "PGSSLROOTCERT" in os.environ or own.exists()


def _system_authorities() -> str:
    """A file of the authorities that the system trusts: libpq comes with an OpenSSL that knows none."""
    places = (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *_BUNDLES)
    return next((place for place in places if place and Path(place).is_file()), "system")


def _named(given: dict[str, str], hosts: list[str]) -> str:
    port = given.get("port") or os.environ.get("PGPORT") or ""
    database = given.get("dbname") or os.environ.get("PGDATABASE") or given.get("user") or "of this user"
    place = ",".join(hosts) or "this machine"
    return f"the database {database} on {place}{f':{port}' if port else ''}"
