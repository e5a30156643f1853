"""`/lookup-tables`: a project's tables listed, and one replaced by CSV (contract ingestion §9).

A request of a service account or a project's secret enters; the reply leaves, once the table is on disk. The
body goes to a file without a name as it comes, and is read from there: no more than a piece is in memory.
"""

from __future__ import annotations

import asyncio
import tempfile
from http import HTTPStatus
from typing import IO, Any, Final, NamedTuple

import structlog

from mixdown.http.auth import ADMIN, INGEST, OWNER, READERS, authenticate, caller_inside
from mixdown.http.compression import pieces_of, too_large
from mixdown.http.exchange import Body, DisconnectedError, Receive, Request, discard_body
from mixdown.http.forms import form_fields
from mixdown.http.reply import Reply, json_reply, overloaded
from mixdown.http.services import Services
from mixdown.model import texts
from mixdown.model.errors import (
    AuthError,
    BodyError,
    CatalogError,
    LookupTableError,
    RateLimitedError,
    StoreError,
)
from mixdown.model.lookup_csv import BYTES_LIMIT, LookupCsv
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.lookup_tables import REPLACEMENTS_A_DAY, LookupTable, no_table
from mixdown.store.protocols import Project

LIST_PATH: Final = "/lookup-tables"
ONE_PATH: Final = "/lookup-tables/{id}"
REPLACERS: Final = frozenset({INGEST, ADMIN, OWNER})
LISTERS: Final = READERS | {INGEST}
DAY_MS: Final = 24 * 3600 * 1000
UPLOADS_AT_ONCE: Final = 4
NOT_WRITTEN_RETRY_S: Final = 5
_WRITTEN_BYTES: Final = 1024 * 1024
_READ_ON_BYTES: Final = 2 * BYTES_LIMIT

_log = structlog.get_logger(__name__)


class LookupPath(NamedTuple):
    """A path of this family: its name in metrics, what it takes, and the table's id where it names one."""

    name: str
    methods: tuple[str, ...]
    table_id: str = ""

    @property
    def allow(self) -> str:
        """The `Allow` header's text."""
        return ", ".join((*self.methods, "OPTIONS"))


LISTING: Final = LookupPath(LIST_PATH, ("GET",))
REPLACING: Final = LookupPath(ONE_PATH, ("PUT", "POST"))


def lookup_path(path: str) -> LookupPath | None:
    """What answers at a canonical path, None where it is none of this family."""
    if path == LIST_PATH:
        return LISTING
    before, _, table_id = path.rpartition("/")
    return REPLACING._replace(table_id=table_id) if before == LIST_PATH and table_id else None


