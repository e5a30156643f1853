"""The cases of contract ingestion §11 on identity, and what §8 says beyond them, over real HTTP.

One server with two workers, a project of each mode; each test has ids of its own.
"""

from __future__ import annotations

import json
import threading
import uuid
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.contract.support import ONE, V0
from tests.serving import Response, Server, StartServer

MODES = ("simplified", "original", "legacy")
REFUSED = "identity events are not allowed when project is using simplified identity management"


class Project:
    """A project of one mode, as an application and an analyst meet it."""

    def __init__(self, server: Server, mode: str) -> None:
        made = server.post(
            "/api/mixdown/projects", {"name": mode, "id_merge": mode}, headers=server.authorization()
        ).json()["results"]
        self.server = server
        self.id, self.token, self.secret = made["id"], made["token"], made["secret"]

    def track(self, name: str, query: str = "", **properties: Any) -> Response:
        """An event at /track; its properties are given without their `$`, as `the_` those that have none."""
        return self.server.post(f"/track{query}", [self.event(name, properties)])

    def event(self, name: str, properties: dict[str, Any]) -> dict[str, Any]:
        """An event as it is sent."""
        named = {
            name.removeprefix("the_") if name.startswith("the_") else f"${name}": value
            for name, value in properties.items()
        }
        return {"event": name, "properties": {"token": self.token, **named}}

    def imported(self, *events: dict[str, Any], strict: int = 1) -> Response:
        """A request to /import."""
        target = f"/import?strict={strict}&project_id={self.id}"
        return self.server.post(target, list(events), headers=self.server.authorization())

    def engage(self, distinct_id: str, **operators: Any) -> None:
        """An update; operators and fields are given without their `$`."""
        named = {f"${name}": value for name, value in operators.items()}
        ONE.check(
            self.server.post("/engage?ip=0", [{"$token": self.token, "$distinct_id": distinct_id, **named}])
        )

    def profile(self, distinct_id: str, **more: Any) -> tuple[str, dict[str, Any]] | None:
        """The id and properties of a profile, by any id of the person."""
        reply = self.server.get("/api/query/engage", project_id=self.id, distinct_id=distinct_id, **more)
        assert reply.status == 200, reply
        for row in reply.json()["results"]:
            row["$properties"].pop("$last_seen")
            return row["$distinct_id"], row["$properties"]
        return None

    def ids(self, one: str) -> list[str]:
        """All ids of a person, the canonical one first."""
        reply = self.server.get("/api/mixdown/identity", project_id=self.id, distinct_id=one)
        assert reply.status == 200, reply
        found: list[str] = reply.json()["results"]["ids"]
        return found

    def exported(self, *ids: str) -> list[tuple[str, str, str | None]]:
        """(event, distinct_id, id before) of the events of these persons, as the raw export has them."""
        today = datetime.now(UTC).date()
        days = {"from_date": today - timedelta(days=1), "to_date": today}
        reply = self.server.get("/api/2.0/export", project_id=self.id, **days)
        assert reply.status == 200, reply
        lines = [json.loads(line) for line in reply.body.splitlines()]
        return [
            (line["event"], told["distinct_id"], told.get("$distinct_id_before_identity"))
            for line in lines
            if (told := line["properties"])["distinct_id"] in ids
        ]

    def refusals(self) -> list[tuple[str, str]]:
        """(message, record) of what was refused."""
        reply = self.server.get("/api/mixdown/refusals", project_id=self.id, limit=1000)
        return [(each["message"], each["record"]) for each in reply.json()["results"]]


@pytest.fixture(scope="module")
def projects(start_module_server: StartServer) -> dict[str, Project]:
    """A project of each mode on one server."""
    server = start_module_server(workers=2)
    return {mode: Project(server, mode) for mode in MODES}


@pytest.fixture
def original(projects: dict[str, Project]) -> Project:
    return projects["original"]


@pytest.fixture
def simplified(projects: dict[str, Project]) -> Project:
    return projects["simplified"]


@pytest.fixture
def legacy(projects: dict[str, Project]) -> Project:
    return projects["legacy"]


