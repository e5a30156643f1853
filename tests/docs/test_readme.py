"""What the README shows is what happens: its commands run as written, and its output is the real one.

Address, token, secret and virtual environment are replaced by those of a server that the test starts;
times, random ids and durations are compared by their shape.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from mixdown.server.first_start import Access
from mixdown.server.greeting import greeting
from mixdown.settings import Settings
from mixdown.store.protocols import Project
from tests import engine
from tests.docs.snippets import Step, blocks, shown_by, tour
from tests.sdk.npm import NODE, npm_install
from tests.serving import Profile, Server, StartServer, server, start_server

__all__ = ["server", "start_server"]

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "tests" / "data" / "sample"
README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:6493"
SHAPES = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|\+00:00)?"), "TIME"),
    (re.compile(r'"whole-[\d-]+"'), '"SESSION"'),
    (re.compile(r"\d+\.\d\d s\b"), "DURATION"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "SECRET"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "TOKEN"),
    (re.compile(r"curl/[\d.]+"), "CURL"),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
]


def shape(text: str) -> str:
    """A text with what differs from run to run replaced by its kind.

    PostgreSQL has an order of its own for the names within a profile: there JSON is compared as what it says,
    and a table of properties as what its rows are.
    """
    for pattern, kind in SHAPES:
        text = pattern.sub(kind, text)
    text = text.strip("\n")
    if not engine.ON_POSTGRES:
        return text
    if text.lstrip().startswith("property "):
        head, rule, *rows = text.split("\n")
        return "\n".join([head, rule, *sorted(rows)])
    whole = sorted_names(text)
    return whole if whole != text else "\n".join(map(sorted_names, text.split("\n")))


def sorted_names(text: str) -> str:
    """JSON with the names in order; what is none as it is."""
    with suppress(ValueError):
        return json.dumps(json.loads(text), sort_keys=True)
    return text


def plain_environment() -> dict[str, str]:
    """The variables of this process, without settings of Mixdown, proxies, and the size of a terminal.

    Nor what makes Python write at once: a reader's commands run without it, and must show things in order.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MIXDOWN_")
        and not name.lower().endswith("_proxy")
        and name not in ("COLUMNS", "LINES", "PYTHONUNBUFFERED")
    }


@pytest.fixture(autouse=True)
def needs_curl() -> None:
    """Skip where the commands of a reader cannot run."""
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("curl and bash, which the examples use, are not installed")


def walk(server: Server, steps: list[Step]) -> list[tuple[str, str]]:
    """Run the steps against a server; what the README shows and what a terminal showed, of each."""
    environment = {
        **plain_environment(),
        "TOKEN": server.token,
        "SECRET": server.secret,
        "MIXDOWN_DATA_DIR": str(server.data_dir),
        **engine.variables(server.data_dir),
        "TERM": "xterm",
    }
    pairs = []
    for step in steps:
        code = step.code.replace(ADDRESS, server.base_url).replace(
            ".venv/bin", str(Path(sys.executable).parent)
        )
        code = code.replace("load_profiles.py", f"load_profiles.py --url {server.base_url}")
        assert step.shown is not None, f"the README does not show what this prints:\n{step.code}"
        pairs.append((shape(step.shown), shape(shown_by(code, folder=ROOT, environment=environment))))
    return pairs


