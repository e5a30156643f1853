"""mixpanel-data-export, unmodified, against a running server that the redirect helper leads it to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.seeding import EVENT_DAYS, EVENT_NAMES, Seeded
from tests.sdk.support import NODE_REDIRECT, run_node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DAYS = dict(zip(("from_date", "to_date"), EVENT_DAYS, strict=True))


def test_profiles_and_empty_reports_are_read(
    seeded: Seeded, node_environment: Mapping[str, str], tmp_path: Path
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("engage", {}),
        ("engage", {"where": 'properties["n"] < 3', "output_properties": ["n"]}),
        ("engage", {"distinct_ids": ["user-00001", "user-00002"]}),
        ("listFunnels", {}),
        ("funnels", {"funnel_id": 1, **DAYS}),
        ("annotations", DAYS),
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
    first, few, two, *empty, figure, names, counts, exported = run_node(
        tmp_path, "data_export.js", task, environment=environment
    )
    assert (first["total"], first["page_size"], len(first["results"])) == (2000, 1000, 1000)
    assert [row["$properties"] for row in few["results"]] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [row["$distinct_id"] for row in two["results"]] == ["user-00001", "user-00002"]
    assert empty == [
        [],
        {"meta": {"dates": []}, "data": {}},
        {"annotations": [], "error": False},
        {},
    ]
    assert sorted(names) == sorted(EVENT_NAMES)
    assert sum(counts["data"]["values"]["View"].values()) == len(seeded.earlier) / 3
    assert [event["properties"]["n"] for event in exported] == list(range(len(seeded.earlier)))
    assert "not built yet" in figure["error"]

    second = {"page": 1, "session_id": first["session_id"]}
    [page] = run_node(
        tmp_path,
        "data_export.js",
        {"secret": seeded.server.secret, "calls": [("engage", second)]},
        environment=environment,
    )
    rows = {row["$distinct_id"]: row["$properties"] for row in first["results"] + page["results"]}
    assert rows == seeded.users
