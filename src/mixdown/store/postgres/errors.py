"""What PostgreSQL and its library raise, as errors that say what was wrong and what to do.

Enters: a `psycopg.Error`. Leaves: a `StoreError`. It quotes the server's own sentence and no value of a
record: neither `DETAIL`, which may hold one, nor the sentence of an error about data, which often does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from mixdown.model.errors import CorruptStoreError, NodeDownError, StoreDownError, StoreError
from mixdown.store import patience

SEE_IT_RUNS: Final = "See that it runs and can be reached; nothing else is to be done."
# By SQLSTATE, then by its class (its first two characters): the error and what to do.
_KNOWN: Final[dict[str, tuple[type[StoreError], str]]] = {
    "08": (StoreDownError, SEE_IT_RUNS),
    "25006": (
        StoreDownError,
        "It is a replica, or was made read-only: name the primary, or all hosts separated by commas.",
    ),
    "25P03": (StoreDownError, "This process was stopped, or had no processor, for too long."),
    "28": (
        StoreError,
        "See user and password: of MIXDOWN_DATABASE_URL, MIXDOWN_DATABASE_PASSWORD_FILE or ~/.pgpass.",
    ),
    "3D000": (StoreError, "Make it first: createdb, or CREATE DATABASE."),
    "3F000": (StoreError, "Make the tables: mixdown db migrate."),
    "40": (StoreDownError, "It was undone as a whole, and can be sent again."),
    "42501": (
        StoreError,
        "Give mixdown db migrate as the owner of the schema mixdown: docs/scaling.md#roles.",
    ),
    "42703": (StoreError, "Bring the tables up to date: mixdown db migrate."),
    "42P01": (StoreError, "Make the tables: mixdown db migrate."),
    "53100": (StoreError, "Free some disk space on the database's machine."),
    "53300": (
        StoreDownError,
        "Raise max_connections there, start fewer processes, or put pgbouncer before it.",
    ),
    "53": (StoreDownError, "The database's machine is short of what the message names."),
    "55P03": (StoreDownError, "Another transaction holds what this one needs: it can be sent again."),
    "57P": (StoreDownError, SEE_IT_RUNS),
    "58": (StoreError, "The database's own disk or system has failed: see what its log says."),
    "TLS": (
        StoreError,
        "Name who signed its certificate: ?sslrootcert=FILE. The host in the URL must be its name.",
    ),
    "XX001": (CorruptStoreError, "Restore the database from a backup."),
    "XX002": (CorruptStoreError, "Rebuild what is damaged (REINDEX), or restore the database from a backup."),
}
# Of a connection that was refused libpq tells no SQLSTATE: its words, or the server's, say which it was.
_REFUSED: Final = (
    ("password authentication failed", "28"),
    ("no password supplied", "28"),
    ("pg_hba.conf", "28"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("certificate", "TLS"),
    ("SSL", "TLS"),
)
_CANCELLED: Final = "57014"
_LOST: Final = ("08", "57P")
_BROKEN: Final = "08P01"
"""What was said was not understood: that is this connection's own fault."""
_OF_VALUES: Final = ("22", "23")
"""Errors about data, and about constraints: their sentences quote what a client sent."""


def store_error(error: psycopg.Error, what: str) -> StoreError:
    """The error to raise in the place of `error`, about the database that `what` names."""
    state = error.sqlstate
    if state == _CANCELLED and patience.is_bounded():
        return patience.timeout()
    if isinstance(error, psycopg.DataError) or (state or "").startswith(_OF_VALUES):
        return _of_values(error, what)
    text = (error.diag.message_primary or str(error)).strip() or type(error).__name__
    if is_of_a_node(error):
        return NodeDownError(f"{what}, one of its nodes: {text}", hint=SEE_IT_RUNS)
    if state is None:
        refused = next((known for part, known in _REFUSED if part in text), None)
        if refused is not None:
            kind, hint = _KNOWN[refused]
            return kind(f"{what} cannot be reached: {text}", hint=hint)
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            return StoreDownError(f"{what} cannot be reached: {text}", hint=SEE_IT_RUNS)
        return StoreError(f"{what}: {text}")
    for known in (state, state[:3], state[:2]):
        if known in _KNOWN:
            kind, hint = _KNOWN[known]
            return kind(f"{what}: {text}", hint=hint)
    return StoreError(f"{what}: {text} ({state})", hint="The database's own log may say more.")


def _of_values(error: psycopg.Error, what: str) -> StoreError:
    """An error about a value, which it does not quote: of which kind, and where."""
    names = (
        ("constraint", error.diag.constraint_name),
        ("table", error.diag.table_name),
        ("column", error.diag.column_name),
    )
    where = ", ".join(f"{kind} {name}" for kind, name in names if name)
    kind = f"{type(error).__name__}{f' ({error.sqlstate})' if error.sqlstate else ''}"
    return StoreError(
        f"{what} refuses a value: {kind}{f', {where}' if where else ''}",
        hint="The database's own log may say more, values of records included.",
    )


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn what psycopg raises into `StoreError`s about the database that `what` names."""
    try:
        yield
    except psycopg.Error as error:
        raise store_error(error, what) from error


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection that raised it is of no more use: gone, or to a server that is no primary."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    if is_of_a_node(error):
        return False
    return state.startswith(_LOST) or state in {"25006", "25P03"}


def is_of_a_node(error: psycopg.Error) -> bool:
    """Whether the coordinator of a cluster says that a connection of its own, to a node, was lost.

    A server says so of its connection to us as FATAL; a pooler tells no severity that is in no language.
    """
    state = error.sqlstate or ""
    return error.diag.severity_nonlocalized == "ERROR" and state.startswith(_LOST) and state != _BROKEN
