"""What a mask takes out of a text, in whatever way a client wrote it, and what it leaves."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from mixdown.model.masking import NOTHING_HIDDEN, STAND_IN, Mask

TOKEN = "3fa94c0de1b2a3948576aabbccddeeff"
MASK = Mask([TOKEN])
PRESET = "my+token/with~signs"


def test_of_no_token_it_leaves_all() -> None:
    assert NOTHING_HIDDEN.text(TOKEN) == TOKEN
    assert not NOTHING_HIDDEN
    assert Mask([TOKEN, "a"]) == Mask(["a", TOKEN])
    assert Mask([TOKEN]) != NOTHING_HIDDEN


@pytest.mark.parametrize(
    "written",
    [
        TOKEN,
        TOKEN.upper(),
        "".join(f"\\u{ord(char):04x}" for char in TOKEN),
        "".join(f"%{ord(char):02X}" for char in TOKEN),
        TOKEN[:10] + "\\u0062" + TOKEN[11:],
    ],
)
def test_a_token_is_known_however_it_is_written(written: str) -> None:
    assert MASK.text(f'{{"$token":"{written}","n":1}}') == f'{{"$token":"{STAND_IN}","n":1}}'


@pytest.mark.parametrize("token", [TOKEN, PRESET, "short"])
@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_a_token_is_found_within_base64(token: str, before: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(f'{before}{{"$token":"{token}","$set":{{}}}}'.encode()).decode()
        for sent in (text, quote(text, safe="")):
            shown = Mask([token]).text(sent)
            assert STAND_IN in shown
            assert len(shown) <= len(sent) - len(token) + len(STAND_IN)


@pytest.mark.parametrize("length", range(4, 32))
def test_the_beginning_of_a_token_is_taken_where_a_text_was_cut(length: int) -> None:
    assert MASK.text(f'{{"$token":"{TOKEN[:length]}') == f'{{"$token":"{STAND_IN}'
    encoded = base64.b64encode(f'{{"$token":"{TOKEN}'.encode()).decode()
    left = MASK.text(encoded[: 16 + length]).replace(STAND_IN, "")
    assert TOKEN[:5] not in base64.b64decode(left + "=" * (-len(left) % 4)).decode("latin-1")


def test_what_only_looks_like_one_is_left() -> None:
    for text in (TOKEN[1:], f"{TOKEN[:8]} and more", '{"a":"3fa"}', "Ünïcode", ""):
        assert MASK.text(text) == text


def test_a_long_preset_token_is_taken_whole() -> None:
    long = "abcdefghij" * 25
    assert Mask([long]).text(f'{{"t":"{long}","n":1}}') == f'{{"t":"{STAND_IN}","n":1}}'
    assert Mask([long]).text(f'{{"t":"{long[:200]}') == f'{{"t":"{STAND_IN}'
