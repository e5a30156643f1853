"""Calls methods of mixpanel-headless' Workspace: [[method, arguments], ...] as JSON on stdin.

What each call gave goes out as a JSON list: what was iterated over as a list, a result object as its fields,
an error as {"error": its class, "message": its text}. A `where` that is a list is a call of `Filter`.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from mixpanel_headless import Filter, Workspace
from mixpanel_headless.exceptions import MixpanelHeadlessError


def plain(value: Any) -> Any:
    """The value as JSON has it."""
    if isinstance(value, Iterator | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__ if name[0] != "_"}
    return value


def call(workspace: Workspace, method: str, arguments: dict[str, Any]) -> Any:
    """One call."""
    if isinstance(arguments.get("where"), list):
        name, *values = arguments["where"]
        arguments["where"] = getattr(Filter, name)(*values)
    try:
        return plain(getattr(workspace, method)(**arguments))
    except MixpanelHeadlessError as error:
        return {"error": type(error).__name__, "message": str(error)}


def main() -> None:
    """Make the calls, in turn, with one workspace."""
    with Workspace() as workspace:
        print(json.dumps([call(workspace, *one) for one in json.load(sys.stdin)], default=str))


main()
