"""The rules of the house that no other tool checks: sizes, words, versions, imports, documents."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import mixdown

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
FILE_LINES = 600
FUNCTION_LINES = 60

# Put together here, so that this file passes its own test.
UNFINISHED_WORK = re.compile(
    r"\b(?:{})\b".format("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")))
)


def files_of(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    """The project's own files below the folders, in order."""
    found = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes and not {"__pycache__", "node_modules"} & set(path.parts)
    ]
    assert found, f"no files below {folders}"
    return sorted(found)


def lines_of(path: Path) -> list[str]:
    """The lines of a file."""
    return path.read_text(encoding="utf-8").splitlines()


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file, nested ones included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def released_versions(changelog: str) -> list[str]:
    """The versions that a changelog names, newest first."""
    return re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)


def docs_check() -> ModuleType:
    """The script behind `make docs-check`."""
    spec = importlib.util.spec_from_file_location("docs_check", ROOT / "scripts" / "docs_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_newest_version_in_the_changelog_is_the_version_of_the_package() -> None:
    versions = released_versions((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert versions[0] == mixdown.__version__


def test_the_changelog_keeps_unreleased_on_top() -> None:
    headings = [line for line in lines_of(ROOT / "CHANGELOG.md") if line.startswith("## ")]
    assert headings[0] == "## [Unreleased]"
    assert len(headings) == len(set(headings))


def test_no_file_is_too_long() -> None:
    lengths = {path: len(lines_of(path)) for path in files_of("src", "tests", "scripts")}
    assert {path: length for path, length in lengths.items() if length >= FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in files_of("src", "scripts")
        for node in functions_of(path)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 >= FUNCTION_LINES
    ]
    assert too_long == []


def test_no_work_is_left_for_later() -> None:
    suffixes = (".py", ".sql", ".html", ".css", ".js", ".mjs", ".md", ".toml")
    left = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files_of("src", "tests", "scripts", suffixes=suffixes)
        for number, line in enumerate(lines_of(path), start=1)
        if UNFINISHED_WORK.search(line)
    ]
    assert left == []


def test_every_module_opens_by_saying_what_it_is() -> None:
    silent = [
        path.relative_to(ROOT)
        for path in files_of("src", "scripts")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_every_ruff_exception_in_the_project_file_has_its_reason() -> None:
    codes = re.compile(r'^\s+"[A-Z]+\d+",(?P<rest>.*)$')
    exceptions = [match for line in lines_of(ROOT / "pyproject.toml") if (match := codes.match(line))]
    assert len(exceptions) > len(lines_of(ROOT / "pyproject.toml")) / 20
    assert [match[0].strip() for match in exceptions if not match["rest"].strip().startswith("#")] == []


def test_the_lock_pins_every_package_by_hash_and_names_no_host() -> None:
    lines = lines_of(ROOT / "requirements-dev.lock")
    pins = [line for line in lines if re.match(r"[a-z0-9]", line)]
    assert len(pins) > 40
    assert [pin for pin in pins if "==" not in pin or not pin.endswith("\\")] == []
    assert [line for line in lines if "://" in line or "index-url" in line] == []


def test_the_lock_holds_every_package_that_the_project_asks_for() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    asked = set(re.findall(r'^    "([a-z0-9-]+)[><=]=', project, re.MULTILINE))
    locked = {line.partition("==")[0] for line in lines_of(ROOT / "requirements-dev.lock") if "==" in line}
    assert {"apsw", "uvicorn", "pytest", "mixpanel-utils"} <= asked
    assert asked - locked == set()


def test_imports_go_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


def test_the_documents_have_no_faults() -> None:
    assert docs_check().faults(ROOT) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[there](docs/there.md)", ""),
        ("[there](docs/there.md#the-way-of-a-record)", ""),
        ("[here](#top-1)", ""),
        ("[elsewhere](https://example.com/nothing#here)", ""),
        ("`[not a link](gone.md)`", ""),
        ("run `make install`, then make sure", ""),
        ("[gone](docs/gone.md)", "there is no such file"),
        ("[out](../../etc/passwd)", "there is no such file"),
        ("[gone](docs/there.md#gone)", "no heading has that anchor"),
        ("[gone](#gone)", "no heading has that anchor"),
        ("run `make cake`", "the Makefile has no such target"),
        ("```\nmake cake\n```", "the Makefile has no such target"),
        ("```\nnever closed", "is never closed"),
    ],
)
def test_the_documents_check_finds(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "Makefile").write_text("install: .venv\n")
    (tmp_path / "docs" / "there.md").write_text("# The way of a `record`\n")
    (tmp_path / "README.md").write_text(f"# Top\n\n# Top\n\n{text}\n")
    found = docs_check().faults(tmp_path)
    assert len(found) == bool(fault), found
    assert all(fault in line for line in found)
