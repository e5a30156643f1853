"""Sockets and certificates: everything that can be wrong with them is found here, before a child starts.

Settings enter; bound sockets and TLS contexts leave, or a `SettingsError` that says what to do next.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from pathlib import Path
from typing import Final

from mixdown.model.errors import SettingsError
from mixdown.settings import Settings

BACKLOG: Final = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; with port 0 the system chooses one. Raises `SettingsError`."""
    family, address = _resolve(host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` means every address, those of IPv4 included.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _refusal(host, port, error) from error
    return sock


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise SettingsError(
            f"the host {host!r} has no address",
            hint="Use --host 127.0.0.1 for this machine alone, or --host 0.0.0.0 for every address it has.",
        ) from error
    # `localhost` has two addresses on many machines: the one that more clients try first.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, (str(address[0]), int(address[1]))


def _refusal(host: str, port: int, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(
            f"port {port} of {host} is taken by another program",
            hint="Stop that program, or choose another port with --port (0 takes any free one).",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingsError(
            f"{host} is not an address of this machine",
            hint="Use --host 127.0.0.1 for this machine alone, or --host 0.0.0.0 for every address it has.",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return SettingsError(
            f"this user may not listen on port {port} of {host}",
            hint="Ports below 1024 need more rights: choose a higher one with --port.",
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    return SettingsError(f"cannot listen on port {port} of {host}: {reason}", hint="Check --host and --port.")


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context of `tls_cert` and `tls_key` (TLS 1.2 or newer), None without them.

    Raises:
        SettingsError: a file cannot be read, is no PEM file, or the key is not that of the certificate.
    """
    if not settings.tls_cert:
        return None
    for name, path in (("--tls-cert", settings.tls_cert), ("--tls-key", settings.tls_key)):
        try:
            with open(path, "rb"):  # noqa: PTH123 - only whether it opens
                pass
        except OSError as error:
            raise SettingsError(
                f"{name}: {path} cannot be read: {error.strerror}",
                hint="Name a PEM file that this user may read.",
            ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=_no_password)
    except OSError as error:  # an SSLError is one; so is a file that went away meanwhile
        if not isinstance(error, ssl.SSLError):
            raise SettingsError(
                f"--tls-cert or --tls-key cannot be read: {error.strerror}",
                hint="Name two PEM files that this user may read.",
            ) from error
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(
                f"the key {settings.tls_key} is not that of the certificate {settings.tls_cert}",
                hint="Name the two files that were made together.",
            ) from error
        raise SettingsError(
            f"{settings.tls_cert} and {settings.tls_key} are not a certificate and a key in PEM form",
            hint="--tls-cert takes the certificate with its chain, --tls-key the private key.",
        ) from error
    return context


def certificate_end(settings: Settings) -> float:
    """When the certificate of `tls_cert` ends, in Unix time; 0 without one.

    Raises:
        SettingsError: the file is no certificate in PEM form.
    """
    if not settings.tls_cert:
        return 0.0
    from cryptography import x509  # noqa: PLC0415 - only with TLS: it takes some megabytes

    try:
        chain = x509.load_pem_x509_certificates(Path(settings.tls_cert).read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{settings.tls_cert} cannot be read as a certificate: {error}") from error
    return chain[0].not_valid_after_utc.timestamp()


def _no_password() -> str:
    raise SettingsError(
        "the private key of --tls-key has a passphrase",
        hint="Store it without one: openssl pkey -in KEY -out NEW",
    )


def is_loopback(sock: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    host = sock.getsockname()[0]
    return bool(host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1"))


def address_of(sock: socket.socket, settings: Settings) -> str:
    """The URL at which this machine reaches the socket, without a trailing slash."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    elif settings.host.isascii() and not _numeric(settings.host):
        host = settings.host  # a certificate is likely to name it
    if ":" in host:
        host = f"[{host}]"
    return f"{'https' if settings.tls_cert else 'http'}://{host}:{port}"


def _numeric(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
