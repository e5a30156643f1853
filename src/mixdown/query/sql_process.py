"""The process that answers one query which names `history`: `guarded`, and what reads the history.

As `store/sqlite/guarded.py`, but with Mixdown imported, which takes it a moment longer to start.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import apsw

from mixdown.query.sql_history import TABLE, add_history
from mixdown.store.sqlite import guarded
from mixdown.store.sqlite.state import SqliteState


def _with_history(connection: apsw.Connection, folder: Path, project: int) -> tuple[str, ...]:
    state = SqliteState(folder, writes=False)
    state.watermark()  # its file is open now: none can be opened later
    state.history_reach()
    add_history(connection, state, {project})
    return (TABLE,)


if __name__ == "__main__":
    guarded.main(_with_history)
