"""The time zone of a project: a name of the IANA database, and the zone that has it.

A name enters; the name as it may be stored, or a `tzinfo`, leaves. The rules of zones are the machine's own,
or those of the package `tzdata` where it has none.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from mixdown.model.errors import CatalogError, StoreError

DEFAULT: Final = "UTC"
NOT_A_ZONE: Final = "timezone, must be the name of a time zone such as Europe/Berlin or UTC"
_NO_PLACE: Final = frozenset({"localtime", "Factory"})
"""Names that lie among the others, and mean what the machine, or nobody, has set."""


def checked_timezone(name: str) -> str:
    """A name as a project may have it. Raises `CatalogError` where it is none of the IANA database."""
    if name in available_timezones() - _NO_PLACE:
        return name
    raise CatalogError(NOT_A_ZONE, hint="Names are those of the IANA database, in its case.")


@lru_cache(maxsize=1024)
def zone_of(name: str) -> tzinfo:
    """The zone that a project's name for it means; `datetime.UTC` itself for UTC.

    Raises `StoreError` where this machine does not know it: its rules are older than the data folder.
    """
    if name in (DEFAULT, "Etc/UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise StoreError(
            f"the project's time zone {name!r} is unknown on this machine",
            hint="Upgrade its time zones (tzdata), or give the project another.",
        ) from None
