"""A data folder with people in all of its files, made in this process, and their erasure step by step."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mixdown.fold.erasure import Eraser
from mixdown.fold.events_erasure import EventsEraser, remove_hidden
from mixdown.fold.loop import catch_up
from mixdown.ingest.direct import append_raw
from mixdown.ingest.pipeline import rules_of
from mixdown.ingest.prepare import Submission, prepare, request_key
from mixdown.settings import Settings
from mixdown.store.chunk import Link, decode_body
from mixdown.store.privacy import PENDING, Deletion, begin
from mixdown.store.protocols import Cohort, Session
from mixdown.store.sqlite import SqliteStore, open_store
from mixdown.store.unmerging import append_unmerge
from tests.store.support import append, appending_events

TOKEN = "erasure-token"
PEOPLE = 200
ROUNDS = 4


def person(number: int) -> str:
    """An id; all values and property names of a person begin with the part before the last hyphen."""
    return f"per-{number:04d}-id"


def markers(number: int) -> set[str]:
    """What must not be found of an erased person."""
    return {f"per-{number:04d}-{part}" for part in ("id", "value", "property", "refused")}


def opened(folder: Path) -> SqliteStore:
    """The store, as the fold opens it."""
    return open_store(folder, role="fold", create=False)


def fill(folder: Path) -> None:
    """Make a folder with people in profiles, log, refusals, outcomes, a session, a cohort."""
    store = open_store(folder, role="fold", create=True)
    store.catalog.create_project("shop", token=TOKEN, secret_hash=b"", id_merge="simplified", now_ms=1)
    rules = rules_of(Settings())
    chance = random.Random(11)
    for _ in range(ROUNDS):
        everybody = chance.sample(range(PEOPLE), PEOPLE)
        for at in range(0, PEOPLE, 20):
            append_raw(store, rules, "engage", [_record(n, chance) for n in everybody[at : at + 20]], sdk="t")
        catch_up(store)
    append_raw(store, rules, "engage", [_refused(number) for number in range(0, PEOPLE, 5)], sdk="t")
    _append_with_key(store, [_record(0, chance), _record(1, chance), _refused(0)], "import-1")
    _link(store)
    catch_up(store)
    store.state.add_property_index(1, "", "name")
    while store.state.build_indexes(50):
        pass
    session = Session("s" * 32, 1, "", 0, 10, now_ms())
    store.sessions.create(session, map(person, range(PEOPLE)))
    store.cohorts.create(Cohort(1, "listed"), map(person, range(PEOPLE)))
    store.close()


def _link(store: SqliteStore) -> None:
    """Give everybody a device, an alias and a link that fails; some devices are taken away again."""
    links = []
    for number in range(PEOPLE):
        bare = person(number).removesuffix("-id")
        device = f"$device:{bare}-{'value' if number % 9 else 'unmerged'}"
        alias = f"{bare}-property"
        links += [
            Link(0, 1, "simplified", "device", device, person(number)),
            Link(0, 1, "original", "create_alias", person(number), alias),
            Link(0, 1, "original", "identify", person(number), f"{bare}-refused"),
        ]
    append(store.log, *[appending_events(each.one, links=[each]) for each in links], now_ms=now_ms())
    for number in range(0, PEOPLE, 9):
        device = links[3 * number].one
        append_unmerge(store, 1, device, now_ms=now_ms())


def stir(store: SqliteStore) -> None:
    """Write about everybody once more, so that the write-ahead logs hold them too."""
    chance = random.Random(12)
    for _ in range(2):
        records = [_record(number, chance) for number in range(PEOPLE)]
        append_raw(store, rules_of(Settings()), "engage", records, sdk="t")
        catch_up(store)
    store.state.drop_property_index(1, "", "name")  # its values are not taken away yet
    store.sessions.create(Session("u" * 32, 1, "", 0, 10, now_ms()), map(person, range(PEOPLE)))


def _record(number: int, chance: random.Random) -> dict[str, Any]:
    bare = person(number).removesuffix("-id")
    value = f"{bare}-value-{chance.randrange(10**6)} " * chance.choice((1, 2, 8, 30, 150))
    return {
        "$token": TOKEN,
        "$distinct_id": person(number),
        "$set": {"name": value, f"{bare}-property": [value[:40]]},
    }


def _refused(number: int) -> dict[str, Any]:
    bare = person(number).removesuffix("-id")
    return {"$token": TOKEN, "$distinct_id": person(number), "$set_once": [f"{bare}-refused"]}


def _append_with_key(store: SqliteStore, records: list[dict[str, Any]], key: str) -> None:
    """Append a request with an idempotency key, whose outcome names the property of a refused record."""
    bad = {"$token": TOKEN, "$distinct_id": person(0), "$add": {"per-0000-property": "no number"}}
    submission = Submission(
        "engage", [*records, bad], hostile=True, strict=True, sdk="t", path="/engage", idempotency_key=key
    )
    prepared = prepare(submission, {TOKEN: 1}, rules_of(Settings()), request_key(submission))
    assert prepared.append is not None
    assert any("per-0000-property" in field for _, field, _ in prepared.outcome.failed)
    with store.log.turn() as turn:
        turn.append([prepared.append], now_ms())


def now_ms() -> int:
    """The time of day."""
    return time.time_ns() // 1_000_000


def ask(store: SqliteStore, numbers: list[int]) -> Deletion:
    """A deletion of these people, and of all that is linked with them, that stands in the log."""
    ids = tuple(map(person, numbers))
    at = now_ms()
    job = Deletion(secrets.token_hex(16), 1, "", ids, len(ids), PENDING, "tests", "GDPR", at)
    store.privacy.add_deletion(job)
    assert begin(store, job, now_ms=at)
    begun = store.privacy.deletion(1, job.id)
    assert begun is not None
    return begun


def steps(store: SqliteStore) -> Iterator[int]:
    """Fold and erase, as far as the steps are taken: how many pieces were done so far.

    What the events reader's process does of it is done before.
    """
    catch_up(store)
    jobs = store.privacy.unfinished()
    EventsEraser(store).go_on()
    remove_hidden(store)
    for done, _ in enumerate(Eraser(store)._erase(jobs), 1):
        yield done


def updates(store: SqliteStore) -> list[tuple[int, int, str, bytes | None]]:
    """(position, project, id, idempotency key) of everything in the log."""
    found = []
    at = store.log.tail_position()
    while chunks := store.log.read(at, max_records=100_000, max_bytes=2**30):
        for chunk in chunks:
            position = chunk.first
            for segment in decode_body(chunk.body):
                for update in segment.updates:
                    found.append((position, update.project, update.id, update.key))
                    position += 1
                position += segment.event_count
            assert position == chunk.end
        at = chunks[-1].end
    return found
