"""Credentials of reads, in every form that clients send (contract query §1.4), and isolation (DESIGN G6)."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import quote

import pytest

from mixdown.model.errors import StoreError
from mixdown.store.credentials import secret_hash
from tests.reads.support import (
    ADMIN,
    ENGAGE,
    IMPORTER,
    NOON_MS,
    OTHER_SECRET,
    OTHER_TOKEN,
    OWNER,
    PASSWORD,
    READER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
    ids_of,
)

ODD_NAME, ODD_PASSWORD = "ünï?~cöde", "~~??>>:with:colons"


def url_safe(credentials: str, *, padded: bool = True) -> str:
    text = base64.urlsafe_b64encode(credentials.encode()).decode()
    return "Basic " + (text if padded else text.rstrip("="))


GOOD = {
    "a service account": basic(f"{READER}:{PASSWORD}"),
    "an admin": basic(f"{ADMIN}:{PASSWORD}"),
    "the owner": basic(f"{OWNER}:{PASSWORD}"),
    "a service account in clear": f"Basic {READER}:{PASSWORD}",
    "a scheme in lower case": basic(f"{READER}:{PASSWORD}").replace("Basic", "basic"),
    "the project secret with its colon": basic(f"{SECRET}:"),
    "the project secret without colon": basic(SECRET),
    "the project secret in clear": f"Basic {SECRET}",
    "the project secret in clear with its colon": f"Basic {SECRET}:",
    "url-safe base64": url_safe(f"{ODD_NAME}:{ODD_PASSWORD}"),
    "url-safe base64 without padding": url_safe(f"{ODD_NAME}:{ODD_PASSWORD}", padded=False),
    "missing padding": basic(SECRET).rstrip("="),
    "the password of an account as Bearer": f"Bearer {ODD_PASSWORD}",
    "Bearer in lower case": f"bearer  {ODD_PASSWORD}",
    "an account with odd characters": basic(f"{ODD_NAME}:{ODD_PASSWORD}"),
}
BAD = {
    "no header": "",
    "the project token as user": basic(f"{TOKEN}:"),
    "the project token without colon": basic(TOKEN),
    "the token as password of an account": basic(f"{READER}:{TOKEN}"),
    "a wrong password": basic(f"{READER}:{PASSWORD[:-1]}1"),
    "an empty password": basic(f"{READER}:"),
    "an unknown account": basic(f"nobody:{PASSWORD}"),
    "an empty name": basic(f":{PASSWORD}"),
    "the secret as password": basic(f":{SECRET}"),
    "the secret with a password": basic(f"{SECRET}:x"),
    "the hash of the secret": basic(secret_hash(SECRET).hex()),
    "the project secret as Bearer": f"Bearer {SECRET}",
    "the project token as Bearer": f"Bearer {TOKEN}",
    "a password that several accounts have, as Bearer": f"Bearer {PASSWORD}",
    "name and password as Bearer": f"Bearer {READER}:{PASSWORD}",
    "nothing after Bearer": "Bearer",
    "a very long Bearer": "Bearer " + "A" * 5000,
    "another scheme": f"Digest {SECRET}",
    "nothing after Basic": "Basic",
    "no base64": "Basic ====",
    "zeros": "Basic " + base64.b64encode(bytes(32)).decode(),
    "very long": "Basic " + "A" * 5000,
}


@pytest.mark.parametrize("form", GOOD)
def test_good_credentials_in_every_form(plain_world: World, form: str) -> None:
    plain_world.add_account(ODD_NAME, "consumer", password=ODD_PASSWORD)
    plain_world.store_users(["ada"])
    target = f"{ENGAGE}?project_id={plain_world.project.id}"
    reply = plain_world.get(target, headers={"Authorization": GOOD[form]})
    assert reply.status_code == 200, reply.text
    assert ids_of(reply.json()) == ["ada"]


@pytest.mark.parametrize("form", ["Basic {}:", "Basic {}"])
def test_a_preset_secret_may_hold_colons(plain_world: World, form: str) -> None:
    plain_world.store.catalog.change_project(plain_world.project.id, secret_hash=secret_hash("a:b:c"))
    for header in (form.format("a:b:c"), basic(form.format("a:b:c").removeprefix("Basic "))):
        assert plain_world.get(ENGAGE, headers={"Authorization": header}).status_code == 200
    for wrong in ("a", "a:", "a:b", "a:b:c:d"):
        assert plain_world.get(ENGAGE, headers={"Authorization": basic(wrong)}).status_code == 401


@pytest.mark.parametrize("form", BAD)
def test_bad_credentials_are_401_with_the_phrase_that_clients_search_for(
    plain_world: World, form: str
) -> None:
    headers = {"Authorization": BAD[form]} if BAD[form] else {}
    for target in ("/api/2.0/engage", f"{ENGAGE}?project_id={plain_world.project.id}", "/api/mixdown/status"):
        reply = plain_world.get(target, user=None, headers=headers)
        assert reply.status_code == 401
        assert "Unable to authenticate request" in reply.json()["error"]
        assert reply.json()["status"] == "error"


@pytest.mark.parametrize("target", ["/api/2.0/engage", ENGAGE])
def test_credentials_in_query_or_body_do_not_count(world: World, target: str) -> None:
    query = f"{target}?api_secret={SECRET}&token={TOKEN}&sig=x&api_key=y&expire=9999999999"
    assert world.get(query, user=None).status_code == 401
    assert world.post(target, user=None, json={"secret": SECRET}).status_code == 401


def test_the_body_of_a_stranger_is_not_even_read(world: World) -> None:
    reply = world.post(ENGAGE, user=None, content=b"{broken")
    assert reply.status_code == 401


@pytest.mark.parametrize(
    ("user", "status"), [(OWNER, 200), (READER, 403), (ADMIN, 403), (STRANGER, 200), (IMPORTER, 403)]
)
def test_an_account_reads_its_own_project_only(plain_world: World, user: str, status: int) -> None:
    plain_world.store_users(["theirs"], token=OTHER_TOKEN)
    reply = plain_world.get(f"{ENGAGE}?project_id={plain_world.other.id}", user=user)
    assert reply.status_code == status
    assert ("theirs" in reply.text) == (status == 200)
    assert plain_world.get(f"{ENGAGE}?project_id=999", user=user).status_code == 403


def test_a_secret_may_name_its_own_project_and_no_other(world: World) -> None:
    secret = {"Authorization": basic(f"{SECRET}:")}
    assert world.get(f"{ENGAGE}?project_id={world.project.id}", headers=secret).status_code == 200
    assert world.get(f"{ENGAGE}?project_id={world.other.id}", headers=secret).status_code == 403
    hidden = world.post(
        f"{ENGAGE}?project_id={world.project.id}", headers=secret, json={"project_id": world.other.id}
    )
    assert hidden.status_code == 403, "the body wins over the query, and is checked"


def test_an_import_account_may_not_read(world: World) -> None:
    for target in (ENGAGE, "/api/mixdown/records"):
        assert world.get(target, user=IMPORTER).status_code == 403


def test_one_project_never_sees_profiles_of_another(world: World) -> None:
    world.store_users(["shared", "mine"])
    world.store_users(["shared", "theirs"], token=OTHER_TOKEN)
    other = {"headers": {"Authorization": basic(OTHER_SECRET)}}
    assert ids_of(world.page()) == ["mine", "shared"]
    assert ids_of(world.get(ENGAGE, **other).json()) == ["shared", "theirs"]
    assert ids_of(world.page(distinct_id="theirs")) == []
    assert ids_of(world.page(distinct_ids='["theirs","mine"]')) == ["mine"]
    assert "theirs" not in world.get(f"/api/mixdown/records?token={quote(OTHER_TOKEN)}").text


def test_a_group_key_of_another_project_is_unknown_here(world: World) -> None:
    record = {"$token": OTHER_TOKEN, "$group_key": "Secretive", "$group_id": "x", "$set": {}}
    world.send(record, endpoint="groups")
    world.fold_all()
    number = world.store.state.group_keys(world.other.id)["Secretive"]
    for asked in ("Secretive", number):
        reply = world.get(ENGAGE, params={"data_group_id": asked})
        assert reply.status_code in (200, 400)
        assert not reply.json().get("results")
        assert "Secretive (" not in reply.text


def test_a_signature_in_the_query_is_401(world: World) -> None:
    """md5 of the sorted parameters and the secret: deprecated, and never built (contract query §1.4)."""
    pairs = {"api_key": TOKEN, "expire": "9999999999", "project_id": str(world.project.id)}
    text = "".join(f"{name}={pairs[name]}" for name in sorted(pairs)) + SECRET
    sig = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    reply = world.get(ENGAGE, user=None, params={**pairs, "sig": sig})
    assert (reply.status_code, "Unable to authenticate request" in reply.text) == (401, True)


def test_an_expired_account_is_refused(world: World) -> None:
    world.add_account("brief", "consumer", password="brief's own", expires_ms=NOON_MS + 1000)
    forms = (basic("brief:brief's own"), "Bearer brief's own")
    for now_ms, status in ((NOON_MS + 999, 200), (NOON_MS + 1000, 401)):
        world.now_ms = now_ms
        for form in forms:
            assert world.get(ENGAGE, headers={"Authorization": form}).status_code == status


def test_an_account_of_several_projects_names_one_and_has_its_role_there(world: World) -> None:
    world.store.catalog.grant_account(READER, world.other.id, "admin")
    resend = "/api/mixdown/refusals/resend"
    for project, read, change in ((world.project, 200, 403), (world.other, 200, 404)):
        assert world.get(f"{ENGAGE}?project_id={project.id}").status_code == read
        assert world.post(resend, json={"ids": [7], "project_id": project.id}).status_code == change
    unnamed = world.get(ENGAGE)
    assert (unnamed.status_code, "sees 2 projects, so name one" in unnamed.text) == (400, True)
    assert world.get(f"{ENGAGE}?project_id=999").json()["error"] == "no access to project 999"
    world.store.catalog.revoke_account(READER, world.other.id)
    world.store.catalog.revoke_account(READER, world.project.id)
    refused = world.get(ENGAGE)
    assert (refused.status_code, "without a project" in refused.text) == (403, True)


def test_another_project_and_none_are_refused_in_the_same_words(world: World) -> None:
    words = {
        world.get(f"{target}?project_id={project}").text.replace(str(project), "N")
        for target in (ENGAGE, "/api/mixdown/status", "/api/mixdown/refusals")
        for project in (world.other.id, 999)
    }
    assert len(words) == 3
    assert all('"error":"no access to project N"' in text for text in words)


def test_a_rotated_secret_and_a_deleted_account_stop_at_once(world: World) -> None:
    secret = {"Authorization": basic(SECRET)}
    assert world.get(ENGAGE, headers=secret).status_code == 200
    assert world.get(ENGAGE).status_code == 200
    world.store.catalog.change_project(world.project.id, secret_hash=secret_hash("a new one"))
    world.store.catalog.delete_account(READER)
    assert world.get(ENGAGE, headers=secret).status_code == 401
    assert world.get(ENGAGE).status_code == 401
    assert world.get(ENGAGE, headers={"Authorization": basic("a new one")}).status_code == 200


def test_a_store_that_fails_shows_no_path_of_the_machine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise StoreError("/srv/data/catalog.db: disk I/O error", hint="")

    monkeypatch.setattr(world.store.catalog, "version", broken)
    monkeypatch.setattr(world.store.log, "head", broken)
    monkeypatch.setattr(world.store, "places", broken)
    for target in (ENGAGE, "/api/mixdown/status", "/readyz"):
        reply = world.get(target, user=None)
        assert reply.status_code == 503
        assert "the server's log says why" in reply.text
        assert "/srv" not in reply.text
