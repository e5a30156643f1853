"""The redirect helper for Node: TLS connections to Mixpanel reach Mixdown, all others are left alone."""

import os
import subprocess
from collections.abc import Mapping

import pytest

from tests.sdk.support import NODE_MODULES, NODE_REDIRECT, stored_user
from tests.serving import Server

pytestmark = pytest.mark.slow  # the first test may have to install it

# One GET by every HTTP client that Node programs use, and by TLS itself.
CLIENTS = {
    "https": 'require("node:https").get(url, (reply) => reply.on("data", (part) => console.log(`${part}`)));',
    "fetch": "fetch(url).then((reply) => reply.text()).then(console.log);",
    "undici": 'require("undici").request(url).then((reply) => reply.body.text()).then(console.log);',
    "got": 'require("got")(url).then((reply) => console.log(reply.body));',
    "tls": """
        const socket = require("node:tls").connect(443, url.hostname, { servername: url.hostname }, () => {
          const lines = [`GET ${url.pathname}${url.search} HTTP/1.1`, `Host: ${url.hostname}`];
          lines.push("Connection: close");
          socket.write(`${lines.join("\\r\\n")}\\r\\n\\r\\n`);
        });
        let reply = "";
        socket.on("data", (chunk) => (reply += chunk)).on("end", () => console.log(reply.slice(-1)));
    """,
}


def run(program: str, environment: Mapping[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    """Run a Node program with the helper loaded first."""
    return subprocess.run(
        ["node", "--require", str(NODE_REDIRECT), "--eval", program],
        env={**environment, "NODE_PATH": str(NODE_MODULES), **more},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def send_with(client: str, server: Server, user: str, host: str, environment: Mapping[str, str]) -> None:
    """Set one property by GET at a host of Mixpanel's; the answer must be that of a stored record."""
    update = {"$token": server.token, "$distinct_id": user, "$set": {client: host}}
    address = f"const url = new URL('https://{host}/engage');"
    address += f"url.searchParams.set('data', JSON.stringify({update!r}));"
    trust = server.certificate
    extra = {} if trust is None else {"NODE_EXTRA_CA_CERTS": str(trust.certificate_file)}
    ended = run(address + CLIENTS[client], environment, MIXDOWN_BASE=server.base_url, **extra)
    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr


@pytest.mark.parametrize("client", CLIENTS)
def test_every_http_client_of_node_reaches_mixdown_without_tls(
    server: Server, node_environment: Mapping[str, str], client: str
) -> None:
    send_with(client, server, f"redirect {client}", "api.mixpanel.com", node_environment)
    assert stored_user(server, f"redirect {client}") == {client: "api.mixpanel.com"}


@pytest.mark.parametrize("client", CLIENTS)
def test_every_http_client_of_node_reaches_mixdown_with_tls(
    tls_server: Server, node_environment: Mapping[str, str], client: str
) -> None:
    send_with(client, tls_server, f"redirect {client}", "api-eu.mixpanel.com", node_environment)
    assert stored_user(tls_server, f"redirect {client}") == {client: "api-eu.mixpanel.com"}


@pytest.mark.parametrize("host", ["localhost", "notmixpanel.com", "mixpanel.com.localhost"])
def test_other_hosts_are_left_alone(
    tls_server: Server, server: Server, node_environment: Mapping[str, str], host: str
) -> None:
    port = tls_server.base_url.rpartition(":")[2]
    assert tls_server.certificate is not None
    program = f"""
        const here = {{ address: "127.0.0.1", family: 4 }};
        const lookup = (name, {{ all }}, done) => (all ? done(null, [here]) : done(null, here.address, 4));
        const options = {{ host: "{host}", port: {port}, lookup, rejectUnauthorized: false }};
        const socket = require("node:tls").connect(options, () => {{
          console.log(socket.encrypted, socket.getPeerCertificate().subject.CN);
          socket.destroy();
        }});
    """
    ended = run(program, node_environment, MIXDOWN_BASE=server.base_url)
    assert (ended.returncode, ended.stdout) == (0, "true Mixdown tests\n"), ended.stderr


@pytest.mark.usefixtures("node_environment")
@pytest.mark.parametrize(
    "base", ["127.0.0.1:6493", "http://", "ftp://127.0.0.1", "http://127.0.0.1:6493/engage"]
)
def test_an_address_that_cannot_be_meant_ends_the_program_before_it_sends_anything(base: str) -> None:
    ended = run("console.log('sent')", os.environ, MIXDOWN_BASE=base)
    assert ended.returncode != 0
    assert "MIXDOWN_BASE must look like" in ended.stderr
    assert "sent" not in ended.stdout
