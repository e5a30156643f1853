"""mixpanel-headless, unmodified, against a running server, which its own variable names."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.environments import client_programs
from tests.sdk.seeding import EVENT_DAYS, EVENT_NAMES, FUNNEL, Seeded
from tests.sdk.support import run_client
from tests.serving import Profile, Server

pytestmark = pytest.mark.slow

DAYS = dict(zip(("from_date", "to_date"), EVENT_DAYS, strict=True))
CALLS = Path(__file__).parent / "python" / "headless_calls.py"

Call = tuple[str, dict[str, Any]]
Headless = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def python() -> Path:
    """The Python that has the library."""
    return client_programs("mixpanel-headless") / "python"


@pytest.fixture
def headless(python: Path, tmp_path: Path) -> Headless:
    """Call methods of the library's Workspace; returns what each gave."""

    def run(server: Server, *calls: Call, password: str = "") -> list[Any]:
        user, own_password = server.account
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "MP_API_BASE_URL": server.base_url,
            "MP_USERNAME": user,
            "MP_SECRET": password or own_password,
            "MP_PROJECT_ID": str(server.project_id),
            "MP_REGION": "us",
        }
        ended = run_client([python, CALLS], tmp_path, environment, given=json.dumps(calls))
        assert ended.returncode == 0, ended.stderr[-3000:]
        answers: list[Any] = json.loads(ended.stdout)
        return answers

    return run


def profiles(**arguments: Any) -> Call:
    """Profiles by `query_user`, all of them unless a limit is named."""
    return "query_user", {"mode": "profiles", "limit": None, **arguments}


def by_id(rows: list[dict[str, Any]]) -> dict[str, Profile]:
    """Rows of the library as profiles: it takes `$last_seen` out of the properties."""
    found = {row["distinct_id"]: {**row["properties"], "$last_seen": row["last_seen"]} for row in rows}
    assert len(found) == len(rows)
    return found


def test_profiles_come_in_a_stream_in_sequence_and_in_parallel(seeded: Seeded, headless: Headless) -> None:
    streamed, sequence, parallel, few = headless(
        seeded.server,
        ("stream_profiles", {}),
        profiles(),
        profiles(parallel=True),
        profiles(limit=1500, parallel=True),
    )
    assert by_id(streamed) == seeded.users
    assert by_id(sequence["profiles"]) == seeded.users
    assert by_id(parallel["profiles"]) == seeded.users
    assert (parallel["meta"]["pages_fetched"], parallel["meta"]["failed_pages"]) == (2, [])
    assert len(few["profiles"]) == 1500


def test_filters_cohorts_search_and_order_reach_the_server(seeded: Seeded, headless: Headless) -> None:
    server = seeded.server
    highest = {"sort_by": "n", "sort_order": "descending", "limit": 3}
    equal, lasting, in_cohort, nobody, sorted_, found, one, chosen, companies = headless(
        server,
        profiles(where=["equals", "plan", "pro"]),
        profiles(where=["between", "n", 10, 12], properties=["n"]),
        profiles(cohort=seeded.pros),
        profiles(cohort=seeded.none),
        profiles(**highest),
        profiles(search="U17@EXAMPLE"),
        profiles(distinct_id="user-00007"),
        profiles(distinct_ids=["user-00007", "user-00008", "no one"]),
        ("stream_profiles", {"group_id": "Company"}),
    )
    assert by_id(equal["profiles"]) == seeded.members
    assert [row["properties"] for row in lasting["profiles"]] == [{"n": 10}, {"n": 11}, {"n": 12}]
    assert by_id(in_cohort["profiles"]) == seeded.members
    assert nobody["profiles"] == []
    assert [row["properties"]["n"] for row in sorted_["profiles"]] == [1999, 1998, 1997]
    assert [row["distinct_id"] for row in found["profiles"]] == ["user-00017"]
    assert [row["distinct_id"] for row in one["profiles"]] == ["user-00007"]
    assert [row["distinct_id"] for row in chosen["profiles"]] == ["user-00007", "user-00008"]
    assert by_id(companies) == seeded.groups


