"""What docs/identity.md tells of the three modes is what a server does: its examples, sent word for word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from tests.docs.snippets import blocks
from tests.engine import plain_store
from tests.reads.support import ADMIN, PASSWORD, TOKEN, World, basic

PAGE = Path(__file__).resolve().parents[2] / "docs" / "identity.md"
MODES = ("simplified", "original", "legacy")


class Example(NamedTuple):
    """Records to be sent to a project of a mode, and what is so afterwards."""

    mode: str
    records: list[dict[str, Any]]
    then: dict[str, Any]


def examples() -> Iterator[Example]:
    """The examples of the page, in order."""
    sent: tuple[str, str] | None = None
    for block in blocks(PAGE.read_text("utf-8")):
        if block.language != "json":
            continue
        if block.tags in [(mode,) for mode in MODES]:
            sent = (block.tags[0], block.code)
        elif block.tags == ("then",) and sent is not None:
            records = [json.loads(line) for line in sent[1].splitlines()]
            yield Example(sent[0], records, json.loads(block.code))
            sent = None


def send(world: World, record: dict[str, Any]) -> None:
    """Send a record as the page has it: `$merge` to /import, other events to /track, the rest to /engage."""
    body = orjson.dumps([record]).replace(b'"TOKEN"', orjson.dumps(TOKEN))
    headers = {"Content-Type": "application/json"}
    path = "/track" if "event" in record else "/engage"
    if record.get("event") == "$merge":
        path = f"/import?strict=1&project_id={world.project.id}"
        headers["Authorization"] = basic(f"{ADMIN}:{PASSWORD}")
    reply = world.run(world.http.post(path, content=body, headers=headers))
    assert reply.status_code == 200, reply.text
    assert reply.text == "1" or reply.json()["num_records_imported"] == 1


def test_the_page_has_examples_of_every_mode() -> None:
    assert {example.mode for example in examples()} == set(MODES)


@pytest.mark.parametrize("number", range(len(list(examples()))))
def test_an_example_does_what_the_page_says(number: int) -> None:
    example = list(examples())[number]
    world = World(plain_store())
    try:
        world.store.catalog.change_project(world.project.id, id_merge=example.mode)
        for record in example.records:
            send(world, record)
        world.fold_all()
        for one, ids in example.then["ids"].items():
            shown = world.get("/api/mixdown/identity", params={"distinct_id": one}).json()["results"]
            assert shown["ids"] == ids
        for one, properties in example.then["profiles"].items():
            (row,) = world.page(distinct_id=one)["results"]
            assert {name: value for name, value in row["$properties"].items() if name[0] != "$"} == properties
        refused = [each.message for each in world.store.refusals.listing(None)]
        assert sorted(refused) == sorted(example.then.get("failed", []))
    finally:
        world.close()
