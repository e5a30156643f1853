"""Writes docs/configuration.md from the declarations in `mixdown.settings`.

`python scripts/configuration_page.py` rewrites the page; with `--check` it only says whether it is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from mixdown.settings import SETTINGS, Setting

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"

HEAD = """\
# Configuration

Mixdown needs no configuration: `mixdown serve` works as it is. Everything that can be set stands below. A
setting is given as a flag of `mixdown serve` or as an environment variable; where both are given, the flag
wins. An empty variable counts as not set. `mixdown config` prints what is in force and where it comes from.

A value that cannot be used ends the start with one line that names it and says what is allowed.

This page is written by `scripts/configuration_page.py` from the declarations in `src/mixdown/settings.py`.
"""

NOTES = """\
## Notes

- `MIXDOWN_TOKEN`, `MIXDOWN_SECRET` and `MIXDOWN_ACCOUNT` have no flags, because flags show in the list of
  processes. They are put in force at every start: the token and secret become those of the project
  `default` (which is made when it is missing), and the account becomes an owner, who sees every project.
  They are taken as given; when one is shorter than 32 characters and other machines can reach the server,
  the log warns.
- Sizes are in bytes and may be written with underscores: `10_485_760`.
- With `internal_port`, `port` answers only ingestion, the auxiliary paths of SDKs, `/livez` and `/readyz`;
  all else answers on the internal port, which takes no records.
- Kubernetes sets `MIXDOWN_PORT=tcp://...` in every pod beside a service that is named `mixdown`. Name the
  service otherwise, or set `enableServiceLinks: false`.
"""


def page() -> str:
    """The whole page."""
    common = [setting for setting in SETTINGS if not setting.advanced]
    advanced = [setting for setting in SETTINGS if setting.advanced]
    parts = [HEAD, "## Settings\n", _table(common), "## Limits and times\n"]
    parts += [
        "The defaults suit most servers; every queue, body and wait has its bound here.\n",
        _table(advanced),
    ]
    return "\n".join([*parts, NOTES])


def _table(settings: Iterable[Setting]) -> str:
    rows = ["| Setting | Flag | Variable | Default | Allowed | |", "|---|---|---|---|---|---|"]
    for setting in settings:
        flag = f"`{setting.flag}`" if setting.flag else "-"
        rows.append(
            f"| `{setting.name}` | {flag} | `{setting.env}` | {_default(setting)} | {_allowed(setting)} "
            f"| {setting.help} |"
        )
    return "\n".join([*rows, ""])


def _default(setting: Setting) -> str:
    if setting.type is bool:
        return "on" if setting.default else "off"
    return f"`{setting.default}`" if setting.default != "" else "none"


def _allowed(setting: Setting) -> str:
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.type is int:
        return f"{setting.low} to {setting.high}"
    if setting.type is bool:
        return "yes, no"
    return "path" if setting.type is Path else "text"


def main(arguments: list[str]) -> int:
    """Write the page, or check it; the exit status."""
    text = page()
    if "--check" not in arguments:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/configuration.md is stale: run python scripts/configuration_page.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
