"""What stands in `deploy/` for containers and systemd: no key, setting or command in it that there is not.

No container is started: the keys that a compose file may have are listed here, as strictly as its
specification has them, and whatever names a setting or a command is held to those of this version.
"""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped]

from mixdown.cli.root import root
from mixdown.settings import SETTINGS, load

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = sorted((ROOT / "deploy" / "docker").glob("compose*.yaml"))
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
OURS = "deploy/docker/Dockerfile"
FIRST_OFFLINE = 250
EXPOSURE_LIMIT = 20  # of 100, as `systemd-analyze security` reckons

Check = Callable[[Any, str], None]


def one_of(*values: str) -> Check:
    return matching("|".join(map(re.escape, values)))


def matching(pattern: str) -> Check:
    def check(value: Any, where: str) -> None:
        assert isinstance(value, str), f"{where} is no text"
        assert re.fullmatch(pattern, value, re.DOTALL), f"{where}: {value!r}"

    return check


def is_a(kind: type) -> Check:
    def check(value: Any, where: str) -> None:
        assert type(value) is kind, f"{where}: {value!r}"

    return check


def list_of(item: Check) -> Check:
    def check(value: Any, where: str) -> None:
        assert isinstance(value, list), f"{where} is no list"
        for place, each in enumerate(value):
            item(each, f"{where}[{place}]")

    return check


def named(item: Check) -> Check:
    def check(value: Any, where: str) -> None:
        assert isinstance(value, dict), f"{where} is no mapping"
        for name, each in value.items():
            matching("[a-zA-Z0-9._-]+")(name, where)
            item(each, f"{where}.{name}")

    return check


def record(**keys: Check) -> Check:
    """A mapping of these keys, whose names have hyphens for underscores where `compose` does: no others."""

    def check(value: Any, where: str) -> None:
        assert isinstance(value, dict), f"{where} is no mapping"
        assert set(value) <= set(keys), f"{where} has {sorted(set(value) - set(keys))}"
        for name, each in value.items():
            keys[name](each, f"{where}.{name}")

    return check


def either(*checks: Check) -> Check:
    def check(value: Any, where: str) -> None:
        faults = []
        for each in checks:
            try:
                each(value, where)
            except AssertionError as fault:
                faults.append(str(fault))
            else:
                return
        raise AssertionError("; ".join(faults))

    return check


def nothing(value: Any, where: str) -> None:
    assert value is None, f"{where}: {value!r}"


TEXT = matching(".+")
TEXTS = list_of(TEXT)
SPAN = matching(r"(\d+(us|ms|s|m|h))+")
SIZE = matching(r"\d+(b|kb?|mb?|gb?)")
WHOLE = is_a(int)
MOUNTED = record(source=TEXT, target=TEXT, uid=TEXT, gid=TEXT, mode=WHOLE)
SERVICE = record(
    build=record(context=TEXT, dockerfile=TEXT, dockerfile_inline=TEXT, args=named(TEXT), target=TEXT),
    image=matching(r"[a-z0-9./_-]+:[\w.-]+"),
    command=TEXTS,
    entrypoint=TEXTS,
    environment=named(TEXT),
    ports=list_of(matching(r"127\.0\.0\.1:\d+:\d+")),
    volumes=list_of(matching(r"[\w./-]+:/[\w./-]+(:ro)?")),
    configs=list_of(MOUNTED),
    secrets=list_of(either(TEXT, MOUNTED)),
    depends_on=either(
        TEXTS,
        named(
            record(
                condition=one_of("service_started", "service_healthy", "service_completed_successfully"),
                restart=is_a(bool),
                required=is_a(bool),
            )
        ),
    ),
    healthcheck=record(
        test=TEXTS, interval=SPAN, timeout=SPAN, retries=WHOLE, start_period=SPAN, start_interval=SPAN
    ),
    restart=one_of("no", "always", "on-failure", "unless-stopped"),
    stop_grace_period=SPAN,
    stop_signal=TEXT,
    read_only=is_a(bool),
    tmpfs=TEXTS,
    cap_drop=TEXTS,
    security_opt=TEXTS,
    shm_size=SIZE,
    ulimits=named(either(WHOLE, record(soft=WHOLE, hard=WHOLE))),
    user=TEXT,
    networks=TEXTS,
)
FILE = record(
    name=matching("[a-z0-9][a-z0-9_-]*"),
    services=named(SERVICE),
    configs=named(record(content=TEXT, file=TEXT, external=is_a(bool))),
    secrets=named(record(file=TEXT, environment=TEXT, external=is_a(bool))),
    volumes=named(either(nothing, record(driver=TEXT, driver_opts=named(TEXT), external=is_a(bool)))),
    networks=named(
        either(
            nothing,
            record(driver=TEXT, ipam=record(config=list_of(record(subnet=TEXT))), internal=is_a(bool)),
        )
    ),
)


