"""Everything that a user can meet has documentation: settings, routes, flags, metrics, error texts.

What there is is asked of the code itself, so that a new setting, route or text fails here until it is written
down. The documents are compared as text: what matters is that a search in them finds it.
"""

import ast
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from mixdown.cli.root import root
from mixdown.explorer import problems, session
from mixdown.http import advice, auxiliary, cohorts, engage, read_errors
from mixdown.http import app as http_app
from mixdown.http.lookup_tables import LISTING, REPLACING, LookupPath
from mixdown.http.metrics import METRICS, Metric, Metrics
from mixdown.http.openapi import path_of
from mixdown.http.services import Services
from mixdown.ingest.pipeline import Ingest
from mixdown.model import texts
from mixdown.query.engage import UNCACHED
from mixdown.server.worker import application, now_ms
from mixdown.settings import SETTINGS, Setting, Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.memory import MemoryStore

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "src" / "mixdown"
HTTP_API = "docs/http-api.md"
CONFIGURATION = "docs/configuration.md"
COMMAND_LINE = "docs/command-line.md"
OPERATIONS = "docs/operations.md"

# Calls whose arguments are texts that clients get to read, and the rooms in which such calls stand.
ERROR_CALLS = frozenset(
    {
        "AuthError", "BodyError", "OverloadedError", "QueryError", "RequestError", "_RefusedError", "_refuse",
        "_wrong", "error_reply", "read_error",
    }
)  # fmt: skip
ANSWERING_ROOMS = ("http", "ingest", "query", "server/protocol.py")
MORE_TEXTS = {
    "http.engage.RAW_COHORT": engage.RAW_COHORT,
    "http.engage.TOO_LONG": engage.TOO_LONG,
    "http.cohorts.TOO_LONG": cohorts.TOO_LONG,
    "http.cohorts.ONE_OF_TWO": cohorts.ONE_OF_TWO,
    "http.read_errors.INVALID_ENDPOINT": read_errors.INVALID_ENDPOINT,
    "http.read_errors.METHOD_NOT_ALLOWED": read_errors.METHOD_NOT_ALLOWED,
    "http.read_errors.STORE_DOWN": read_errors.STORE_DOWN,
    "http.read_errors.UNAUTHENTICATED": read_errors.UNAUTHENTICATED,
    "query.engage.UNCACHED": UNCACHED,
    **{
        f"explorer.{room.__name__}.{name}": getattr(room, name)
        for room, names in (
            (session, ("WRONG_PASSWORD", "TOO_OFTEN", "MAY_NOT_READ")),
            (problems, ("FORM_EXPIRED", "STORE_DOWN")),
        )
        for name in names
    },
}


def document(name: str) -> str:
    """A document's text."""
    return (ROOT / name).read_text(encoding="utf-8")


def sections(text: str) -> list[str]:
    """A document cut at its headings, each with what follows it."""
    return re.split(r"^(?=#{1,6} )", text, flags=re.MULTILINE)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_in_the_configuration_page(setting: Setting) -> None:
    rows = [line for line in document(CONFIGURATION).splitlines() if line.startswith(f"| `{setting.name}` ")]
    assert len(rows) == 1
    assert f"`{setting.env}`" in rows[0]
    assert setting.help in rows[0]
    if setting.flag:
        assert f"`{setting.flag}`" in rows[0]
    if setting.type is bool:
        assert f" | {'on' if setting.default else 'off'} | " in rows[0]
    elif setting.default != "":
        assert f"`{setting.default}`" in rows[0]


def test_the_configuration_page_names_no_setting_that_is_gone() -> None:
    named = set(re.findall(r"MIXDOWN_[A-Z_]+", document(CONFIGURATION)))
    assert named - {setting.env for setting in SETTINGS} == set()


@pytest.fixture(scope="module")
def served_routes() -> dict[str, set[str]]:
    """Each path of the application that a worker serves, and its methods (HEAD comes with GET)."""
    store = MemoryStore()
    catalog = CatalogCache(store.catalog)
    with ThreadPoolExecutor(1) as executor:
        ingest = Ingest.open(Settings(), store, catalog, executor=executor)
        services = Services(
            settings=Settings(),
            store=store,
            catalog=catalog,
            ingest=ingest,
            metrics=Metrics(),
            executor=executor,
            now_ms=now_ms,
        )
        served = application(services, internal_port=0)
        ingest.close()
    assert isinstance(served, http_app.App)
    assert isinstance(served._rest, Starlette)
    found: dict[str, set[str]] = {}
    for route in served._rest.routes:
        assert isinstance(route, Route)
        if route.include_in_schema:  # the explorer's pages have a document of their own
            found.setdefault(path_of(route), set()).update(set(route.methods or ()) - {"HEAD"})
    for endpoint in set(http_app._ENDPOINTS.values()):
        found[f"/{endpoint}"] = {"GET", "POST", "OPTIONS"}
    others: tuple[auxiliary.Auxiliary | LookupPath, ...]
    others = (*auxiliary.PATHS.values(), auxiliary.FIRST_TIME_EVENTS, LISTING, REPLACING)
    for path in others:
        found[path.name] = {*path.methods, "OPTIONS"}
    return found


def documented_routes() -> dict[str, set[str]]:
    """The table of paths: each path with the methods in its row."""
    rows = re.findall(r"^\| `(/[^`]*)` \| ((?:`[A-Z]+` ?)+)\|", document(HTTP_API), re.MULTILINE)
    return {path: set(re.findall(r"[A-Z]+", methods)) for path, methods in rows}


