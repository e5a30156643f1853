"""What a page does with large answers, and with work that nobody waits for: neither keeps others waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from mixdown.explorer import decoding, people_rows
from mixdown.explorer.decoding import decoded

VALUES: list[Any] = [
    {},
    [],
    "text",
    {"a": [1, -2.5, None, True, {"ä": "\u2028"}], "b": 2**63, "": "x" * 200},
    [{"n": n, "t": "é" * n, "deep": {"er": [n] * n}} for n in range(40)],
    {"results": [{"$properties": {str(n): n for n in range(30)}}] * 20, "total": 1e300},
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("piece", [1, 50, 10_000])
def test_a_value_is_the_same_however_small_the_pieces(
    value: Any, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PIECE_BYTES", piece)
    for body in (orjson.dumps(value), orjson.dumps(value, option=orjson.OPT_INDENT_2)):
        assert decoded(body) == orjson.loads(body)


@pytest.mark.parametrize(
    "body", [b"{", b'{"a":}', b"[1] [2]", b'[{"a":1}\n{"a":2}]', b"\xff", b'{"\xff":1}', b""]
)
@pytest.mark.parametrize("piece", [0, 10_000])
def test_what_is_no_json_is_told_as_such(body: bytes, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PIECE_BYTES", piece)
    with pytest.raises(ValueError, match=r"."):
        decoded(body)


def test_sorts_that_nobody_waits_for_are_bounded_and_the_oldest_ends() -> None:
    async def run() -> list[bool]:
        tasks: list[asyncio.Task[Any]] = [
            asyncio.ensure_future(asyncio.sleep(60)) for _ in range(people_rows.LEFT_LIMIT + 2)
        ]
        for task in tasks:
            people_rows._leave(task)
        await asyncio.sleep(0)
        ended = [task.cancelled() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return ended

    assert asyncio.run(run()) == [True] * 2 + [False] * people_rows.LEFT_LIMIT
    assert not people_rows._left
