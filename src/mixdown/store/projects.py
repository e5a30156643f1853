"""A project as stores hold it. Values alone: no I/O."""

from __future__ import annotations

import msgspec

from mixdown.store.zones import DEFAULT


class Project(msgspec.Struct, frozen=True):
    """A project as the catalog holds it; the secret only as its SHA-256.

    Rate limits of None are the server's settings, 0 is none. `late_events`: /track takes events of any age.
    `timezone` is the IANA name of the zone of its days (`store.zones`); `ci_strings`: in expressions texts
    are equal whatever their case.
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
