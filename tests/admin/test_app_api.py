"""What clients ask of `/api/app` before they read (contract query §6.5)."""

from __future__ import annotations

import pytest

from tests.reads.support import OWNER, READER, SECRET, STRANGER, World, basic, group

WORKSPACE = {"name": "All Project Data", "is_default": True, "is_global": True, "is_visible": True}


def test_me_tells_who_asks_and_what_they_read(world: World) -> None:
    me = world.get("/api/app/me/?include_workspace_users=false").json()["results"]
    own = world.project.id
    account = next(each for each in world.store.catalog.accounts() if each.username == READER)
    assert me == {
        "user_id": account.id,
        "user_name": READER,
        "user_email": READER,
        "organizations": {"1": {"id": 1, "name": "Mixdown"}},
        "projects": {
            str(own): {
                "id": own,
                "name": "default",
                "organization_id": 1,
                "timezone": "UTC",
                "has_workspaces": True,
                "domain": "",
                "role": "consumer",
            }
        },
        "workspaces": {str(own): {"id": own, "project_id": own, **WORKSPACE}},
    }
    assert world.get("/api/app/me", user=OWNER).json()["results"]["projects"].keys() == {
        str(own),
        str(world.other.id),
    }


def test_me_of_a_projects_secret_is_nobody_who_reads_that_project(world: World) -> None:
    me = world.get("/api/app/me", headers={"Authorization": basic(SECRET)}).json()["results"]
    assert (me["user_id"], me["user_email"], list(me["projects"])) == (0, "", [str(world.project.id)])


def test_each_project_has_one_workspace_of_its_own_id(world: World) -> None:
    own = world.project.id
    listed = world.get(f"/api/app/projects/{own}/workspaces/public").json()
    assert listed == {"status": "ok", "results": [{"id": own, "project_id": own, **WORKSPACE}]}
    index = world.get("/api/app/projects/metadata/index").json()
    assert index == {
        "status": "ok",
        "results": {str(own): {"workspaces": {str(own): {"id": own, "project_id": own, **WORKSPACE}}}},
    }


def test_group_keys_are_listed_with_their_numbers(world: World) -> None:
    target = f"/api/app/projects/{world.project.id}/data-groups/"
    assert world.get(target).json() == {"status": "ok", "results": []}
    world.send(group("Company", "Acme"), group("Äpfel", "Boskop"), endpoint="groups")
    world.fold_all()
    numbers = world.store.state.group_keys(world.project.id)
    assert world.get(target).json()["results"] == [
        {"property_name": key, "data_group_id": numbers[key]} for key in ("Company", "Äpfel")
    ]


@pytest.mark.parametrize("path", ["workspaces/public", "data-groups", "annotations"])
def test_a_project_of_others_is_refused_as_one_that_does_not_exist(world: World, path: str) -> None:
    texts = set()
    for number in (world.project.id, 999):
        reply = world.get(f"/api/app/projects/{number}/{path}", user=STRANGER)
        assert reply.status_code == 403
        texts.add(reply.text.replace(str(number), "N"))
    assert len(texts) == 1