def test_aggregates_come_from_all_profiles_or_from_a_cohort(seeded: Seeded, headless: Headless) -> None:
    count, pros, extremes, percentile, summary, segmented = (
        answer["aggregate_data"]
        for answer in headless(
            seeded.server,
            ("query_user", {}),
            ("query_user", {"where": ["equals", "plan", "pro"]}),
            ("query_user", {"aggregate": "extremes", "aggregate_property": "n"}),
            ("query_user", {"aggregate": "percentile", "aggregate_property": "n", "percentile": 50}),
            ("query_user", {"aggregate": "numeric_summary", "aggregate_property": "n"}),
            ("query_user", {"segment_by": [seeded.pros, seeded.none]}),
        )
    )
    assert count == len(seeded.users)
    assert pros == len(seeded.members)
    assert (extremes["min"], extremes["max"]) == (0, 1999)
    assert percentile
    assert summary["count"] == len(seeded.users)
    assert segmented == {str(seeded.pros): len(seeded.members), str(seeded.none): 0}


def test_what_a_workspace_asks_for_first_is_there(seeded: Seeded, headless: Headless) -> None:
    server = seeded.server
    cohorts, me, projects, *empty = headless(
        server,
        ("cohorts", {}),
        ("me", {}),
        ("projects", {}),
        ("properties", {"event": "Never There"}),
        ("list_annotation_tags", {}),
        ("stream_events", {"from_date": "2025-01-01", "to_date": "2025-01-31"}),
    )
    assert {(row["id"], row["name"], row["count"]) for row in cohorts} == {
        (seeded.pros, "Pros", len(seeded.members)),
        (seeded.none, "Nobody", 0),
    }
    assert str(server.project_id) in json.dumps(me)
    assert [str(project["id"]) for project in projects] == [str(server.project_id)]
    assert empty == [[]] * 3