def sample(name: str) -> dict[str, Profile]:
    """A file of the sample: properties by id."""
    with gzip.open(SAMPLE / f"{name}.ndjson.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {row.get("$distinct_id") or row["$group_id"]: row["$properties"] for row in rows}


def told_apart(profiles: Mapping[str, Profile]) -> dict[str, str]:
    """Profiles as texts that differ where a value or its type does, without `$last_seen`."""
    own = {key: {name: kept[name] for name in kept if name != "$last_seen"} for key, kept in profiles.items()}
    return {key: json.dumps(properties, sort_keys=True) for key, properties in own.items()}


@pytest.mark.slow
def test_the_tour_shows_what_happens(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(engine.undivided(tmp_path / "data"))
    steps = [step for step in tour(README) if "uncut" not in step.tags]
    assert len(steps) >= 7
    for shown, happened in walk(server, steps):
        assert happened == shown
    stored, sent = told_apart(server.profiles()), told_apart(sample("users"))
    assert sum(stored[key] != sent[key] for key in sent) == 50  # those with a long text, which is cut
    changed = next(iter(sent))
    server.post("/engage", [{"$token": server.token, "$distinct_id": changed, "$set": {"age": 1}}])
    command = [sys.executable, "examples/load_profiles.py", "--check", "--url", server.base_url]
    command += ["--token", server.token, "--secret", server.secret, str(SAMPLE / "users.ndjson.gz")]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 1, checked
    assert f"1 different, 0 missing\n  different: {changed}\n" in checked.stdout


def test_the_sample_comes_back_equal_as_the_readme_shows(start_server: StartServer) -> None:
    server = start_server(environment={"MIXDOWN_STRING_LIMIT_BYTES": "0"})
    ((shown, happened),) = walk(server, [step for step in tour(README) if "uncut" in step.tags])
    assert happened == shown
    users, groups = sample("users"), sample("groups")
    assert (len(users), len(groups)) == (5000, 500)
    assert told_apart(server.profiles()) == told_apart(users)
    assert told_apart(server.groups("company_id")) == told_apart(groups)


def test_the_first_start_prints_what_the_readme_shows() -> None:
    shown = next(block.code for block in blocks(README) if "is ready." in block.code)
    token, secret, password = re.findall(r"^  (?:Token|Secret|Password) +(\S+)$", shown, re.MULTILINE)
    folder = re.findall(r"^  Data +(\S+)$", shown, re.MULTILINE)[0]
    project = Project(1, "default", token, b"")
    access = Access(project, secret=secret, user="owner", password=password, new=True)
    printed = greeting(ADDRESS, Settings(data_dir=Path(folder)), access)
    assert printed.rstrip().splitlines() == shown.rstrip().splitlines()


def snippet(language: str, word: str) -> str:
    """The one block of a language that holds a word."""
    (found,) = [block.code for block in blocks(README) if block.language == language and word in block.code]
    return found


def test_the_python_snippet_stores_what_it_says(server: Server) -> None:
    code = snippet("python", "people_set").replace("YOUR_TOKEN", server.token)
    code = code.replace(ADDRESS, server.base_url).replace('"ada"', '"python"')
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert server.profiles()["python"]["plan"] == "pro"
    assert server.groups("Company")["Acme"]["seats"] == 12


@pytest.mark.slow
def test_the_node_snippet_stores_what_it_says(server: Server) -> None:
    problem = npm_install()
    if problem:
        pytest.skip(problem)
    code = snippet("js", 'people.set("ada"').replace("YOUR_TOKEN", server.token)
    code = code.replace("6493", server.base_url.rpartition(":")[2]).replace('"ada"', '"node"')
    subprocess.run(["node", "-e", code.replace("Acme", "Node")], check=True, timeout=120, cwd=NODE)
    assert server.profiles()["node"]["plan"] == "pro"
    assert server.groups("Company")["Node"]["seats"] == 12


def test_the_examples_of_the_http_api_work(server: Server) -> None:
    page = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
    examples = [block.code for block in blocks(page) if block.language == "sh"]
    assert len(examples) >= 3
    values = {ADDRESS: server.base_url, "TOKEN": server.token, "USER:PASSWORD": ":".join(server.account)}
    named = re.compile("|".join(map(re.escape, values)))
    for example in examples:
        code = named.sub(lambda match: values[match[0]], example).replace("curl ", "curl -sS ", 1)
        shown = shown_by(code, folder=ROOT, environment=plain_environment())
        answer = json.loads(shown)
        assert answer.get("status") in (1, "ok", "OK") or answer.get("openapi") == "3.1.0", shown
    assert server.profiles()["ada"]["logins"] == 2


def test_a_readme_that_shows_something_else_is_noticed() -> None:
    shown = '{\n  "computed_at": "2026-11-22T04:05:57+00:00",\n  "total": 1\n}'
    assert shape(shown) == shape(shown.replace("04:05:57", "11:12:13"))
    assert shape(shown) != shape(shown.replace("1\n}", "2\n}"))
    with pytest.raises(AssertionError, match="ended with status 3"):
        shown_by("echo before; exit 3", folder=ROOT, environment=plain_environment())
