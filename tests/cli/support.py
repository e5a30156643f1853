"""Running commands as a user would, in this process or as processes of their own."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from mixdown.cli.root import root
from mixdown.ingest.direct import append_raw
from mixdown.ingest.pipeline import rules_of
from mixdown.settings import Settings
from mixdown.store.chunk import Outcome
from tests import engine
from tests.engine import open_store


class Cli:
    """`mixdown` on one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, *arguments: str, code: int = 0, typed: str | None = None, env: Mapping[str, str] | None = None
    ) -> Result:
        """Run a command in this process, with variables; its exit code must be `code`."""
        env = {**self.variables(), **(env or {})}
        result = CliRunner().invoke(root, list(arguments), input=typed, env=env)
        assert result.exit_code == code, (result.output, result.exception)
        assert "Traceback" not in result.output
        return result

    def json(self, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None) -> Any:
        """Run a command with `--json`; stdout must be one JSON value and nothing else."""
        return json.loads(self(*arguments, "--json", code=code, env=env).stdout)

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command as a process of its own; the caller ends it."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def command(self, *arguments: str) -> list[str]:
        """The command as a list of words."""
        return [sys.executable, "-m", "mixdown", *arguments]

    def environment(self) -> dict[str, str]:
        """The variables that a process gets: with them, one that is aborted tells where it stood."""
        return {**os.environ, "PYTHONFAULTHANDLER": "1", **self.variables()}

    def variables(self) -> dict[str, str]:
        """The variables that name the data."""
        return {"MIXDOWN_DATA_DIR": str(self.folder), **engine.variables(self.folder)}

    def on_a_terminal(self, *arguments: str, typed: str = "", timeout_s: float = 600.0) -> str:
        """Run a command on a terminal, type once it shows its first prompt, and return all that was shown."""
        main, other = pty.openpty()
        env = {**self.environment(), "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}
        process = subprocess.Popen(self.command(*arguments), env=env, stdin=other, stdout=other, stderr=other)
        os.close(other)
        shown = b""
        deadline = time.monotonic() + timeout_s
        try:
            while time.monotonic() < deadline:
                ready, _, _ = select.select([main], [], [], 0.1)
                if not ready:
                    if process.poll() is not None:
                        break
                    continue
                try:
                    read = os.read(main, 65536)
                except OSError:  # the other end is closed: the process has ended
                    break
                if not read:
                    break
                shown += read
                if typed and (b"> " in shown or b"]: " in shown):
                    os.write(main, typed.encode())
                    typed = ""
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            os.close(main)
        return shown.decode(errors="replace").replace("\r\n", "\n")

    def send(self, *records: dict[str, Any], endpoint: str = "engage") -> Outcome:
        """Append records as a server would, without one: good ones to the log, the others to the refusals."""
        store = open_store(self.folder, role="worker", create=False)
        try:
            return append_raw(store, rules_of(Settings()), endpoint, list(records), sdk="tests")
        finally:
            store.close()

    def watermark_and_head(self) -> tuple[int, int]:
        """How far the log is folded, and where it ends."""
        store = open_store(self.folder, role="worker", create=False)
        try:
            return store.state.watermark(), store.log.head()
        finally:
            store.close()


def user(profile_id: str, token: str = "shop-token", **properties: Any) -> dict[str, Any]:
    """A record that sets properties of a user."""
    return {"$token": token, "$distinct_id": profile_id, "$set": properties}


def group(group_key: str, group_id: str, **properties: Any) -> dict[str, Any]:
    """A record that sets properties of a group."""
    return {"$token": "shop-token", "$group_key": group_key, "$group_id": group_id, "$set": properties}


def continued_after_a_kill(
    shop: Cli, command: list[str], lines: list[bytes], *, sent: int, appended: int
) -> dict[str, Any]:
    """Kill an import of standard input once so many are appended; what the same command then tells."""
    process = subprocess.Popen(command, env=shop.environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"".join(lines[:sent]))
    process.stdin.flush()
    deadline = time.monotonic() + 120
    while shop.watermark_and_head()[1] < appended:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.stdin.close()
    process.stderr.close()
    process.wait()
    ended = subprocess.run(
        [*command, "--json"],
        env=shop.environment(),
        input=b"".join(lines),
        capture_output=True,
        check=True,
        timeout=120,
    )
    told: dict[str, Any] = json.loads(ended.stdout)
    return told
