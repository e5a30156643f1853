"""A whole server in one process, without a socket: each store, the application, and a catalog to read by.

Records go in through `/engage` and `/groups` and are folded on demand, so that a test can read before and
after the fold. Requests run on one event loop, singly or several at a time.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from msgspec.structs import replace

from mixdown.explorer.site import Explorer
from mixdown.fold.profiles import ProfileFold
from mixdown.http.app import make_app
from mixdown.http.services import Services
from mixdown.ingest.pipeline import Ingest
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.chunk import Outcome
from mixdown.store.credentials import secret_hash
from mixdown.store.events import EventsWrite, batch_of
from mixdown.store.memory import MemoryStore
from mixdown.store.places import all_views, first_of
from mixdown.store.protocols import Account, Project, Store
from tests.engine import ON_POSTGRES, PARTITIONS, open_store

NOON_MS = 1_768_478_400_000
DAY_MS = 24 * 3600 * 1000
TOKEN, SECRET = "T0" * 16, "5ec2e7" + "0" * 58
OTHER_TOKEN, OTHER_SECRET = "T1" * 16, "07he2" + "1" * 59
PASSWORD = "pa55" + "0" * 60
OWNER, READER, ADMIN, IMPORTER, STRANGER = (
    f"{name}.mp-service-account" for name in ("owner", "reader", "admin", "importer", "stranger")
)
ENGAGE = "/api/query/engage"


class NoMetrics:
    """Counts nothing: what routes report is another test's matter."""

    def request(self, endpoint: str, status: int, seconds: float) -> None: ...

    def records(self, endpoint: str, outcome: Outcome) -> None: ...

    def body_refused(self, endpoint: str, message: str) -> None: ...

    def auxiliary(self, path: str, size_bytes: int) -> None: ...

    def rate_limited(self, limit: str, project: int) -> None: ...


READ_WAIT_MS = 400
"""Long enough for a fold on a busy machine, short enough to wait for in a test."""


