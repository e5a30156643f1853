"""The commands that do by hand what a profile's page does: curl, quoted for a shell. Pure.

Addresses, ids and values enter; lines to paste leave. They must never hold a secret; a token only where the
caller says so.
"""

from __future__ import annotations

import shlex
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from mixdown.explorer.pages.profile.subject import Subject

ACCOUNT: Final = "USERNAME:PASSWORD"
TOKEN: Final = "YOUR_TOKEN"
_TOLD: Final = "?strict=1&ip=0"


def update_for(token: str, subject: Subject, operators: dict[str, Any]) -> dict[str, Any]:
    """The record that applies operators to a profile, and does not say that somebody was seen."""
    if subject.group_key:
        named: dict[str, Any] = {"$group_key": subject.group_key, "$group_id": subject.id}
    else:
        named = {"$distinct_id": subject.id, **({"$ignore_alias": True} if subject.own else {})}
    return {"$token": token, **named, "$ignore_time": True, **operators}


def endpoint_of(subject: Subject) -> str:
    """Where updates about it go."""
    return "/groups" if subject.group_key else "/engage"


def write_command(address: str, subject: Subject, update: dict[str, Any]) -> str:
    """Curl that sends an update."""
    body = orjson.dumps([update]).decode()
    return (
        f"curl {shlex.quote(f'{address}{endpoint_of(subject)}{_TOLD}')}"
        f" -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def read_command(address: str, path: str, params: dict[str, Any]) -> str:
    """Curl that reads, with an account to be put in."""
    return f"curl -u {ACCOUNT} {shlex.quote(f'{address}{path}?{urlencode(params)}')}"
