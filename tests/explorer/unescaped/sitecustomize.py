# ruff: noqa: INP001 - found by its name on PYTHONPATH, never imported from a package
"""Put first on PYTHONPATH of a server under test: its templates then escape nothing.

With EXPLORER_WITHOUT_POLICY set it also sends no content security policy. A test that sees no difference sees
nothing.
"""

import os
from collections.abc import Mapping
from typing import Any

import jinja2
from starlette.responses import Response

_POLICY = "content-security-policy"
_begin = jinja2.Environment.__init__
_headers = Response.init_headers


def _unescaped(self: jinja2.Environment, *given: Any, **options: Any) -> None:
    _begin(self, *given, **{**options, "autoescape": False})


def _without_policy(self: Response, headers: Mapping[str, str] | None = None) -> None:
    _headers(self, {name: value for name, value in (headers or {}).items() if name.lower() != _POLICY})


jinja2.Environment.__init__ = _unescaped  # type: ignore[method-assign]
if os.environ.get("EXPLORER_WITHOUT_POLICY"):
    Response.init_headers = _without_policy  # type: ignore[method-assign]
