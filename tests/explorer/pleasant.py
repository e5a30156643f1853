"""Data that looks like a real product's: the people, companies and events of a tool for planning projects.

A clock enters; records as SDKs send them leave, the same for the same clock. No I/O.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

Record = dict[str, Any]

PEOPLE: Final = 300
COMPANIES: Final = 40
DAYS: Final = 30
DAY_S: Final = 86_400
ADA: Final = "ada@lovelace.example"
"""The id of the person who has something of everything."""

FIRST_NAMES: Final = (
    "Ada", "Grace", "Linus", "Margaret", "Alan", "Katherine", "Edsger", "Barbara", "Donald", "Radia",
    "Ken", "Hedy", "Tim", "Shafi", "Leslie", "Frances", "Niklaus", "Adele", "Dennis", "Karen", "Bjarne",
    "Mary", "Guido", "Anita", "Yukihiro", "Sophie", "Rasmus", "Jean", "Brendan", "Lynn", "Zoë", "Søren",
    "Łukasz", "Chloé", "José", "Māra", "Ngọc", "Ayşe", "Björn", "Siân",
)  # fmt: skip
LAST_NAMES: Final = (
    "Lovelace", "Hopper", "Hamilton", "Turing", "Johnson", "Dijkstra", "Liskov", "Knuth", "Perlman",
    "Thompson", "Lamarr", "Goldwasser", "Lamport", "Allen", "Wirth", "Goldberg", "Ritchie", "Jones",
    "Kernighan", "Shaw", "Borg", "Matsumoto", "Wilson", "Bartik", "Conway", "Ōtomo", "Müller", "Øster",
    "García", "Nguyễn", "Šimić", "Çelik", "Brontë", "O'Neill", "Kowalski", "Rossi", "Silva",
    "Andersson", "Dubois", "Novák",
)  # fmt: skip
OTHER_NAMES: Final = ("نور حداد", "Дарья Соколова", "דנה לוי", "Ελένη Παππά")
PLACES: Final = (
    ("Berlin", "Berlin", "DE", "Europe/Berlin"),
    ("München", "Bavaria", "DE", "Europe/Berlin"),
    ("London", "England", "GB", "Europe/London"),
    ("Paris", "Île-de-France", "FR", "Europe/Paris"),
    ("New York", "New York", "US", "America/New_York"),
    ("San Francisco", "California", "US", "America/Los_Angeles"),
    ("São Paulo", "São Paulo", "BR", "America/Sao_Paulo"),
    ("Tokyo", "Tokyo", "JP", "Asia/Tokyo"),
    ("Zürich", "Zürich", "CH", "Europe/Zurich"),
    ("Kraków", "Małopolskie", "PL", "Europe/Warsaw"),
)
COMPANY_NAMES: Final = (
    "Acme", "Northwind", "Globex", "Initech", "Umbrella", "Hooli", "Stark", "Wayne", "Wonka",
    "Cyberdyne", "Tyrell", "Soylent", "Aperture", "Vandelay", "Dunder", "Pied-Piper", "Massive",
    "Oscorp", "Gringotts", "Monarch", "Bluth", "Sterling", "Prestige", "Vehement", "Contoso",
    "Fabrikam", "Tailspin", "Litware", "Adatum", "Proseware", "Wingtip", "Lucerne", "Fourth", "Margie",
    "Trey", "Humongous", "Alpine", "Blue-Yonder", "Coho", "City-Power",
)  # fmt: skip
INDUSTRIES: Final = ("Software", "Retail", "Health", "Logistics", "Education", "Energy")
PLANS: Final = (("free", 0), ("starter", 19), ("business", 49), ("enterprise", 199))
SYSTEMS: Final = (("Mac OS X", "Chrome"), ("Windows", "Edge"), ("iOS", "Mobile Safari"), ("Linux", "Firefox"))
PAGES: Final = ("/boards", "/inbox", "/timeline", "/reports", "/settings/billing", "/docs/getting-started")
TEMPLATES: Final = ("Kanban", "Roadmap", "Launch plan", "Sprint", "Hiring")
EVENTS: Final = (
    ("Page viewed", 48),
    ("Task completed", 22),
    ("Project created", 9),
    ("Search", 9),
    ("File uploaded", 6),
    ("Report exported", 3),
    ("Invoice paid", 2),
    ("Signed in", 8),
)


@dataclass(frozen=True)
class Person:
    """What stays the same about someone."""

    id: str
    name: str
    email: str
    company: str
    plan: str
    price: int
    place: tuple[str, str, str, str]
    system: tuple[str, str]
    device: str
    joined_s: int


def people(now_s: int) -> list[Person]:
    """Everyone, Ada first."""
    source = random.Random(6)
    made = []
    for number in range(PEOPLE):
        first, last = FIRST_NAMES[number % 40], LAST_NAMES[(number * 7 + number // 40 * 3) % 40]
        name = f"{first} {last}" if number % 17 != 11 else OTHER_NAMES[number // 17 % len(OTHER_NAMES)]
        company = COMPANY_NAMES[int(COMPANIES * source.random() ** 2)]
        plan, price = PLANS[min(3, int(source.expovariate(1.1)))]
        email = f"{company.lower()}.{number:03}@mail.example"
        if number == 0:
            name, email, company, (plan, price) = "Ada Lovelace", ADA, "Acme", PLANS[2]
        made.append(
            Person(
                id=ADA if number == 0 else f"user-{number:04}",
                name=name,
                email=email,
                company=company,
                plan=plan,
                price=price,
                place=source.choice(PLACES),
                system=source.choice(SYSTEMS),
                device=f"{source.getrandbits(128):032x}",
                joined_s=now_s - int(source.uniform(2, 400) * DAY_S),
            )
        )
    return made


def iso(time_s: float) -> str:
    """A time as SDKs write dates into properties."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def profile_updates(now_s: int) -> Iterator[list[Record]]:
    """Updates of users in the order in which they are sent, a request each: a history comes of it."""
    source = random.Random(7)
    everyone = people(now_s)
    first = []
    for number, person in enumerate(everyone):
        city, region, country, zone = person.place
        properties: Record = {
            "$name": person.name,
            "$email": person.email,
            "$city": city,
            "$region": region,
            "$country_code": country,
            "$timezone": zone,
            "$created": iso(person.joined_s),
            "company": [person.company],
            "plan": "free",
            "role": source.choice(("Owner", "Member", "Member", "Guest")),
            "newsletter": number % 3 == 0,
            "projects": source.randrange(1, 9),
            "tasks_done": source.randrange(400),
            "tags": source.sample(["beta", "advocate", "mobile", "trial", "api"], k=source.randrange(3)),
        }
        if number % 5 == 0:
            properties["address"] = {"street": f"{number + 1} Harbour Street", "zip": f"{10_000 + number}"}
        first.append({"$distinct_id": person.id, "$set": properties})
    yield first
    yield [
        {"$distinct_id": person.id, "$set": {"plan": person.plan}, "$add": {"projects": 2}}
        for person in everyone
        if person.plan != "free"
    ]
    yield [_charge(person, month, now_s) for month in (2, 1) for person in everyone if person.price]
    ada = {"$distinct_id": ADA}
    yield [{**ada, "$set": {"plan": "enterprise", "phone": "+44 20 7946 0000"}}]
    yield [{**ada, "$add": {"tasks_done": 12}, "$union": {"tags": ["advocate", "speaker"]}}]
    yield [{**ada, "$append": {"feedback": {"score": 9, "text": "The timeline is a joy to use."}}}]
    yield [{**ada, "$set": {"plan": "business"}}, {**ada, "$unset": ["phone"]}]
    yield [{"$distinct_id": each.id, "$add": {"tasks_done": 1}} for each in everyone[:40]]