def test_funnels_retention_frequency_and_annotations_are_read(seeded: Seeded, headless: Headless) -> None:
    listed, found, saved, back, often, notes = headless(
        seeded.server,
        ("funnels", {}),
        ("funnel", {"funnel_id": seeded.funnel, **DAYS}),
        ("query_saved_report", {"bookmark_id": seeded.funnel, "bookmark_type": "insights"}),
        ("retention", {"born_event": "View", "return_event": "Purchase", "interval_count": 3, **DAYS}),
        ("frequency", {**DAYS, "unit": "day", "addiction_unit": "hour"}),
        ("list_annotations", DAYS),
    )
    assert [(one["funnel_id"], one["name"]) for one in listed] == [(seeded.funnel, "Buyers")]
    assert [step["event"] for step in found["steps"]] == list(FUNNEL)
    assert [step["count"] for step in found["steps"]] == seeded.counts()
    assert saved["headers"] == ["$funnel", "n"]
    viewers = {each["properties"]["distinct_id"] for each in seeded.earlier if each["event"] == "View"}
    assert sum(cohort["size"] for cohort in back["cohorts"]) == len(viewers)
    assert {len(cohort["retention"]) for cohort in back["cohorts"]} == {4}
    assert sum(day[0] for day in often["data"].values()) == len(
        {
            (each["properties"]["time"] // 86_400_000, each["properties"]["distinct_id"])
            for each in seeded.earlier
        }
    )
    assert [(note["id"], note["description"]) for note in notes] == [(seeded.note, "Released")]


def test_events_are_named_counted_and_read(seeded: Seeded, headless: Headless) -> None:
    person = seeded.earlier[0]["properties"]["distinct_id"]
    names, properties, top, feed, streamed, chosen = headless(
        seeded.server,
        ("events", {}),
        ("properties", {"event": "View"}),
        ("top_events", {"type": "general"}),
        ("activity_feed", {"distinct_ids": [person], **DAYS}),
        ("stream_events", DAYS),
        ("stream_events", {**DAYS, "events": ["View"], "where": 'properties["n"] < 10'}),
    )
    assert sorted(names) == sorted(EVENT_NAMES)
    assert {"n", "text", "tags"} <= set(properties)
    assert isinstance(top, list)
    theirs = [each for each in seeded.earlier if each["properties"]["distinct_id"] == person]
    assert {each["event"] for each in feed["events"]} == {each["event"] for each in theirs}
    assert len(feed["events"]) == len(theirs)
    assert {each["insert_id"]: each["event_name"] for each in streamed} == {
        each["properties"]["$insert_id"]: each["event"] for each in seeded.earlier
    }
    wanted = [each for each in seeded.earlier if each["event"] == "View" and each["properties"]["n"] < 10]
    assert [each["properties"]["n"] for each in chosen] == [each["properties"]["n"] for each in wanted]


def test_wrong_credentials_are_told_apart_from_a_wrong_query(seeded: Seeded, headless: Headless) -> None:
    [wrong] = headless(seeded.server, profiles(), password="wrong")
    assert wrong["error"] == "AuthenticationError"
    [unreadable] = headless(seeded.server, profiles(where='properties["plan"] = "pro"'))
    assert unreadable["error"] == "QueryError"


def test_schemas_of_the_data_dictionary_are_written_merged_read_and_deleted(
    seeded: Seeded, headless: Headless
) -> None:
    schema = {
        "description": "A sale / with a slash in its name.",
        "properties": {"amount": {"type": "number", "description": "Euros."}},
        "metadata": {"com.mixpanel": {"displayName": "Sale", "tags": ["core"]}},
    }
    of_users = {"properties": {"plan": {"type": "string"}}}
    name = {"entity_type": "event", "entity_name": "Sale/made"}
    made, merged, _, listed, one, registry, gone, missing = headless(
        seeded.server,
        ("create_schema", {**name, "schema_json": schema}),
        ("update_schema", {**name, "schema_json": {"properties": {"tax": {"type": "number"}}}}),
        ("create_schema", {"entity_type": "profile", "entity_name": "$user", "schema_json": of_users}),
        ("lexicon_schemas", {}),
        ("lexicon_schema", {"entity_type": "event", "name": "Sale/made"}),
        ("list_schema_registry", {"entity_type": "profile"}),
        ("delete_schemas", name),
        ("lexicon_schema", {"entity_type": "event", "name": "Gone"}),
    )
    assert made == {"status": "ok"}
    assert merged["schemaJson"]["properties"].keys() == {"amount", "tax"}
    assert [(each["entity_type"], each["name"]) for each in listed] == [
        ("event", "Sale/made"),
        ("profile", "$user"),
    ]
    assert one["schema_json"]["description"] == schema["description"]
    assert one["schema_json"]["metadata"]["display_name"] == "Sale"
    assert [each["name"] for each in registry] == ["$user"]
    assert gone["delete_count"] == 1
    assert missing["error"] == "QueryError"


def test_events_are_counted_segmented_and_summed(seeded: Seeded, headless: Headless) -> None:
    views = [each["properties"] for each in seeded.earlier if each["event"] == "View"]
    small = 'properties["n"] < 10'
    whole, by_person, few, counts, unique, by_value, ranges, sums, means = headless(
        seeded.server,
        ("segmentation", {"event": "View", **DAYS}),
        ("segmentation", {"event": "View", "on": "distinct_id", "unit": "month", **DAYS}),
        ("segmentation", {"event": "View", "on": 'properties["n"]', "where": small, **DAYS}),
        ("event_counts", {"events": ["View", "Purchase"], **DAYS}),
        ("event_counts", {"events": ["View"], "type": "unique", "unit": "month", **DAYS}),
        ("property_counts", {"event": "View", "property_name": "distinct_id", "unit": "month", **DAYS}),
        ("segmentation_numeric", {"event": "View", "on": 'properties["n"]', **DAYS}),
        ("segmentation_sum", {"event": "View", "on": 'properties["n"]', **DAYS}),
        ("segmentation_average", {"event": "View", "on": 'properties["n"]', **DAYS}),
    )
    people = {each["distinct_id"] for each in views}
    assert (whole["total"], list(whole["series"])) == (len(views), ["View"])
    assert by_person["series"].keys() == by_value["series"].keys() == people
    assert by_person["total"] == len(views)
    assert few["series"].keys() == {str(each["n"]) for each in views if each["n"] < 10}
    assert sum(counts["series"]["View"].values()) == len(views)
    assert counts["series"].keys() == {"View", "Purchase"}
    assert max(unique["series"]["View"].values()) <= len(people) <= sum(unique["series"]["View"].values())
    assert sum(sum(found.values()) for found in ranges["series"].values()) == len(views)
    assert sum(sums["results"].values()) == sum(each["n"] for each in views)
    assert min(each["n"] for each in views) <= max(means["results"].values()) <= views[-1]["n"]