class Strict(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Refuses a key that stands twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT002 - its own
        names = [key.value for key, _ in node.value]
        assert len(set(names)) == len(names), f"{node.start_mark}: a key stands twice"
        return dict(super().construct_mapping(node, deep))


def read(path: Path) -> dict[str, Any]:
    """A compose file, its anchors merged, without what compose itself leaves alone."""
    found = yaml.load(path.read_text(), Strict)  # noqa: S506 - a SafeLoader
    return {name: each for name, each in found.items() if not name.startswith("x-")}


def services() -> Iterator[Any]:
    for path in COMPOSE:
        for name, service in read(path)["services"].items():
            yield pytest.param(path, service, id=f"{path.stem} {name}")


def is_ours(service: Mapping[str, Any]) -> bool:
    return bool(service.get("build", {}).get("dockerfile") == OURS)


def held_to_settings(variables: Mapping[str, str]) -> None:
    """Every variable is a setting's, and has a value that it may have."""
    known = {setting.env for setting in SETTINGS}
    assert set(variables) <= known, set(variables) - known
    load(variables, {})


def held_to_commands(words: list[str]) -> None:
    """The words call a command, with flags that it has."""
    command: click.Command = root
    path = []
    while isinstance(command, click.Group):
        path.append(words[0])
        found = command.commands.get(words[0])
        assert found is not None, f"there is no command {' '.join(path)}"
        command, words = found, words[1:]
    command.make_context(" ".join(path), list(words)).close()


def strange(**changes: Any) -> dict[str, Any]:
    return {"services": {"one": {"image": "nginx:1.29", **changes}}}


@pytest.mark.parametrize("path", COMPOSE, ids=[path.stem for path in COMPOSE])
def test_a_compose_file_has_no_key_that_compose_does_not_know(path: Path) -> None:
    FILE(read(path), path.name)


@pytest.mark.parametrize(
    "found",
    [
        {"sevices": {}},
        strange(enviroment={}),
        strange(healthcheck={"test": ["CMD", "true"], "intervall": "5s"}),
        strange(healthcheck={"test": ["CMD", "true"], "interval": "5 seconds"}),
        strange(depends_on={"two": {"condition": "healthy"}}),
        strange(environment={"PORT": 80}),
        strange(read_only="true"),
        strange(ports=["6493:6493"]),
        strange(image="nginx"),
    ],
)
def test_what_compose_would_refuse_is_found(found: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        FILE(found, "file")


def test_a_key_that_stands_twice_is_found() -> None:
    with pytest.raises(AssertionError, match="twice"):
        yaml.load("a: {b: 1, c: 2, b: 3}", Strict)  # noqa: S506 - a SafeLoader


@pytest.mark.parametrize("path", COMPOSE, ids=[path.stem for path in COMPOSE])
def test_whatever_a_compose_file_names_is_there(path: Path) -> None:
    held = read(path)
    for service in held["services"].values():
        if is_ours(service):
            assert (path.parent / service["build"]["context"] / OURS).is_file()
        for kind in ("configs", "secrets"):
            names = [each if isinstance(each, str) else each["source"] for each in service.get(kind, ())]
            assert set(names) <= set(held.get(kind, ())), kind
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (path.parent / source).exists() if source[0] in "./" else source in held["volumes"]
        needed = service.get("depends_on", {})
        assert set(needed) <= set(held["services"])
        for other in needed if isinstance(needed, dict) else ():
            if needed[other]["condition"] == "service_healthy":
                assert "healthcheck" in held["services"][other], other


@pytest.mark.parametrize(("path", "service"), list(services()))
def test_settings_and_commands_of_a_container_are_those_of_this_version(
    path: Path, service: dict[str, Any]
) -> None:
    del path
    variables = service.get("environment", {})
    if not is_ours(service):
        assert not [name for name in variables if name.startswith("MIXDOWN_")]
        return
    held_to_settings({name: re.sub(r"\$\{[^}]*\}", "x", value) for name, value in variables.items()})
    held_to_commands(service.get("command", ["serve"]))
    mounted = {f"/run/secrets/{name}" for name in service.get("secrets", ())}
    assert {value for value in variables.values() if value.startswith("/run/secrets/")} == mounted


def test_the_file_that_was_never_run_says_so_first() -> None:
    path = ROOT / "deploy" / "docker" / "compose.postgres.yaml"
    assert path.read_text().startswith("# UNTESTED")


def unit(path: Path) -> configparser.ConfigParser:
    """A unit; of keys that stand several times the last."""
    found = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    found.optionxform = str  # type: ignore[assignment,method-assign]  # names of keys are as they are
    found.read_string(path.read_text())
    return found


@pytest.mark.parametrize("path", UNITS, ids=[path.stem for path in UNITS])
def test_a_unit_calls_a_command_with_settings_that_there_are(path: Path) -> None:
    service = unit(path)["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program == "/opt/mixdown/bin/mixdown"
    held_to_commands(words)
    if given := service.get("Environment"):
        held_to_settings(dict([given.split("=", 1)]))
        name = service["LoadCredential"].split(":")[0]
        assert given.endswith(f"=%d/{name}")


def analysed(path: Path, folder: Path, *arguments: str) -> str:
    """What `systemd-analyze` says of a unit whose program is one that is here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    version = subprocess.run(
        ["systemd-analyze", "--version"], capture_output=True, text=True, check=True
    ).stdout
    if int(version.split()[1]) < FIRST_OFFLINE:
        pytest.skip("systemd-analyze cannot look at units that are not installed")
    copy = folder / path.name
    copy.write_text(path.read_text().replace("/opt/mixdown/bin/mixdown", sys.executable))
    ended = subprocess.run(
        ["systemd-analyze", *arguments, str(copy)], capture_output=True, text=True, check=False, timeout=120
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    return said


@pytest.mark.parametrize("path", UNITS, ids=[path.stem for path in UNITS])
def test_systemd_takes_a_unit_and_finds_it_closed_in(path: Path, tmp_path: Path) -> None:
    assert "Unknown" not in analysed(path, tmp_path, "verify", "--man=no")
    said = analysed(path, tmp_path, "security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}")
    assert "Overall exposure level" in said
