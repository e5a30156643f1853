"""The writes of one partition's fold: a transaction that only the holder of the lease can commit.

Enters: where a watermark stood and is to stand. Leaves: a connection to write through. Its first statement
takes the partition's row of `watermarks`, so a transaction that was given up for lost is waited for; and
where fence or place are no more those that were meant, it fails as a whole: a process that was paused can
never write late.
"""

from __future__ import annotations

from typing import Any, Final

from psycopg import errors

from mixdown.model.errors import LeaseLostError, StoreError
from mixdown.store.postgres.pool import Connection

KIND: Final = "fold"
# NULL, which the column does not take: an error in the middle of a pipeline, without a round trip to look
_MOVE: Final = """
    UPDATE mixdown.watermarks SET position = CASE
        WHEN (%(fence)s::bigint IS NULL OR fence = %(fence)s)
            AND (%(begin)s::bigint IS NULL OR position = %(begin)s)
        THEN coalesce(%(position)s, position) END
    WHERE partition = %(partition)s AND kind = %(kind)s
"""


def move(
    connection: Connection,
    partition: int,
    fence: int | None,
    *,
    begin: int | None = None,
    position: int | None = None,
) -> None:
    """Move a watermark from `begin` to `position` (None: leave it), under this fence, or fail."""
    asked: dict[str, Any] = {"fence": fence, "begin": begin, "position": position}
    connection.execute(_MOVE, asked | {"partition": partition, "kind": KIND})


def lease_lost(error: BaseException, partition: int) -> LeaseLostError | None:
    """The error to raise where it was `move` that failed."""
    cause = error.__cause__ if isinstance(error, StoreError) else error
    if isinstance(cause, errors.NotNullViolation) and "watermarks" in _table(cause):
        return LeaseLostError(f"another process folds partition {partition} now: nothing was written")
    return None


def _table(error: errors.NotNullViolation) -> str:
    """What names the table: a cluster passes on the sentence of the node alone, and there of a shard."""
    return error.diag.table_name or str(error)