def _charge(person: Person, month: int, now_s: int) -> Record:
    charge = {"$amount": person.price, "$time": iso(now_s - month * 30 * DAY_S)}
    return {"$distinct_id": person.id, "$append": {"$transactions": charge}}


def group_updates(now_s: int) -> list[Record]:
    """Companies, and the offices that are the second group key."""
    source = random.Random(8)
    made: list[Record] = []
    for number, name in enumerate(COMPANY_NAMES):
        properties = {
            "$name": name.replace("-", " "),
            "industry": INDUSTRIES[number % len(INDUSTRIES)],
            "seats": source.randrange(5, 400),
            "arr": source.randrange(12, 900) * 100,
            "since": iso(now_s - source.randrange(100, 1500) * DAY_S),
            "plan": source.choice(PLANS)[0],
        }
        made.append({"$group_key": "company", "$group_id": name, "$set": properties})
    for city, region, country, zone in PLACES:
        office = {"$name": f"{city} office", "region": region, "country": country, "timezone": zone}
        made.append({"$group_key": "office", "$group_id": city, "$set": office})
    return made


def events(now_s: int) -> list[Record]:
    """Thirty days of events up to `now_s`, oldest first: fewer at weekends and by night."""
    source = random.Random(9)
    everyone = people(now_s)
    made: list[Record] = []
    for day in range(DAYS, -1, -1):
        starts_s = now_s // DAY_S * DAY_S - day * DAY_S
        weekend = (starts_s // DAY_S + 4) % 7 in (0, 6)
        for _ in range(int((35 if weekend else 80) * (1.6 - day / DAYS * 0.6))):
            at_s = starts_s + int(DAY_S * min(0.999, max(0.0, source.gauss(0.57, 0.16))))
            if at_s >= now_s - 60:
                continue
            person = everyone[int(PEOPLE * source.random() ** 2.2)]
            made.append(event(person, source, at_s, f"day-{day:02}-{len(made):05}"))
    return sorted(made, key=lambda each: each["properties"]["time"])


def event(person: Person, source: random.Random, at_s: int, insert_id: str) -> Record:
    """Something that a person does at a time; one in eight times before they signed in."""
    name = source.choices([name for name, _ in EVENTS], [weight for _, weight in EVENTS])[0]
    city, region, country, _ = person.place
    system, browser = person.system
    properties: Record = {
        "time": at_s,
        "$insert_id": insert_id,
        "$device_id": person.device,
        "$user_id": person.id,
        "$os": system,
        "$browser": browser,
        "$city": city,
        "$region": region,
        "mp_country_code": country,
        "company": person.company,
        "plan": person.plan,
        **_details(name, person, source),
    }
    properties["distinct_id"] = person.id
    if name == "Page viewed" and source.random() < 0.12:
        del properties["$user_id"]
        properties["distinct_id"] = f"$device:{person.device}"
    return {"event": name, "properties": properties}


def _details(name: str, person: Person, source: random.Random) -> Record:
    if name == "Page viewed":
        page = source.choice(PAGES)
        return {"page": page, "$current_url": f"https://app.harbor.example{page}"}
    if name == "Task completed":
        return {"minutes": source.randrange(2, 240), "overdue": source.random() < 0.2}
    if name == "Project created":
        return {"template": source.choice(TEMPLATES), "private": source.random() < 0.3}
    if name == "Search":
        return {
            "query": source.choice(("invoice", "roadmap", "q4 plan", "hiring")),
            "hits": source.randrange(40),
        }
    if name == "File uploaded":
        return {"kind": source.choice(("pdf", "png", "csv", "docx")), "size_kb": source.randrange(10, 9000)}
    if name == "Invoice paid":
        return {"amount": max(19, person.price), "currency": source.choice(("EUR", "USD"))}
    if name == "Report exported":
        return {"format": source.choice(("csv", "pdf")), "rows": source.randrange(10, 5000)}
    return {"method": source.choice(("password", "google", "sso"))}


LOOKUP_TABLE: Final = (
    "plan,label,price,support,since\n"
    "free,Free,0,community,2023-02-01T00:00:00Z\n"
    "starter,Starter,19,e-mail,2023-02-01T00:00:00Z\n"
    "business,Business,49,e-mail and chat,2023-09-15T00:00:00Z\n"
    "enterprise,Enterprise,199,a person of your own,2024-04-01T00:00:00Z\n"
)
COHORTS: Final = (
    ("Paying customers", 'properties["plan"] in ["starter", "business", "enterprise"]'),
    ("In Germany", 'properties["$country_code"] == "DE"'),
    ("Busy on the free plan", 'properties["plan"] == "free" and properties["tasks_done"] > 200'),
    ("Newsletter readers", 'properties["newsletter"]'),
)


REPORTS: Final[tuple[tuple[str, str, str, Record], ...]] = (
    (
        "Visits by browser",
        "segmentation",
        "What people bring along",
        {"event": "Page viewed", "on": "$browser", "chart": "bars", "days": 30},
    ),
    (
        "From a look to an invoice",
        "funnels",
        "",
        {"steps": ["Page viewed", "Project created", "Invoice paid"], "length": 30, "days": 30},
    ),
    (
        "Do they get things done?",
        "retention",
        "Who completes tasks after a first visit",
        {"born_event": "Page viewed", "event": "Task completed", "unit": "week", "interval_count": 4},
    ),
    ("Days a week", "addiction", "", {"unit": "week", "addiction_unit": "day", "days": 30}),
    ("People at work", "segmentation", "", {"event": "Task completed", "type": "unique", "days": 30}),
)
"""Saved reports: name, kind, description, definition."""
DASHBOARD: Final = ("How Harbor is used", ((0, 12), (1, 6), (2, 6), (4, 6), (3, 6)))
"""A title, and places in `REPORTS` with the room that each takes."""
COUNTING_COHORT: Final[Record] = {
    "name": "Look, and never pay",
    "description": "Who to talk to",
    "where": 'behaviors["1"] >= 5 and behaviors["2"] == 0',
    "behaviors": [
        {"name": "1", "window": "14d", "event_selectors": [{"event": "Page viewed"}]},
        {"name": "2", "event_selectors": [{"event": "Invoice paid"}]},
    ],
}


def refused(token: str, now_s: int) -> list[tuple[str, list[Record]]]:
    """Records that are refused, each for another reason: (path, records) with good ones among them."""
    said = {"$token": token}
    old = {"token": token, "distinct_id": "user-0003", "time": now_s - 40 * DAY_S}
    return [
        ("/engage", [{**said, "$set": {"plan": "starter"}}]),
        ("/engage", [{**said, "$distinct_id": "user-0004", "$set": "plan=business"}]),
        ("/engage", [{**said, "$distinct_id": "user-0005"}]),
        ("/engage?strict=1", [{**said, "$distinct_id": "user-0006", "$add": {"seats": "three"}}]),
        ("/groups", [{**said, "$group_id": "Acme", "$set": {"seats": 12}}]),
        ("/track", [{"event": "Invoice paid", "properties": old}]),
        ("/track", [{"event": "", "properties": {"token": token, "distinct_id": "user-0007"}}]),
        (
            "/engage",
            [{"$token": "not-a-token-here", "$distinct_id": "user-0008", "$set": {"a": 1}}],
        ),
    ]
