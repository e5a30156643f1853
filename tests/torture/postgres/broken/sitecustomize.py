"""Put its folder on PYTHONPATH of a node: `keys_unchecked`, a guarantee broken on purpose."""

import sys
from typing import Any

if any(word in sys.orig_argv for word in ("worker", "fold")):
    from mixdown.store.postgres.state import PostgresState

    def nothing_known(*_: Any, **__: Any) -> dict[bytes, None]:
        """The fold applies whatever comes, retries too."""
        return {}

    PostgresState.known_keys = nothing_known  # type: ignore[method-assign,assignment]
