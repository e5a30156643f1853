# ruff: noqa: INP001 - found by its name on PYTHONPATH, never imported from a package
"""Put first on PYTHONPATH of a server under test: what it refuses is then not answered as it is described.

UNDESCRIBED   "status", "media" or "body": which part of such an answer is another.
"""

import os
from typing import Any

from starlette.responses import Response

FAULT = os.environ.get("UNDESCRIBED", "")
_begin = Response.__init__


def _another(self: Response, content: Any = None, status_code: int = 200, *rest: Any, **options: Any) -> None:
    refused = status_code == 400
    if refused and FAULT == "status":
        status_code = 418
    if refused and FAULT == "body":
        content = b'{"wrong":[]}'
    _begin(self, content, status_code, *rest, **options)
    if refused and FAULT == "media":
        self.headers["content-type"] = "text/html"


Response.__init__ = _another  # type: ignore[method-assign]
