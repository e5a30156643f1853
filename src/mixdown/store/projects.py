"""A project as stores hold it, and what may be changed of it. Values alone: no I/O."""

from __future__ import annotations

import msgspec

from mixdown.model.errors import CatalogError
from mixdown.model.identity import SIMPLIFIED
from mixdown.store.zones import DEFAULT


class Project(msgspec.Struct, frozen=True):
    """A project as the catalog holds it; the secret only as its SHA-256.

    Rate limits of None are the server's settings, 0 is none. `late_events`: /track takes events of any age.
    `timezone` is the IANA name of the zone of its days (`store.zones`); `ci_strings`: in expressions texts
    are equal whatever their case. `large`: its records are spread over all partitions of the store, by the
    profile that they are about, and its updates address the very id that they name.
    """

    id: int
    name: str
    token: str
    secret_hash: bytes
    id_merge: str = "simplified"
    created_ms: int = 0
    rate_limit_records_per_s: int | None = None
    rate_limit_requests_per_s: int | None = None
    rate_limit_queries_per_hour: int | None = None
    late_events: bool = False
    timezone: str = DEFAULT
    ci_strings: bool = False
    large: bool = False


def checked(project: Project) -> Project:
    """A project as it is to be, if it may be so. Raises `CatalogError`."""
    if project.large and project.id_merge != SIMPLIFIED:
        raise CatalogError(
            "a large project has simplified identity, where updates address the very id that they name",
            hint="Make a new project for another mode.",
        )
    return project
