"""Records to send: mixed operators on many profiles, the same for every run of a seed.

About 240 bytes a record, onto profiles of about 600 bytes; keys uniform or zipf. A pool of requests is made
once and sent round and round; each time its salt changes, so that no request is ever sent twice: SQLite
writes no page for a row that keeps its bytes, and a server knows a retry by its key.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

TOKEN: Final = "bench0000000000000000000000token"
WORDS: Final = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron")
ZIPF_EXPONENT: Final = 1.1
SALT: Final = "~salt~~~"
_SALT_BYTES: Final = SALT.encode()
_SPREAD: Final = 2_654_435_761
"""A prime: number * _SPREAD modulo the number of profiles visits all of them, in no order."""


def profile_id(number: int) -> str:
    """The distinct_id of a profile."""
    return f"user-{number:08d}"


def profile_json(number: int) -> str:
    """The properties that a profile starts with: about 600 bytes of JSON, as it is stored."""
    word, other = WORDS[number % 8], WORDS[(number + 3) % 8]
    return (
        f'{{"$name":"Person {number}","$email":"person.{number}@example.com","plan":"{word}",'
        f'"logins":{number % 1000},"score":{number * 0.25},"tags":["{word}","{other}"],'
        '"bio":"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.",'
        f'"address":{{"city":"Berlin","zip":"{number % 100000:05}","lines":["1 Main Street"]}},'
        f'"company":"company {number % 5000}",'
        '"referrer":"https://example.com/some/landing/page?campaign=autumn",'
        '"device":"Mozilla/5.0 (X11; Linux x86_64)","created":"2026-01-15T12:00:00",'
        '"note":"this property is here so that a profile has the size that profiles have",'
        '"$last_seen":"2026-01-15T12:00:00"}'
    )


def scattered(start: int, end: int) -> Iterator[int]:
    """The numbers from `start` to `end - 1`, each once, in no order."""
    count = end - start
    step = _SPREAD % count or 1
    while math.gcd(step, count) != 1:
        step += 1
    for at in range(count):
        yield start + at * step % count


def key_chooser(keys: str, profiles: int, source: random.Random) -> Callable[[], int]:
    """A function that draws profile numbers: "uniform", or "zipf" (a few profiles take most updates)."""
    drawn = source.random
    if keys == "uniform":
        return lambda: int(drawn() * profiles)
    root = 1 / ZIPF_EXPONENT
    # the inverse of a zipf-like distribution function: cheap, and heavy at the head
    return lambda: (int(profiles ** (drawn() ** root)) - 1) * _SPREAD % profiles


def _set_page(number: int, turn: int) -> str:
    return (
        f'"$set":{{"plan":"{WORDS[turn % 8]}","campaign":"autumn sale, second wave",'
        f'"last_page":"/page/{SALT}","score":{turn * 0.5},"active":true,"session":{(number + turn) % 3600}}}'
    )


def _set_client(number: int, turn: int) -> str:
    return (
        f'"$set":{{"$name":"Person {number}","$email":"person.{number}.{SALT}@example.com","visits":{turn},'
        '"browser":"Chromium","os":"Linux","locale":"de_DE","screen":"1920x1080"}'
    )


def _add(number: int, turn: int) -> str:
    del number
    return f'"$add":{{"logins":1,"seconds":{turn % 60},"pages":3}}'


def _set_once(number: int, turn: int) -> str:
    del number
    return f'"$set_once":{{"first_page":"/page/{turn}","first_campaign":"autumn sale","first_seen_on":"web"}}'


def _union(number: int, turn: int) -> str:
    del number
    return f'"$union":{{"tags":["{WORDS[turn % 8]}","{WORDS[(turn + 1) % 8]}"]}}'


def _remove(number: int, turn: int) -> str:
    del number
    return f'"$remove":{{"tags":"{WORDS[turn % 8]}"}}'


def _append(number: int, turn: int) -> str:
    del number, turn
    return f'"$append":{{"recent":"/page/{SALT}"}}'


def _unset(number: int, turn: int) -> str:
    """As often as an append, so that lists stay short."""
    del number, turn
    return '"$unset":["recent"]'


_KINDS: Final = (
    *(_set_page, _set_client, _add, _set_page, _append, _set_once),
    *(_set_client, _union, _set_page, _add, _unset, _remove),
)


def record(number: int, turn: int, *, serial: int = -1) -> str:
    """One record as JSON; `turn` chooses operator and content; a `serial` gives it an `$insert_id`."""
    key = f'"$insert_id":"{serial:010x}{SALT}",' if serial >= 0 else ""
    return (
        f'{{"$token":"{TOKEN}","$distinct_id":"{profile_id(number)}","$device_id":"{turn * _SPREAD:032x}",'
        f'"$time":{1_768_478_400 + turn % 86_400},"$ip":0,{key}{_KINDS[turn % len(_KINDS)](number, turn)}}}'
    )


class _Salts:
    """Eight digits that no run of the benchmark has used: seconds since the epoch, and a count."""

    def __init__(self) -> None:
        self._next = int(time.time()) * 256 % (1 << 32)

    def fresh(self) -> bytes:
        self._next = (self._next + 1) % (1 << 32)
        return b"%08x" % self._next


_SALTS: Final = _Salts()


@dataclass
class Pool:
    """Requests of `size` records each, to be sent round and round; `next` gives each a salt of its own.

    `good` is what the server answers to each.
    """

    size: int
    requests: list[bytes]
    good: bytes = b"1"
    _at: int = 0
    _salt: bytes = field(default_factory=_SALTS.fresh)

    def __len__(self) -> int:
        return len(self.requests)

    def next(self) -> bytes:
        """The next request: a body that was never sent before."""
        if self._at == len(self.requests):
            self._at = 0
            self._salt = _SALTS.fresh()
        request = self.requests[self._at]
        self._at += 1
        return request.replace(_SALT_BYTES, self._salt)

    def bodies(self) -> Iterator[bytes]:
        """The bodies alone, without end, each as fresh as those of `next`."""
        while True:
            yield self.next().partition(b"\r\n\r\n")[2]


def request_bytes(body: bytes) -> bytes:
    """A whole HTTP request that posts `body` to /engage."""
    head = (
        "POST /engage?ip=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def pool(*, size: int, records: int, profiles: int, keys: str, seed: int, insert_ids: bool = False) -> Pool:
    """A pool of about `records` records, `size` in a request."""
    source = random.Random(seed)
    choose = key_chooser(keys, profiles, source)
    drawn = source.random
    requests = []
    for start in range(0, max(records, size), size):
        serials = range(start, start + size) if insert_ids else [-1] * size
        rows = [record(choose(), int(drawn() * (1 << 30)), serial=serial) for serial in serials]
        requests.append(request_bytes(f"[{','.join(rows)}]".encode()))
    return Pool(size, requests)


def new_profiles(start: int, end: int, *, size: int) -> Pool:
    """A pool that makes the profiles `start` to `end - 1`, in no order."""
    requests = []
    rows: list[str] = []
    for number in scattered(start, end):
        rows.append(
            f'{{"$token":"{TOKEN}","$distinct_id":"{profile_id(number)}","$time":1768478400,"$ip":0,'
            f'"$set":{profile_json(number)}}}'
        )
        if len(rows) == size:
            requests.append(request_bytes(f"[{','.join(rows)}]".encode()))
            rows = []
    if rows:
        requests.append(request_bytes(f"[{','.join(rows)}]".encode()))
    return Pool(size, requests)


def parsed(request: bytes) -> list[dict[str, Any]]:
    """The records of a request."""
    found: list[dict[str, Any]] = json.loads(request.partition(b"\r\n\r\n")[2])
    return found
