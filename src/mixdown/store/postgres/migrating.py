"""The schema, brought up to date: numbered SQL files, each taken once, by one process at a time.

Enters: a database. Leaves: its tables as this version wants them, and what was done. Each migration and its
record are one transaction, so whoever is cut off leaves the schema before or after one, and the next goes on.
The lock is one of a transaction, for poolers give no two transactions the same session.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Final

import msgspec
from psycopg import sql

from mixdown.model.errors import SchemaTooNewError, StoreError
from mixdown.store.places import PARTITIONS_LIMIT
from mixdown.store.postgres.connection import Cursor, Database

PARTITIONS: Final = 32
"""How many partitions a new store has, where nothing else is asked for: the number never changes."""
# Any number will do that nobody else locks: "mixdown" in bytes.
_LOCK: Final = int.from_bytes(b"mixdown", "big")
_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
# What is no end of a statement: comments, texts, bodies of functions; then that end, and all else.
_PIECE: Final = re.compile(r"--[^\n]*|'[^']*'|\$(\w*)\$.*?\$\1\$|;|[^;'$-]+|.", re.DOTALL)
_MADE: Final = "SELECT to_regclass('mixdown.migrations') IS NOT NULL"


class Migration(msgspec.Struct, frozen=True):
    """A numbered SQL file: parts of the store have numbers of their own (00xx the log, 01xx the state, …)."""

    number: int
    name: str
    statements: str


def migrations() -> list[Migration]:
    """The migrations of this version, in order."""
    found = []
    for entry in resources.files("mixdown.store.postgres").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match:
            found.append(Migration(int(match[1]), entry.name, entry.read_text("utf-8")))
    found.sort(key=lambda each: each.number)
    numbers = [each.number for each in found]
    assert len(set(numbers)) == len(numbers), "two migrations have one number"
    return found


def statements_in(text: str) -> list[str]:
    """The statements of a file, one by one."""
    found, statement = [], ""
    for piece in _PIECE.finditer(text):
        if piece[0] == ";":
            found.append(statement.strip())
            statement = ""
        elif not piece[0].startswith("--"):
            statement += piece[0]
    return [*found, statement.strip()] if statement.strip() else found


def waiting(database: Database) -> list[Migration]:
    """The migrations that the database has not taken. Raises `SchemaTooNewError`."""
    with database.transaction() as cursor:
        return _waiting(cursor, database.what)


def migrate(database: Database, *, partitions: int = PARTITIONS) -> list[Migration]:
    """Take the migrations that the database has not taken; which they were.

    `partitions` counts when the store is made, and never again. Several processes may ask at once.
    Raises `SchemaTooNewError` where a newer Mixdown has been here, `StoreError`.
    """
    if not 1 <= partitions <= PARTITIONS_LIMIT:
        raise StoreError(f"a store has 1 to {PARTITIONS_LIMIT} partitions, and not {partitions}")
    taken: list[Migration] = []
    while True:
        with database.transaction() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 0")  # another may be at a step that takes long
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            steps = _waiting(cursor, database.what)
            if not steps:
                return taken
            _take(cursor, steps[0], partitions)
        taken.append(steps[0])


def require_migrated(database: Database) -> None:
    """Raises `StoreError` where the tables are not those of this version."""
    if steps := waiting(database):
        raise StoreError(
            f"{database.what} has no tables of this version of Mixdown: {steps[0].name} is to be done",
            hint="Make them, or bring them up to date: mixdown db migrate.",
        )


def _waiting(cursor: Cursor, what: str) -> list[Migration]:
    known = migrations()
    made = cursor.execute(_MADE).fetchone()
    if made != (True,):
        return known
    taken = {number for (number,) in cursor.execute("SELECT number FROM mixdown.migrations").fetchall()}
    unknown = taken.difference(each.number for each in known)
    if unknown:
        raise SchemaTooNewError(
            f"{what} has taken migration {max(unknown):04}, which this Mixdown does not know",
            hint="It was written by a newer Mixdown: start that version, or use another database.",
        )
    return [each for each in known if each.number not in taken]


def _take(cursor: Cursor, step: Migration, partitions: int) -> None:
    if step.number == 1:
        cursor.execute("SELECT set_config('mixdown.partitions', %s, true)", (str(partitions),))
    # one by one: what changes a table that is spread a coordinator passes on with all that stands in the same
    # text, and its nodes take no more than one
    for text in statements_in(step.statements):
        # no parameters: `sql.SQL` wants a literal, and this is a file of our own
        statement: sql.SQL = sql.SQL(text)
        cursor.execute(statement)
    cursor.execute(
        "INSERT INTO mixdown.migrations (number, name, taken_at) VALUES (%s, %s, now())",
        (step.number, step.name),
    )