class LookupTablePaths:
    """Answers the paths of this family; one for each worker."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._folder = getattr(services.store, "folder", None)
        self._uploads = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._turn = (
            asyncio.Lock()
        )  # the store takes one at a time: who waits must not hold a thread of reads

    async def answer(self, path: LookupPath, request: Request, receive: Receive) -> tuple[Reply, bool]:
        """The reply, and whether to close the connection after it. Raises `DisconnectedError`."""
        try:
            project = await self._in_thread(self._project, request, path)
            if not path.table_id:
                return await self._listing(project), False
            await self._in_thread(self._admit, project, path.table_id)
            return await self._replace(project, path.table_id, request, receive)
        except (AuthError, CatalogError, RateLimitedError) as error:
            reply = _refused(error)
        except (OSError, StoreError) as error:  # a full disk, say: the table holds what it held
            _log.error(texts.TABLE_NOT_WRITTEN, exc_info=error)
            return overloaded(texts.TABLE_NOT_WRITTEN, NOT_WRITTEN_RETRY_S), True
        body = Body(b"", 0) if request.method == "GET" else await discard_body(receive, _READ_ON_BYTES)
        return reply, not body.complete

    async def _in_thread(self, call: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._services.executor, call, *args)

    # --- who, and which table ---------------------------------------------------------------------

    def _project(self, request: Request, path: LookupPath) -> Project:
        """The project that is asked about. Raises `AuthError`, always a 401 (contract ingestion §6.5)."""
        header = request.headers.get(b"authorization", b"").decode("latin-1")
        wanted = form_fields(request.query).get(b"project_id", b"").decode("utf-8", "replace")
        view = self._services.catalog.current()
        try:
            caller = caller_inside(request.scope) or authenticate(
                header, view, now_ms=self._services.now_ms()
            )
        except AuthError:
            raise AuthError(texts.ACCOUNT_INVALID if header else texts.NO_CREDENTIALS, status=401) from None
        if caller.is_secret:
            if not path.table_id:
                raise AuthError(texts.ACCOUNT_INVALID, status=401)
            (number,) = caller.grants
            if wanted and wanted != str(number):
                raise AuthError(texts.PROJECT_MISMATCH, status=401)
            return view.projects[number]
        project = _named(view, wanted)
        if project is None or not caller.sees(project.id, REPLACERS if path.table_id else LISTERS):
            raise AuthError(texts.ACCOUNT_OUTSIDE if wanted else texts.PROJECT_ID_MISSING, status=401)
        return project

    def _admit(self, project: Project, table_id: str) -> None:
        """Raises `CatalogError` where there is no such table, `RateLimitedError` past the day's limit."""
        tables = self._services.store.lookup_tables
        if table_id not in {table.id for table in tables.listing(project.id)}:
            raise no_table(table_id)
        now_ms = self._services.now_ms()
        count, first_ms = tables.replacements(project.id, since_ms=now_ms - DAY_MS)
        if count >= REPLACEMENTS_A_DAY:
            raise RateLimitedError(
                texts.LOOKUP_REPLACED_OFTEN.format(limit=REPLACEMENTS_A_DAY),
                retry_after_s=max(1, (first_ms + DAY_MS - now_ms) // 1000 + 1),
                limit="replacements",
                project=project.id,
            )

    async def _listing(self, project: Project) -> Reply:
        found: list[LookupTable] = await self._in_thread(
            self._services.store.lookup_tables.listing, project.id
        )
        results = [{"id": table.id, "name": table.name} for table in found]
        return json_reply(HTTPStatus.OK, {"code": 200, "status": "OK", "results": results})

    # --- the body ---------------------------------------------------------------------------------

    async def _replace(
        self, project: Project, table_id: str, request: Request, receive: Receive
    ) -> tuple[Reply, bool]:
        closed = await self._in_thread(self._services.ingest.closed_because)
        if closed:
            body = await discard_body(receive, _READ_ON_BYTES)
            return overloaded(closed, 1), not body.complete
        async with self._uploads:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                complete = await self._spool(receive, file)
                if complete is not None:
                    return _too_large(), not complete
                zipped = "gzip" in request.headers.get(b"content-encoding", b"").decode("latin-1").lower()
                async with self._turn:
                    return await self._in_thread(self._replaced, project, table_id, file, zipped), False

    async def _spool(self, receive: Receive, file: IO[bytes]) -> bool | None:
        """Write the body to a file as it comes; None where all is well.

        One that is longer than a table may be is read on for a while, so that its sender sees the reply: then
        whether it came to its end.
        """
        size = held_bytes = 0
        held: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            piece = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(piece)
            if size > BYTES_LIMIT:
                return not more or (await discard_body(receive, BYTES_LIMIT)).complete
            held.append(piece)
            held_bytes += len(piece)
            if held_bytes >= _WRITTEN_BYTES or not more:
                try:
                    await self._in_thread(file.write, b"".join(held))
                except OSError:
                    if more:  # else its sender would see a connection that is reset, and no reply
                        await discard_body(receive, BYTES_LIMIT)
                    raise
                held, held_bytes = [], 0
        return None

    def _replaced(self, project: Project, table_id: str, file: IO[bytes], zipped: bool) -> Reply:  # noqa: FBT001 - to be called by a thread
        """Replace the table by the CSV in a file."""
        try:
            self._admit(project, table_id)  # many may have been let in before the first of them counted
            source = LookupCsv(pieces_of(file, BYTES_LIMIT, zipped=zipped))
            tables = self._services.store.lookup_tables
            tables.replace(project.id, table_id, source, now_ms=self._services.now_ms())
        except LookupTableError as error:
            failed = [{"index": index, "message": message} for index, message in error.failed]
            content = {"code": 400, "error": error.message, "failed_records": failed, "status": "Bad Request"}
            return json_reply(HTTPStatus.BAD_REQUEST, content)
        except BodyError as error:
            return failure(HTTPStatus(error.status), error.message)
        except (CatalogError, RateLimitedError) as error:
            return _refused(error)
        return json_reply(HTTPStatus.OK, {"code": 200, "status": "OK"})


def failure(status: HTTPStatus, message: str, *headers: tuple[bytes, bytes]) -> Reply:
    """A refusal in the shape of Mixpanel's newer endpoints (contract ingestion §6.2)."""
    return json_reply(status, {"code": status.value, "error": message, "status": status.phrase}, *headers)


def _refused(error: AuthError | CatalogError | RateLimitedError) -> Reply:
    """Why a request is not let in."""
    if isinstance(error, RateLimitedError):
        retry = (b"retry-after", str(error.retry_after_s).encode())
        return failure(HTTPStatus.TOO_MANY_REQUESTS, error.message, retry)
    is_unknown = isinstance(error, CatalogError)
    return failure(HTTPStatus.NOT_FOUND if is_unknown else HTTPStatus.UNAUTHORIZED, error.message)


def _too_large() -> Reply:
    return failure(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large(BYTES_LIMIT).message)


def _named(view: CatalogView, wanted: str) -> Project | None:
    return view.projects.get(int(wanted)) if wanted.isdecimal() and len(wanted) < 17 else None
