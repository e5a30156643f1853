"""Events to store: what web and mobile SDKs send of people who look at pages, put things in carts and buy.

About 500 bytes each as a line of the events reader, the same for every run of a seed. A person keeps a
device and its properties, what differs between a person's events are page, product, amount; ids are random.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final

from bench.records import SALT
from mixdown.store.events import EventBatch

DAY_MS: Final = 24 * 3600 * 1000
FIRST_DAY_MS: Final = 20_454 * DAY_MS
"""2026-01-01."""
_SYSTEMS: Final = (
    ("Mac OS X", "Chrome", 141, 900),
    ("Windows", "Chrome", 141, 1080),
    ("Windows", "Microsoft Edge", 140, 864),
    ("iOS", "Mobile Safari", 18, 844),
    ("Android", "Chrome", 140, 915),
    ("Linux", "Firefox", 144, 1200),
)
_PLACES: Final = (
    ("DE", "Berlin", "Berlin"),
    ("DE", "Bavaria", "Munich"),
    ("US", "New York", "New York"),
    ("US", "California", "San Francisco"),
    ("FR", "Île-de-France", "Paris"),
    ("GB", "England", "London"),
    ("JP", "Tokyo", "Tokyo"),
    ("BR", "São Paulo", "São Paulo"),
)
_SOURCES: Final = ("$organic", "facebook", "twitter", "newsletter")
_PLANS: Final = ("free", "basic", "premium", "enterprise")
_PAGES: Final = ("/", "/pricing", "/app", "/login", "/docs", "/blog")
_COLORS: Final = ("light", "dark", "custom")
_CURRENCIES: Final = ("USD", "EUR", "BTC", "GBP")
_KINDS: Final = 50_000
_LATE_MS: Final = 5000


def _person(number: int, source: random.Random) -> tuple[str, str]:
    """A person's distinct_id, and the properties that all their events have, as the inside of an object."""
    system, browser, version, height = source.choice(_SYSTEMS)
    country, region, city = source.choice(_PLACES)
    device = f"{source.getrandbits(128):032x}{number:08x}"
    known = number % 3 != 0
    user = f"{source.getrandbits(128):032x}"
    ids = f'"$device_id":"{device}"' + (f',"$user_id":"{user}"' if known else "")
    own = (
        f'{ids},"$os":"{system}","$browser":"{browser}","$browser_version":{version},'
        f'"$screen_height":{height},"mp_lib":"web","$lib_version":"2.71.0",'
        f'"mp_country_code":"{country}","$region":"{region}","$city":"{city}",'
        f'"plan":"{_PLANS[min(3, int(source.expovariate(1.2)))]}","company_id":"{source.randrange(500)}"'
    )
    return (user if known else f"$device:{device}"), own


def _event(source: random.Random) -> tuple[str, str]:
    """An event's name, and the properties of its own."""
    drawn = source.random()
    if drawn < 0.45:
        page = source.choice(_PAGES)
        url = f"https://shop.example.com{page}?ref={source.randrange(1000)}"
        return "page view", f'"$current_url":"{url}","page":"{page}","utm_source":"{source.choice(_SOURCES)}"'
    if drawn < 0.75:
        return "view item", f'"product_id":{source.randrange(400, 900)},"colors":"{source.choice(_COLORS)}"'
    if drawn < 0.9:
        return "add to cart", f'"amount":{source.randrange(1, 400)},"qty":{source.randrange(1, 6)}'
    if drawn < 0.97:
        items = ",".join(f'{{"sku":"s{source.randrange(900)}","n":1}}' for _ in range(source.randrange(1, 4)))
        price = source.randrange(100, 40000) / 100
        return "checkout", f'"amount":{price!r},"currency":"{source.choice(_CURRENCIES)}","items":[{items}]'
    text = " ".join(f"{source.getrandbits(20):x}" for _ in range(8))
    return "support ticket", f'"severity":"{source.choice(("low", "medium", "high"))}","description":"{text}"'


def batches(
    count: int, *, project: int, per_batch: int, per_day: int, people: int = 200_000, seed: int = 1
) -> Iterator[EventBatch]:
    """`count` events of consecutive days, in order of time but for a few seconds; positions from 0."""
    source = random.Random(seed)
    persons = [_person(number, source) for number in range(people)]
    kinds = [_event(source) for _ in range(_KINDS)]
    step_ms = DAY_MS / per_day
    for start in range(0, count, per_batch):
        positions = range(start, min(count, start + per_batch))
        ids = source.randbytes(8 * len(positions)).hex()
        lines = []
        times = []
        for place, position in enumerate(positions):
            drawn = source.random()
            distinct_id, own = persons[int(people * drawn * drawn)]
            name, more = kinds[int(_KINDS * source.random())]
            time_ms = FIRST_DAY_MS + max(0, int(position * step_ms) - int(_LATE_MS * drawn))
            times.append(time_ms)
            lines.append(
                f'{{"position":{position},"arrived":{time_ms},"event":"{name}","time":{time_ms},'
                f'"distinct_id":"{distinct_id}","insert_id":"{ids[16 * place : 16 * place + 16]}",'
                f'"properties":{{{more},{own}}}}}\n'
            )
        yield EventBatch(project, len(lines), min(times), max(times), "".join(lines).encode())


def imports(
    count: int, *, last_ms: int, days: int, user: Callable[[int], str], size: int, people: int = 200_000
) -> Iterator[bytes]:
    """The same events as bodies for `/import`, `size` in each, of the last `days` before `last_ms`.

    `user` gives a person's distinct_id, so that events belong to profiles that are in place. Insert_ids have
    a salt (`bench.records`): sent round and round by a `Pool`, no event is one that was sent before.
    """
    source = random.Random(2)
    persons = [_person(number, source)[1].partition('"$os"')[2] for number in range(people)]
    kinds = [_event(source) for _ in range(_KINDS)]
    step_ms = days * DAY_MS / count
    for start in range(0, count, size):
        rows = []
        for position in range(start, min(count, start + size)):
            number = int(people * source.random() ** 2)
            name, more = kinds[int(_KINDS * source.random())]
            time_ms = last_ms - int((count - position) * step_ms)
            rows.append(
                f'{{"event":"{name}","properties":{{"time":{time_ms},"distinct_id":"{user(number)}",'
                f'"$user_id":"{user(number)}","$insert_id":"{position:012x}{SALT}",{more},"$os"{persons[number]}}}}}'
            )
        yield f"[{','.join(rows)}]".encode()