class World:
    """One server with the projects `default` and `other`, and an account for each role.

    `fold_store` is the fold's own handle on the same folder, as the fold process has one.
    """

    def __init__(self, store: Store, fold_store: Store | None = None, **settings: Any) -> None:
        self.store = store
        self.fold_store = fold_store or store
        self.now_ms = NOON_MS
        self.project = self._create_project("default", TOKEN, SECRET)
        self.other = self._create_project("other", OTHER_TOKEN, OTHER_SECRET)
        for username, project_id, role in (
            (OWNER, 0, "owner"),
            (READER, self.project.id, "consumer"),
            (ADMIN, self.project.id, "admin"),
            (IMPORTER, self.project.id, "ingest"),
            (STRANGER, self.other.id, "admin"),
        ):
            self.add_account(username, role, project=project_id)
        executor = ThreadPoolExecutor(4)
        catalog = CatalogCache(store.catalog)
        chosen = Settings(
            **{"disk_reserve_bytes": 0, "disk_reserve_percent": 0, "read_wait_ms": READ_WAIT_MS, **settings}
        )
        ingest = Ingest.open(chosen, store, catalog, executor=executor, now_ms=self.clock)
        self.services = Services(
            settings=chosen,
            store=store,
            catalog=catalog,
            ingest=ingest,
            metrics=NoMetrics(),
            executor=executor,
            now_ms=self.clock,
        )
        explorer = Explorer(self.services)
        self.app = make_app(self.services, extra_routes=explorer.routes(), page=explorer.page)
        self.folds = [ProfileFold(view) for view in all_views(self.fold_store)]
        self.loop = asyncio.new_event_loop()
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app, client=("192.0.2.7", 4711)),
            base_url="http://mixdown.test",
        )
        self._ingest, self._executor = ingest, executor

    def add_account(
        self,
        username: str,
        role: str,
        *,
        password: str = PASSWORD,
        project: int | None = None,
        expires_ms: int = 0,
    ) -> None:
        """A service account, of the project `default` unless told."""
        project = self.project.id if project is None else project
        account = Account(username, secret_hash(password), project, role, NOON_MS)
        self.store.catalog.create_account(replace(account, expires_ms=expires_ms) if expires_ms else account)

    def clock(self) -> int:
        """The time that the server sees."""
        return self.now_ms

    def _create_project(self, name: str, token: str, secret: str) -> Project:
        return self.store.catalog.create_project(
            name, token=token, secret_hash=secret_hash(secret), id_merge="simplified", now_ms=NOON_MS
        )

    def run(self, awaitable: Awaitable[httpx.Response]) -> httpx.Response:
        """Run one request."""
        return self.loop.run_until_complete(awaitable)

    def at_once(self, *awaitables: Awaitable[httpx.Response]) -> list[httpx.Response]:
        """Run several requests at the same time."""

        async def gathered() -> list[httpx.Response]:
            return list(await asyncio.gather(*awaitables))

        return self.loop.run_until_complete(gathered())

    def ask(
        self,
        target: str,
        *,
        method: str = "GET",
        user: str | None = READER,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Awaitable[httpx.Response]:
        """A request, to be run; `user` signs in with the password that all accounts share (None: nobody)."""
        sent = dict(headers or {})
        if user is not None and "Authorization" not in sent:
            sent["Authorization"] = basic(f"{user}:{PASSWORD}")
        return self.http.request(method, target, headers=sent, **options)

    def get(self, target: str, **options: Any) -> httpx.Response:
        """GET."""
        return self.run(self.ask(target, **options))

    def post(self, target: str, **options: Any) -> httpx.Response:
        """POST."""
        return self.run(self.ask(target, method="POST", **options))

    def page(self, **parameters: Any) -> Any:
        """The answer of the profile query to these query parameters; it must be 200."""
        reply = self.get(ENGAGE, params=parameters)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def send(self, *records: Any, endpoint: str = "engage") -> httpx.Response:
        """Send records and leave them in the log."""
        reply = self.run(
            self.http.post(f"/{endpoint}?verbose=1&ip=0", content=json.dumps(records), headers=_JSON)
        )
        assert reply.status_code == 200, reply.text
        return reply

    def fold_all(self) -> None:
        """Fold until nothing waits."""
        for fold in self.folds:
            while fold.step() is not None:
                pass

    def store_users(self, ids: Sequence[str], *, token: str = TOKEN) -> None:
        """Send a profile with the property `n` (its place in the list) for each id, and fold."""
        records = [user(profile_id, token=token, n=place) for place, profile_id in enumerate(ids)]
        for start in range(0, len(records), 2000):
            self.send(*records[start : start + 2000])
        self.fold_all()

    def store_events(self, events: Sequence[Mapping[str, Any]], *, project: int | None = None) -> None:
        """Put events into the store as the reader of events would, in one step.

        Their positions count from the partition's first; those that say none stand in their order.
        """
        number = self.project.id if project is None else project
        view = self.fold_store.partition(self.fold_store.partition_of(number))
        begin = first_of(view.number)
        positions = [begin + each.get("position", place) for place, each in enumerate(events)]
        placed = [{**each, "position": at} for each, at in zip(events, positions, strict=True)]
        batch, end = batch_of(number, placed), 1 + max(positions)
        watermark = max(view.events.watermark(), end)
        view.events.write(EventsWrite(watermark, [batch], (), self.now_ms))

    def close(self) -> None:
        """End everything."""
        self.services.close_event_reads()
        self.loop.run_until_complete(self.http.aclose())
        self._ingest.close()
        self._executor.shutdown()
        self.loop.close()
        if self.fold_store is not self.store:
            self.fold_store.close()
        self.store.close()


def shared_world(folder: Path, **settings: Any) -> World:
    """A server that tests of what a store answers share: in memory, or on PostgreSQL where tests run there.

    There its projects lie in some of several partitions.
    """
    if not ON_POSTGRES:
        return World(MemoryStore(), **settings)
    store = open_store(folder, role="worker", create=True, partitions=PARTITIONS)
    return World(store, open_store(folder, role="fold", create=False), **settings)


_JSON = {"Content-Type": "application/json"}


def user(profile_id: Any, *, token: str = TOKEN, **properties: Any) -> dict[str, Any]:
    """A `$set` of a user."""
    return {"$token": token, "$distinct_id": profile_id, "$set": properties}


def group(key: str, group_id: Any, *, token: str = TOKEN, **properties: Any) -> dict[str, Any]:
    """A `$set` of a group."""
    return {"$token": token, "$group_key": key, "$group_id": group_id, "$set": properties}


def basic(credentials: str) -> str:
    """The header value of Basic authentication, by the book."""
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def names(count: int) -> list[str]:
    """Ids whose order by code point is their order in the list."""
    return [f"u{number:05}" for number in range(count)]


def ids_of(answer: Any) -> list[str]:
    """The ids of an answer's rows."""
    return [row["$distinct_id"] for row in answer["results"]]
