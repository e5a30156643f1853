"""The reasons of refusals in words: with the fields that were refused, and never with an empty place."""

from __future__ import annotations

import pytest

from mixdown.http.advice import ADVICE, text_of
from tests.reads.support import TOKEN, World


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (["$set, must be an object"], "$set, must be an object"),
        (["$set, must be an object", "$add, must be an object"], "$set, $add, must be an object"),
        ([f"{name}, must be an object" for name in "abcde"], "a, b, c, …, must be an object"),
        ([], "a field, must be an object"),
        (["something else"], "a field, must be an object"),
    ],
)
def test_a_reason_names_what_differed(messages: list[str], text: str) -> None:
    assert text_of("not_an_object", messages) == text


@pytest.mark.parametrize("reason", ADVICE)
def test_no_text_has_an_unfilled_place(reason: str) -> None:
    assert "{" not in text_of(reason)


def test_what_is_no_reason_has_no_text() -> None:
    assert text_of("other") == text_of("final") == ""


def test_reasons_are_told_with_the_fields_of_this_project(world: World) -> None:
    for operator in ("$set", "$add"):
        world.send({"$token": TOKEN, "$distinct_id": "ada", operator: 1})
    (reason,) = world.get("/api/mixdown/refusals/reasons").json()["results"]
    assert (reason["reason"], reason["count"]) == ("not_an_object", 2)
    assert reason["text"] in ("$set, $add, must be an object", "$add, $set, must be an object")
