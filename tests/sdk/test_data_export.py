"""mixpanel-data-export, unmodified, against a running server that the redirect helper leads it to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.seeding import EVENT_DAYS, EVENT_NAMES, FUNNEL, Seeded
from tests.sdk.support import NODE_REDIRECT, run_node

pytestmark = pytest.mark.slow

DAYS = dict(zip(("from_date", "to_date"), EVENT_DAYS, strict=True))


def test_profiles_events_and_reports_are_read(
    seeded: Seeded, node_environment: Mapping[str, str], tmp_path: Path
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("engage", {}),
        ("engage", {"where": 'properties["n"] < 3', "output_properties": ["n"]}),
        ("engage", {"distinct_ids": ["user-00001", "user-00002"]}),
        ("listFunnels", {}),
        ("funnels", {"funnel_id": seeded.funnel, **DAYS}),
        ("annotations", DAYS),
        ("retention", {"born_event": "View", "event": "Purchase", **DAYS}),
        ("addiction", {"unit": "week", "addiction_unit": "day", **DAYS}),
        ("topEventProperties", {"event": "Never There"}),
        ("segmentation", {"event": "Sign Up", **DAYS}),
        ("eventNames", {"type": "general"}),
        ("events", {"event": ["View"], "type": "general", "unit": "day", **DAYS}),
        ("export", DAYS),
    ]
    environment = {
        **node_environment,
        "MIXDOWN_BASE": seeded.server.base_url,
        "NODE_OPTIONS": f"--require {NODE_REDIRECT}",
    }
    task = {"secret": seeded.server.secret, "calls": calls}
    first, few, two, listed, funnel, notes, back, often, none, figure, names, counts, exported = run_node(
        tmp_path, "data_export.js", task, environment=environment
    )
    assert (first["total"], first["page_size"], len(first["results"])) == (2000, 1000, 1000)
    assert [row["$properties"] for row in few["results"]] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [row["$distinct_id"] for row in two["results"]] == ["user-00001", "user-00002"]
    assert listed == [{"funnel_id": seeded.funnel, "name": "Buyers"}]
    steps = [row["steps"] for row in funnel["data"].values()]
    assert [sum(row[step]["count"] for row in steps) for step in range(len(FUNNEL))] == seeded.counts()
    assert [note["id"] for note in notes["annotations"]] == [seeded.note]
    assert sum(row["first"] for row in back.values()) == 20
    assert max(row[0] for row in often["data"].values()) == 20
    assert none == {}
    assert sorted(names) == sorted(EVENT_NAMES)
    assert sum(counts["data"]["values"]["View"].values()) == len(seeded.earlier) / 3
    assert [event["properties"]["n"] for event in exported] == list(range(len(seeded.earlier)))
    assert sum(figure["data"]["values"]["Sign Up"].values()) == len(seeded.earlier) / 3

    second = {"page": 1, "session_id": first["session_id"]}
    [page] = run_node(
        tmp_path,
        "data_export.js",
        {"secret": seeded.server.secret, "calls": [("engage", second)]},
        environment=environment,
    )
    rows = {row["$distinct_id"]: row["$properties"] for row in first["results"] + page["results"]}
    assert rows == seeded.users
