"""How often one address may fail to sign in: a bounded table of recent failures. No clock of its own."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

FAILURES_ALLOWED: Final = 10
WINDOW_S: Final = 60
ADDRESSES_LIMIT: Final = 4096


class Attempts:
    """Counts failures per address; the address that failed longest ago is forgotten first."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, list[int]] = OrderedDict()

    def may_try(self, address: str, *, now_s: int) -> bool:
        """Whether this address has failed fewer than ten times within the last minute."""
        recent = [at for at in self._failures.get(address, ()) if now_s - at < WINDOW_S]
        return len(recent) < FAILURES_ALLOWED

    def failed(self, address: str, *, now_s: int) -> None:
        """Count a failure."""
        failures = self._failures.setdefault(address, [])
        failures.append(now_s)
        del failures[:-FAILURES_ALLOWED]
        self._failures.move_to_end(address)
        if len(self._failures) > ADDRESSES_LIMIT:
            self._failures.popitem(last=False)
