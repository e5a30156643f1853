"""What any process sends to a PostgreSQL is heard, and what a cluster would refuse of it is found."""

from __future__ import annotations

import psycopg
import pytest

from tests.store.coordinator import Coordinator
from tests.store.overhearing import SETTINGS, Heard, faults, heard
from tests.store.postgres import postgres_server

GOOD = "UPDATE mixdown.heads SET position = position + %s WHERE partition = %s AND time_ms >= %s"
BAD = "DELETE FROM mixdown.refusals WHERE id > %s"


@pytest.mark.usefixtures("postgresql")  # where PostgreSQL is tried
def test_each_statement_of_mixdowns_is_heard_once_and_judged() -> None:
    with postgres_server(SETTINGS) as server:
        url = server.migrated()
        for name in ("mixdown worker", "mixdown fold", "psql"):
            with psycopg.connect(server.straight(url), application_name=name) as connection:
                for step in (1, 2):
                    connection.execute(GOOD, (step, 0, 70_000))
                connection.execute("SELECT 1")
                if name != "mixdown worker":
                    connection.execute(
                        BAD if name == "mixdown fold" else "DELETE FROM mixdown.keys", (1,) * (name != "psql")
                    )
        known = [each for each in heard(server.folder / "data") if " " in each.application]
        server.copy(server.template(1), "judged")
        with server.connect("judged") as own:
            found = faults(Coordinator(own), known)
    good, bad = (text.replace("%s", "${}").format(1, 2, 3) for text in (GOOD, BAD))
    assert known == [
        Heard("mixdown worker", good, {1: 1, 2: 0, 3: 70_000}),
        Heard("mixdown fold", bad, {1: 1}),
    ]
    assert found == [f"mixdown fold: it does not name one partition, the same for each of its tables: {bad}"]
