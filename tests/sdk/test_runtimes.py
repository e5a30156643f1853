"""Java, Ruby, PHP, curl and Python trust an authority of `mixdown cert create` as docs/tls.md says.

Their SDKs cannot be installed from where the tests get their packages. So each runtime's own HTTP client
sends a record in the form that its SDK's published source gives it; the snippets of docs/sdks.md are checked
for their syntax where the runtime can do that.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sdk.support import ROOT, stored_user
from tests.sdk.test_https_only import Trusted, trusted
from tests.serving import Server

__all__ = ["trusted"]  # a fixture

pytestmark = pytest.mark.slow

RUNTIMES = Path(__file__).parent / "runtimes"
TEXT = "Zoë + & = % 東京 🎉"
SEND = """
import sys, urllib.parse, urllib.request
body = urllib.parse.urlencode({"data": sys.argv[2]}).encode()
print(urllib.request.urlopen(sys.argv[1] + "/engage", body).read().decode(), end="")
"""


def run(command: list[str], **environment: str) -> str:
    """What a program prints; skips where there is no such program."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    ended = subprocess.run(
        command,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return ended.stdout + ended.stderr


def record(server: Server, user: str) -> str:
    """An update, as JSON."""
    return json.dumps({"$token": server.token, "$distinct_id": user, "$set": {"text": TEXT}})


@pytest.fixture
def trust_store(trusted: Trusted, tmp_path: Path) -> Path:
    """A store of Java's with the authority in it, made as docs/tls.md says."""
    store = tmp_path / "trust.p12"
    command = ["keytool", "-importcert", "-noprompt", "-storepass", "changeit", "-alias", "mixdown"]
    run([*command, "-keystore", str(store), "-file", str(trusted.authority)])
    return store


def test_java_trusts_its_store(trusted: Trusted, trust_store: Path) -> None:
    server = trusted.server
    program = [str(RUNTIMES / "Send.java"), server.base_url, record(server, "java")]
    trust = [f"-Djavax.net.ssl.trustStore={trust_store}", "-Djavax.net.ssl.trustStorePassword=changeit"]
    assert run(["java", *trust, *program], LC_ALL="C.UTF-8") == "1"
    assert stored_user(server, "java") == {"text": TEXT}
    assert "SSLHandshakeException" in run(["java", *program], LC_ALL="C.UTF-8")


def test_ruby_trusts_the_file_of_its_variable(trusted: Trusted) -> None:
    server = trusted.server
    command = ["ruby", str(RUNTIMES / "send.rb"), server.base_url, record(server, "ruby")]
    assert json.loads(run(command, SSL_CERT_FILE=str(trusted.authority))) == {"error": None, "status": 1}
    assert stored_user(server, "ruby") == {"text": TEXT}
    assert "certificate verify failed" in run(command)


def test_php_trusts_the_file_of_its_setting(trusted: Trusted) -> None:
    server = trusted.server
    program = [str(RUNTIMES / "send.php"), server.base_url, record(server, "php")]
    settings = ["-d", f"openssl.cafile={trusted.authority}", "-d", f"curl.cainfo={trusted.authority}"]
    reply = run(["php", *settings, *program])
    if "undefined function curl_init" in reply:
        pytest.skip("PHP's cURL extension is not installed")
    assert reply == "1"
    assert stored_user(server, "php") == {"text": TEXT}
    assert "certificate" in run(["php", *program])


def test_curl_trusts_the_file_it_is_given(trusted: Trusted) -> None:
    server = trusted.server
    command = ["curl", "--silent", "--show-error", "--data-urlencode", f"data={record(server, 'curl')}"]
    command += [f"{server.base_url}/engage"]
    assert run([*command, "--cacert", str(trusted.authority)]) == "1"
    assert run(command, CURL_CA_BUNDLE=str(trusted.authority)) == "1"
    assert stored_user(server, "curl") == {"text": TEXT}
    assert "certificate" in run(command)


def test_python_trusts_the_file_of_its_variable(trusted: Trusted) -> None:
    server = trusted.server
    command = ["python3", "-c", SEND, server.base_url, record(server, "urllib")]
    assert run(command, SSL_CERT_FILE=str(trusted.authority)) == "1"
    assert stored_user(server, "urllib") == {"text": TEXT}
    assert "CERTIFICATE_VERIFY_FAILED" in run(command)


@pytest.mark.parametrize(("language", "command"), [("ruby", ["ruby", "-c"]), ("php", ["php", "-l"])])
def test_snippets_that_cannot_be_run_are_at_least_programs(
    tmp_path: Path, language: str, command: list[str]
) -> None:
    page = (ROOT / "docs" / "sdks.md").read_text()
    [code] = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "snippet"
    file.write_text(f"<?php\n{code}" if language == "php" else code)
    said = run([*command, str(file)])
    assert "Syntax OK" in said or "No syntax errors" in said
