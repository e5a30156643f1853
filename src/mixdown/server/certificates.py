"""Certificates of one's own: a local authority, made once and kept, and what it signs for a server.

Names and a folder enter; PEM files leave, whole or not at all, with mode 0600. The authority's key never
leaves its file. Nothing here is needed to serve: `server.listening` takes certificates from anywhere.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from mixdown.model.errors import MixdownError
from mixdown.store.sqlite.folder import FILE_MODE, make_folder, sync_folder

if TYPE_CHECKING:
    import trustme
    from cryptography import x509

AUTHORITY_KEY: Final = "ca-key.pem"
AUTHORITY: Final = "ca.pem"
CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"

DAYS_LIMIT: Final = 825
"""Apple's systems refuse server certificates that are valid for longer (support.apple.com/103769)."""
DAYS: Final = 820
_DAY: Final = dt.timedelta(days=1)
_ORGANISATION: Final = "Mixdown"
_NAME_LIMIT_CHARS: Final = 253
_LABEL: Final = re.compile(r"(?!-)[^\W_](?:[^\W_]|-){0,62}(?<!-)")


class CertificateError(MixdownError):
    """A certificate cannot be made: a name is none, or the authority's file is damaged."""


class Made(msgspec.Struct, frozen=True):
    """What was made, and where. `fingerprint` is the authority's SHA-256 in hex; `expires` is in UTC."""

    authority: Path
    certificate: Path
    key: Path
    names: tuple[str, ...]
    expires: dt.datetime
    fingerprint: str
    new_authority: bool


def default_names() -> tuple[str, ...]:
    """What this machine is called from itself, and by its host name."""
    host = socket.gethostname().rstrip(".").lower()
    names = ["localhost", "127.0.0.1", "::1"]
    with contextlib.suppress(CertificateError):
        if host:
            names.append(checked_name(host))
    return tuple(dict.fromkeys(names))


def checked_name(name: str) -> str:
    """A host name, `*.` and a host name, or an IP address. Raises `CertificateError`."""
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    labels = name.removeprefix("*.").split(".")
    if len(name) > _NAME_LIMIT_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise _no_name(name)
    return name


def _no_name(name: str) -> CertificateError:
    return CertificateError(
        f"{name!r} is no host name and no IP address",
        hint="Give names alone, without https:// and without a port: mixdown.example.com 192.168.1.20",
    )


def create(folder: Path, names: Sequence[str], *, days: int = DAYS, now: dt.datetime) -> Made:
    """Make a certificate for `names`, and first the authority that signs it if `folder` has none.

    Without names: those of the certificate that is there already, or else `default_names`. `now` is an
    aware time; the certificate is valid from an hour before, for `days` days at most `DAYS_LIMIT`.

    Raises:
        CertificateError: a name is none, or what is in the folder cannot be used.
        StoreError: the folder cannot be made, or is open to others and holds their things.
    """
    wanted = tuple(dict.fromkeys(checked_name(name) for name in names))
    make_folder(folder)
    with _turn(folder):
        wanted = wanted or _names_in(folder / CERTIFICATE) or default_names()
        authority, is_new = _authority(folder)
        begin = now - dt.timedelta(hours=1)
        expires = begin + days * _DAY - dt.timedelta(seconds=1)
        try:
            leaf = authority.issue_cert(
                *wanted,
                organization_name=_ORGANISATION,
                organization_unit_name="server",
                not_before=begin,
                not_after=expires,
            )
        except UnicodeError as error:  # a name that is none in any script
            raise _no_name(" ".join(wanted)) from error
        # the key first: who reads the pair in between finds that they do not match, and keeps what it has
        _write(folder / KEY, leaf.private_key_pem.bytes())
        _write(folder / CERTIFICATE, b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        sync_folder(folder)
    return Made(
        authority=folder / AUTHORITY,
        certificate=folder / CERTIFICATE,
        key=folder / KEY,
        names=_names_in(folder / CERTIFICATE),
        expires=expires,
        fingerprint=_fingerprint(authority.cert_pem.bytes()),
        new_authority=is_new,
    )


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One at a time: two that begin together would make two authorities."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _authority(folder: Path) -> tuple[trustme.CA, bool]:
    """The authority that is kept in one file, key and certificate together, and whether it is new."""
    import trustme  # noqa: PLC0415 - it brings `cryptography`, which is for this command alone

    kept = folder / AUTHORITY_KEY
    try:
        pem = kept.read_bytes()
    except FileNotFoundError:
        made = trustme.CA(
            path_length=0,
            organization_name=_ORGANISATION,
            organization_unit_name=f"local authority of {socket.gethostname()}",
        )
        _write(kept, made.private_key_pem.bytes() + made.cert_pem.bytes())
        authority, is_new = made, True
    else:
        try:
            authority, is_new = trustme.CA.from_pem(pem, pem), False
        except ValueError as error:
            raise CertificateError(
                f"{kept} does not hold an authority's key and certificate",
                hint="Restore it, or move it away: the next run makes a new one, to be trusted afresh.",
            ) from error
        if kept.stat().st_mode & 0o077:
            kept.chmod(FILE_MODE)
    shown = folder / AUTHORITY
    if not shown.exists() or shown.read_bytes() != authority.cert_pem.bytes():
        _write(shown, authority.cert_pem.bytes())
    return authority, is_new


def _names_in(path: Path) -> tuple[str, ...]:
    """The names of a certificate that was made before; none where there is none, or none of ours."""
    found = _load(path)
    if found is None:
        return ()
    from cryptography import x509  # noqa: PLC0415 - see above

    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    )


def _load(path: Path) -> x509.Certificate | None:
    from cryptography import x509  # noqa: PLC0415 - see above

    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _fingerprint(pem: bytes) -> str:
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - see above

    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


def _write(path: Path, content: bytes) -> None:
    """Replace a file; a reader finds the old one or the new one."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    unfinished.replace(path)