def test_every_route_and_method_is_in_the_table_of_paths(served_routes: dict[str, set[str]]) -> None:
    assert len(served_routes) > 20
    assert documented_routes() == served_routes


def test_every_auxiliary_path_that_discards_is_named_in_the_readme_and_counted() -> None:
    discarding = [path.name for path in auxiliary.PATHS.values() if path.reply.status == 200]
    readme = document("README.md")
    assert [path for path in discarding if f"`{path}`" not in readme] == []
    assert "`mixdown_auxiliary_discarded_total`" in readme


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_in_the_operations_page(metric: Metric) -> None:
    lines = [line for line in document(OPERATIONS).splitlines() if f"`{metric.name}`" in line]
    assert lines
    assert [label for label in metric.labels if label not in " ".join(lines)] == []


def commands(group: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that call it."""
    if not isinstance(group, click.Group):
        yield path, group
        return
    for name, command in group.commands.items():
        yield from commands(command, (*path, name))


COMMANDS = {" ".join(path): command for path, command in commands(root, ("mixdown",))}


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_and_flag_is_in_the_command_line_page(words: str) -> None:
    called = re.compile(re.escape(words) + r"(?![\w-])")
    about = "".join(section for section in sections(document(COMMAND_LINE)) if called.search(section))
    assert about, f"no section of {COMMAND_LINE} speaks of `{words}`"
    of_settings = {setting.flag for setting in SETTINGS}
    flags = {
        flag
        for parameter in COMMANDS[words].params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for flag in (*parameter.opts, *parameter.secondary_opts)
        if flag.startswith("--") and not (flag in of_settings and flag in document(CONFIGURATION))
    }
    missing = [flag for flag in sorted(flags) if not re.search(re.escape(flag) + r"(?![\w-])", about)]
    assert missing == []


def text_of(node: ast.expr) -> str | None:
    """The text that an argument is, with `{}` for what is put into it; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def texts_in_calls() -> Iterator[tuple[str, str]]:
    """Each text that the code writes in a call that answers a client, with its place."""
    for room in ANSWERING_ROOMS:
        path = SOURCE / room
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                for argument in node.args if name in ERROR_CALLS else ():
                    text = text_of(argument)
                    # `_wrong` and its like put a parameter's name before a rule; the rule is the text
                    if text and re.search(r"\w", text.replace("{}", "")):
                        yield f"{file.relative_to(SOURCE)}:{node.lineno}", text


def known_texts() -> list[tuple[str, str]]:
    """Every error text of the server, with its name or place."""
    found = [(f"texts.{name}", text) for name, text in vars(texts).items() if name.isupper()]
    found += MORE_TEXTS.items()
    return [*found, *texts_in_calls()]


def as_documented(text: str) -> re.Pattern[str]:
    """What finds a text in a document: literally, but for what is put into it."""
    parts = (re.escape(part) for part in re.split(r"\{\w*\}", text))
    return re.compile(r"\{[\w…]*\}".join(parts))


@pytest.mark.parametrize(("name", "text"), known_texts(), ids=lambda value: value)
def test_every_error_text_is_in_the_table_with_what_to_do(name: str, text: str) -> None:
    del name
    wanted = as_documented(text)
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \|$", document(HTTP_API), re.MULTILINE)
    assert [advice for documented, advice in rows if wanted.search(documented)]


def test_what_the_explorer_advises_about_a_refusal_is_what_the_table_says() -> None:
    of_records = next(part for part in sections(document(HTTP_API)) if part.startswith("### Of records"))
    rows = dict(re.findall(r"^\| `(.+?)` \| (.+?) \|$", document(HTTP_API), re.MULTILINE))
    told = {vars(texts)[reason.upper()]: sentence for reason, sentence in advice.ADVICE.items()}
    assert "" not in told
    assert {text: rows.get(text) for text in told} == told
    for text in dict(re.findall(r"^\| `(.+?)` \| (.+?) \|$", of_records, re.MULTILINE)):
        assert text in told or text == texts.SOME_FAILED, f"{text} has no advice"


def test_the_texts_are_really_found() -> None:
    found = dict(known_texts())
    assert len(found) > 60
    assert found["texts.TOKEN_UNKNOWN"] == "$token, no project has this token"
    assert "must be true or false" in found.values()


def test_every_test_that_the_design_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", document("docs/design.md"))
    assert len(named) > 6
    assert [file for file, _ in named if not (ROOT / file).exists()] == []
    assert [test for file, test in named if f"def {test}(" not in document(file) and test] == []


def test_every_dependency_has_its_reason_in_the_design() -> None:
    project = document("pyproject.toml").partition("[project.optional-dependencies]")[0]
    names = re.findall(r'^    "([a-z0-9-]+)[><=]', project, re.MULTILINE)
    assert len(names) > 10
    assert [name for name in names if f"| `{name}` |" not in document("docs/design.md")] == []


def test_a_document_that_lacks_something_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = tmp_path / HTTP_API
    page.write_text(
        page.read_text().replace("`$token, no project has this token`", "gone").replace("| `/livez` |", "|")
    )
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert "/livez" not in documented_routes()
    with pytest.raises(AssertionError):
        test_every_error_text_is_in_the_table_with_what_to_do("", texts.TOKEN_UNKNOWN)
