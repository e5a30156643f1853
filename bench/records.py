"""Request bodies to send: mixed operators on many profiles, the same for every run of a seed.

About 270 bytes a record, onto profiles of about 600 bytes; keys uniform or zipf.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

WORDS: Final = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron")
ZIPF_EXPONENT: Final = 1.1


def profile_properties(number: int) -> dict[str, Any]:
    """The properties that a profile starts with, about 600 bytes as JSON."""
    return {
        "$name": f"Person {number}",
        "$email": f"person.{number}@example.com",
        "plan": WORDS[number % 8],
        "logins": number % 1000,
        "score": number * 0.25,
        "tags": [WORDS[number % 8], WORDS[(number + 3) % 8]],
        "bio": "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.",
        "address": {"city": "Berlin", "zip": f"{number % 100000:05}", "lines": ["1 Main Street"]},
        "company": f"company {number % 5000}",
        "referrer": "https://example.com/some/landing/page?campaign=autumn",
        "device": "Mozilla/5.0 (X11; Linux x86_64)",
        "created": "2026-01-15T12:00:00",
        "note": "this property is here so that a profile has the size that profiles have",
    }


def key_chooser(keys: str, profiles: int, random_source: random.Random) -> Callable[[], int]:
    """A function that draws profile numbers: "uniform", or "zipf" (a few profiles take most updates)."""
    if keys == "uniform":
        return lambda: random_source.randrange(profiles)

    def zipf() -> int:
        # the inverse of a zipf-like distribution function: cheap, and heavy at the head
        drawn = random_source.random()
        number = int(profiles ** (drawn ** (1 / ZIPF_EXPONENT))) - 1
        return (number * 2_654_435_761) % profiles

    return zipf


def update(number: int, turn: int, token: str) -> dict[str, Any]:
    """One record; `turn` chooses the operator and sees to it that bytes change each time."""
    word = WORDS[turn % 8]
    page = {"last_page": f"/page/{turn}", "score": turn * 0.5, "active": True, "session": turn % 3600}
    person = {"$name": f"Person {number}", "$email": f"person.{number}.{turn}@example.com"}
    client = {"visits": turn, "browser": "Chromium", "os": "Linux", "locale": "de_DE", "screen": "1920x1080"}
    first = {"first_page": f"/page/{turn}", "first_campaign": "autumn sale", "first_seen_on": "web"}
    operators: tuple[dict[str, Any], ...] = (
        {"$set": {"plan": word, "campaign": "autumn sale, second wave", **page}},
        {"$add": {"logins": 1, "seconds": turn % 60, "pages": 3}},
        {"$set_once": first},
        {"$union": {"tags": [word, WORDS[(turn + 1) % 8]]}},
        {"$set": {**person, **client}},
        {"$remove": {"tags": word}},
    )
    return {
        "$token": token,
        "$distinct_id": f"user-{number:08d}",
        "$ip": 0,
        "$time": 1_768_478_400 + turn % 86_400,
        **operators[turn % len(operators)],
    }


def bodies(*, token: str, size: int, count: int, profiles: int, keys: str, seed: int) -> list[bytes]:
    """`count` request bodies of `size` records each."""
    source = random.Random(seed)
    choose = key_chooser(keys, profiles, source)
    return [
        orjson.dumps([update(choose(), source.randrange(1 << 30), token) for _ in range(size)])
        for _ in range(count)
    ]


def first_bodies(*, token: str, profiles: int, size: int) -> Iterator[bytes]:
    """Bodies that make every profile."""
    for start in range(0, profiles, size):
        yield orjson.dumps(
            [
                {
                    "$token": token,
                    "$distinct_id": f"user-{number:08d}",
                    "$ip": 0,
                    "$set": profile_properties(number),
                }
                for number in range(start, min(start + size, profiles))
            ]
        )
