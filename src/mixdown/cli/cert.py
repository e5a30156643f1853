"""`mixdown cert`: certificates for https, signed by an authority of one's own."""

from __future__ import annotations

import datetime as dt
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mixdown.cli.flags import data_dir_flag, json_flag, settings_from
from mixdown.cli.output import emit, printable
from mixdown.store.sqlite.folder import make_folder

if TYPE_CHECKING:
    from mixdown.server.certificates import Made

TLS_FOLDER: Final = "tls"

_NEXT: Final = """\
Serve with it (a running server that uses these files takes a new certificate within seconds):

  mixdown serve --host 0.0.0.0 --tls-cert {certificate} --tls-key {key}{data_dir}

Clients must trust {authority}. It may be copied anywhere; the key beside it, ca-key.pem, may not.

In an SDK's runtime, with nothing installed:

  Python (requests)   export REQUESTS_CA_BUNDLE={authority}
  Python, Ruby, Go    export SSL_CERT_FILE={authority}
  Node.js             export NODE_EXTRA_CA_CERTS={authority}
  curl                curl --cacert {authority} …
  PHP                 php -d openssl.cafile={authority} -d curl.cainfo={authority} …
  Java                keytool -importcert -noprompt -cacerts -storepass changeit -alias mixdown \\
                        -file {authority}

On a whole system, browsers included:

  Debian, Ubuntu      sudo cp {authority} /usr/local/share/ca-certificates/mixdown.crt
                      sudo update-ca-certificates
  Fedora, RHEL        sudo trust anchor {authority}
  macOS               sudo security add-trusted-cert -d -k /Library/Keychains/System.keychain {authority}
  Windows             certutil -addstore -f Root ca.pem
  Firefox             Settings, Privacy & Security, View Certificates, Authorities, Import
  Chrome on Linux     certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n mixdown -i {authority}
  iOS, iPadOS         send ca.pem to the device, install the profile, then switch it on in Settings, General,
                      About, Certificate Trust Settings
  Android             in the app: docs/tls.md has the network security configuration
"""


@click.group()
def cert() -> None:
    """Make certificates for https."""


@cert.command()
@click.argument("names", nargs=-1)
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    help="Where authority and certificate are kept. [default: tls in the data folder]",
)
@click.option(
    "--days",
    type=click.IntRange(1, 825),
    default=820,
    show_default=True,
    help="How long the certificate is valid; Apple's systems take no more than 825 days.",
)
@json_flag
@data_dir_flag
def create(
    *, names: tuple[str, ...], folder: str | None, days: int, as_json: bool, data_dir: str | None
) -> None:
    """Make a certificate for NAMES, and the local authority that signs it.

    NAMES are host names, wildcards (`*.example.com`) and IP addresses; without any, those of the certificate
    that is there already, or else localhost, 127.0.0.1, ::1 and this machine's host name. The authority is
    made once and kept, so that clients need to trust it once: a second run renews the certificate. Says how
    to serve with it and how to trust it. With --json: {"ca", "certificate", "key", "names", "expires",
    "ca_sha256", "new_ca"}.

    \b
    Examples:
      mixdown cert create
      mixdown cert create mixdown.example.com 192.168.1.20
    """
    from mixdown.server.certificates import create as create_certificate

    if folder is None:
        data = settings_from({"data_dir": data_dir}).data_dir.absolute()
        make_folder(data)  # closed to others from the start, like a server's
        where = data / TLS_FOLDER
    else:
        where = Path(folder).absolute()
    made = create_certificate(where, names, days=days, now=dt.datetime.now(dt.UTC))
    if as_json:
        emit(
            {
                "ca": str(made.authority),
                "certificate": str(made.certificate),
                "key": str(made.key),
                "names": list(made.names),
                "expires": made.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "ca_sha256": made.fingerprint,
                "new_ca": made.new_authority,
            }
        )
        return
    _tell(made, data_dir)


def _tell(made: Made, data_dir: str | None) -> None:
    verb = "Made" if made.new_authority else "Kept"
    click.echo(f"{verb} the authority {printable(made.authority)}")
    click.echo(f"  SHA-256 {made.fingerprint}")
    click.echo(f"Made the certificate {printable(made.certificate)}")
    click.echo(f"  for {printable(', '.join(made.names))}")
    click.echo(f"  valid until {made.expires:%Y-%m-%d}")
    click.echo("")
    click.echo(
        _NEXT.format(
            certificate=_quoted(made.certificate),
            key=_quoted(made.key),
            authority=_quoted(made.authority),
            data_dir="" if data_dir is None else f" --data-dir {shlex.quote(data_dir)}",
        ),
        nl=False,
    )


def _quoted(path: Path) -> str:
    return printable(shlex.quote(str(path)))
