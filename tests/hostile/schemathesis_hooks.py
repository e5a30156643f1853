"""How schemathesis writes a body of lines: as the text it is."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: object) -> bytes:
    """The text of a body, as bytes."""
    del context
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