def fresh(name: str) -> str:
    """An id that no other test has."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def test_case_69_and_70_delete_by_an_alias_is_that_of_the_person_unless_it_is_ignored(
    original: Project,
) -> None:
    user, alias = fresh("u"), fresh("a")
    ONE.check(original.track("$create_alias", the_distinct_id=user, the_alias=alias))
    original.engage(user, set={"a": 1})
    original.engage(alias, delete="", ignore_alias=True)
    assert original.profile(user) == (user, {"a": 1})
    original.engage(alias, delete="")
    assert original.profile(user) is None


@pytest.mark.parametrize("form", ["documented", "sdk", "prefixed"])
def test_case_141_identify_links(original: Project, form: str) -> None:
    user, anonymous = fresh("u"), str(uuid.uuid4())
    if form == "sdk":
        named = {"the_distinct_id": user, "anon_distinct_id": anonymous}
    else:
        anonymous = f"$device:{anonymous}" if form == "prefixed" else anonymous
        named = {"identified_id": user, "anon_id": anonymous}
    ONE.check(original.track("Visit", the_distinct_id=anonymous))
    ONE.check(original.track("$identify", **named))
    assert original.ids(anonymous) == [user, anonymous]
    assert original.exported(user) == [("Visit", user, anonymous), ("$identify", user, None)]


def test_case_141_as_a_form(original: Project) -> None:
    user, anonymous = fresh("u"), str(uuid.uuid4())
    event = original.event("$identify", {"identified_id": user, "anon_id": anonymous})
    body = "data=" + json.dumps(event)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    ONE.check(original.server.post("/track", body.encode(), headers))
    assert original.ids(user) == [user, anonymous]


def test_case_142_another_shape_does_not_link_and_says_so_in_a_refusal(original: Project) -> None:
    user, odd = fresh("u"), fresh("not-a-uuid")
    ONE.check(original.track("$identify", identified_id=user, anon_id=odd))
    assert original.ids(user) == [user]
    told = [message for message, record in original.refusals() if odd in record]
    assert told == ["identity, $anon_id must be a UUID: five groups of hex digits"]


def test_case_143_an_update_of_an_alias_is_the_persons(original: Project) -> None:
    user, alias = fresh("u"), fresh("a")
    ONE.check(original.track("$create_alias", the_distinct_id=user, the_alias=alias))
    original.engage(alias, set={"n": 1})
    assert original.profile(user) == original.profile(alias) == (user, {"n": 1})
    assert original.profile(alias, ignore_alias="true") is None


def test_case_145_an_alias_without_distinct_id_is_refused(original: Project) -> None:
    reply = original.track("$create_alias", "?verbose=1", the_alias=fresh("a"))
    V0("distinct_id, missing or empty").check(reply)
    V0("distinct_id, missing or empty").check(
        original.track("$identify", "?verbose=1", anon_id=str(uuid.uuid4()))
    )


def test_case_146_merge_joins_two_clusters_and_needs_neither_token_nor_time_nor_insert_id(
    original: Project,
) -> None:
    first, second, alias = fresh("u"), fresh("v"), fresh("a")
    ONE.check(original.track("$create_alias", the_distinct_id=second, the_alias=alias))
    reply = original.imported({"event": "$merge", "properties": {"$distinct_ids": [first, second]}})
    assert (reply.status, reply.json()["num_records_imported"]) == (200, 1)
    assert original.ids(first) == [second, first, alias], "the older user is the canonical one"


def test_merge_at_track_has_no_effect(original: Project) -> None:
    first, second = fresh("u"), fresh("v")
    ONE.check(original.track("$merge", distinct_ids=[first, second]))
    assert original.ids(first) == [first]
    assert not [record for _, record in original.refusals() if first in record]


def test_the_second_mapping_of_an_alias_and_the_second_user_of_an_id_are_ignored(original: Project) -> None:
    user, other, alias, anonymous = fresh("u"), fresh("v"), fresh("a"), str(uuid.uuid4())
    for owner in (user, other):
        ONE.check(original.track("$create_alias", the_distinct_id=owner, the_alias=alias))
        ONE.check(original.track("$identify", identified_id=owner, anon_id=anonymous))
    assert original.ids(other) == [other]
    assert original.ids(user) == [user, alias, anonymous]
    assert len([record for _, record in original.refusals() if other in record]) == 2


def test_a_link_that_fails_is_no_error_under_strict(original: Project) -> None:
    user, odd = fresh("u"), fresh("odd")
    event = {"event": "$identify", "properties": {"$identified_id": user, "$anon_id": odd}}
    reply = original.imported(event)
    assert reply.json() == {"code": 200, "num_records_imported": 1, "status": "OK"}


def test_device_and_user_of_an_event_link_nothing_in_original_mode(original: Project) -> None:
    device, user = fresh("d"), fresh("u")
    ONE.check(original.track("Visit", device_id=device, user_id=user, the_distinct_id=user))
    assert original.ids(f"$device:{device}") == [f"$device:{device}"]


def test_a_chain_of_aliases_is_one_person_up_to_500_ids(original: Project) -> None:
    ids = [fresh(f"c{number}") for number in range(502)]
    events = [
        {"event": "$create_alias", "properties": {"distinct_id": one, "alias": other}}
        for one, other in pairwise(ids)
    ]
    reply = original.imported(*events)
    assert reply.json()["num_records_imported"] == 501
    assert sorted(original.ids(ids[499])) == sorted(ids[:500])
    assert original.ids(ids[0])[0] == ids[0]
    assert original.ids(ids[501]) == [ids[500], ids[501]], "which are two of their own"
    assert len([record for message, record in original.refusals() if ids[500] in record]) == 1
    original.engage(ids[499], set={"n": 1})
    assert original.profile(ids[0]) == (ids[0], {"n": 1})


def test_case_148_and_149_the_first_user_of_a_device_keeps_it(simplified: Project) -> None:
    device, user, other = fresh("D"), fresh("U"), fresh("V")
    ONE.check(simplified.track("A", device_id=device))
    ONE.check(simplified.track("B", device_id=device, user_id=user))
    assert simplified.exported(user) == [("A", user, f"$device:{device}"), ("B", user, None)]
    ONE.check(simplified.track("C", device_id=f"$device:{device}", user_id=other))
    assert simplified.ids(f"$device:{device}") == [user, f"$device:{device}"]
    assert simplified.exported(other) == [("C", other, None)]
    assert len([record for _, record in simplified.refusals() if device in record]) == 1


def test_a_bare_distinct_id_implies_a_device_or_a_user(simplified: Project) -> None:
    device, user = fresh("D"), fresh("U")
    ONE.check(simplified.track("A", the_distinct_id=f"$device:{device}"))
    ONE.check(simplified.track("B", the_distinct_id=user))
    ONE.check(simplified.track("C", device_id=device, user_id=user))
    assert simplified.ids(user) == [user, f"$device:{device}"]
    assert [event for event, _, _ in simplified.exported(user)] == ["A", "B", "C"]


def test_properties_of_a_device_stay_with_it(simplified: Project) -> None:
    device, user = fresh("D"), fresh("U")
    simplified.engage(f"$device:{device}", set={"before": 1})
    ONE.check(simplified.track("A", device_id=device, user_id=user))
    simplified.engage(f"$device:{device}", set={"after": 1})
    assert simplified.profile(user) == (user, {"after": 1})
    assert simplified.profile(f"$device:{device}", ignore_alias=1) == (f"$device:{device}", {"before": 1})


def test_case_147_verbs_do_nothing_at_track_in_simplified_mode(simplified: Project) -> None:
    user, anonymous = fresh("u"), str(uuid.uuid4())
    ONE.check(simplified.track("$identify", identified_id=user, anon_id=anonymous, the_distinct_id=user))
    ONE.check(simplified.track("$create_alias", the_distinct_id=user, the_alias=anonymous))
    assert simplified.ids(user) == [user]
    assert [event for event, _, _ in simplified.exported(user)] == ["$identify", "$create_alias"]


def test_case_151_a_strict_import_with_a_verb_is_refused_whole_in_simplified_mode(
    simplified: Project,
) -> None:
    user = fresh("u")
    good = simplified.event("Good", {"the_distinct_id": user, "the_time": 1, "insert_id": "i"})
    good["properties"]["time"] = int(datetime.now(UTC).timestamp())
    verb = {"event": "$identify", "properties": {"$identified_id": user, "$anon_id": str(uuid.uuid4())}}
    reply = simplified.imported(verb, good)
    told = reply.json()
    assert (reply.status, told["num_records_imported"]) == (400, 0)
    assert told["failed_records"] == [REFUSED]
    assert simplified.exported(user) == []


def test_legacy_aliases_are_one_hop_and_count_from_then_on(legacy: Project) -> None:
    user, alias, second = fresh("u"), fresh("a"), fresh("b")
    ONE.check(legacy.track("Before", the_distinct_id=alias))
    ONE.check(legacy.track("$create_alias", the_distinct_id=user, the_alias=alias))
    ONE.check(legacy.track("After", the_distinct_id=alias))
    ONE.check(legacy.track("$create_alias", the_distinct_id=alias, the_alias=second))
    ONE.check(legacy.track("$create_alias", the_distinct_id=fresh("v"), the_alias=alias))
    legacy.engage(alias, set={"n": 1})
    legacy.engage(second, set={"m": 1})
    assert legacy.profile(user) == (user, {"n": 1})
    assert legacy.profile(second) == (alias, {"m": 1}) or legacy.profile(alias, ignore_alias=1) == (
        alias,
        {"m": 1},
    )
    found = {(event, owner) for event, owner, _ in legacy.exported(user, alias)}
    assert {("Before", alias), ("After", user)} <= found


def test_users_who_race_for_a_device_get_one_winner_for_good(simplified: Project) -> None:
    device = fresh("D")
    users = [fresh(f"R{number}") for number in range(8)]
    barrier = threading.Barrier(len(users))

    def send(user: str) -> None:
        barrier.wait()
        for _ in range(5):
            ONE.check(simplified.track("Race", device_id=device, user_id=user))

    threads = [threading.Thread(target=send, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner, *held = simplified.ids(f"$device:{device}")
    assert winner in users
    assert held == [f"$device:{device}"]
    ONE.check(simplified.track("Anonymous", device_id=device))
    assert simplified.exported(winner)[-1] == ("Anonymous", winner, f"$device:{device}")
    assert len([record for _, record in simplified.refusals() if device in record]) == len(users) - 1


def test_an_unmerge_over_http_frees_an_id_for_others(original: Project) -> None:
    user, other, alias = fresh("u"), fresh("v"), fresh("a")
    ONE.check(original.track("$create_alias", the_distinct_id=user, the_alias=alias))
    ONE.check(original.track("Seen", the_distinct_id=alias))
    body = {"project_id": original.id, "distinct_id": alias}
    reply = original.server.post(
        "/api/mixdown/identity/unmerge", body, headers=original.server.authorization()
    )
    assert (reply.status, reply.json()["results"]["ids"]) == (200, [alias])
    assert original.exported(alias) == [("Seen", alias, None)], "its events are its own again"
    ONE.check(original.track("$create_alias", the_distinct_id=other, the_alias=alias))
    assert original.ids(alias) == [other, alias]
    assert ("Seen", other, alias) in original.exported(other)


def test_a_failed_link_can_be_sent_again_once_the_way_is_free(original: Project) -> None:
    user, other, alias = fresh("u"), fresh("v"), fresh("a")
    for owner in (user, other):
        ONE.check(original.track("$create_alias", the_distinct_id=owner, the_alias=alias))
    assert original.ids(alias) == [user, alias]
    original.server.command("identity", "unmerge", alias, "--project", "original", "--yes", "--json")
    reply = original.server.get("/api/mixdown/refusals", project_id=original.id, limit=1000)
    (refusal,) = [each for each in reply.json()["results"] if other in each["record"]]
    sent = original.server.post(
        "/api/mixdown/refusals/resend",
        {"ids": [refusal["id"]], "project_id": original.id},
        headers=original.server.authorization(),
    )
    assert sent.json()["results"] == [{"id": refusal["id"], "stored": True, "error": None}]
    assert original.ids(alias) == [other, alias]


def test_the_command_line_shows_and_unmerges_while_the_server_runs(original: Project) -> None:
    user, alias = fresh("u"), fresh("a")
    ONE.check(original.track("$create_alias", the_distinct_id=user, the_alias=alias))
    shown = original.server.command("identity", "show", alias, "--project", "original", "--json")
    assert shown["ids"] == [user, alias]
    apart = original.server.command("identity", "unmerge", alias, "--project", "original", "--yes", "--json")
    assert (apart["ids"], len(apart["links"])) == ([alias], 1)
