"""The profiles of a Mixpanel project, through its own query API (contract query §2).

Enters: where the project is, and credentials. Leaves: batches of rows, page by page of one session. It asks
one question at a time, waits as long as it is told to (`Retry-After`), and notes each page that is on disk,
so that a later command goes on with the next. It never writes a credential anywhere.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import orjson

from mixdown.cli.transfer.asking import Asker, MixpanelError, keep_place
from mixdown.cli.transfer.reading import Batch
from mixdown.ingest.rows import Row
from mixdown.model.updates import Unreadable
from mixdown.query.files.shapes import ProfileReader

REGIONS: Final = {
    "us": "https://mixpanel.com",
    "eu": "https://eu.mixpanel.com",
    "in": "https://in.mixpanel.com",
}
PATH: Final = "/api/query/engage"
REPLY_LIMIT_BYTES: Final = 512 * 1024 * 1024
_EXPIRED: Final = "uncached query"  # contract query §2.4


class Question(msgspec.Struct, frozen=True):
    """Which profiles of which project. `group_id` is Mixpanel's data_group_id, "" for users.

    `project_id` is "" where a project secret says which project is meant.
    """

    base_url: str
    project_id: str
    group_id: str = ""
    where: str = ""
    properties: tuple[str, ...] | None = None


class Place(msgspec.Struct):
    """How far the reading of a project is: the session, and the page that comes next."""

    asked: dict[str, Any]
    session_id: str = ""
    page: int = 0
    rows: int = 0


class MixpanelSource:
    """`Source` of a project's profiles. `place_file` remembers the place between commands."""

    def __init__(
        self,
        question: Question,
        authorization: str,
        place_file: Path,
        *,
        tell: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._question = question
        self._file = place_file
        self._tell = tell
        self._asker = Asker(question.base_url, authorization, tell=tell, sleep=sleep)
        asked: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(question))
        self._place = Place(asked)
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode(place_file.read_bytes(), type=Place)
            if found.asked == asked:
                self._place = found
                tell(f"going on with page {found.page}: {found.rows} profiles were read before")
        self.total: int | None = None
        self._rows_before = self._place.rows
        self._reader = ProfileReader()

    def batches(self) -> Iterator[Batch]:
        """Pages as batches. Raises `MixpanelError`."""
        place = self._place
        while True:
            answer = self._page(place)
            results, page_size = answer["results"], answer.get("page_size")
            total = answer.get("total")
            self.total = total if type(total) is int else self.total
            if not results:
                break
            reading = place.session_id or f"at {time.time_ns()}"
            identity = f"mixpanel {self._question.base_url} {reading} {place.page}"
            numbers = list(range(place.rows + 1, place.rows + len(results) + 1))
            place.page += 1
            place.rows += len(results)
            yield Batch(numbers, results, identity, msgspec.structs.replace(place))
            if type(page_size) is int and len(results) < page_size:
                break
            if self.total is not None and place.rows >= self.total:
                break

    def done_of_total(self, rows: int) -> int:
        """The rows of earlier runs count too."""
        return self._rows_before + rows

    def row(self, raw: Any) -> Row | Unreadable:
        """A result as (id, properties)."""
        if type(raw) is not dict:
            return Unreadable(str(raw)[:1024], "row, must be an object")
        return self._reader.of_object(raw)

    def hostile(self, raw: Any) -> bool:
        """A page is parsed whole: whether it had escapes is not known."""
        del raw
        return True

    def record(self, raw: Any) -> Any:
        """The result as it came."""
        return raw

    def done(self, batch: Batch) -> None:
        """Remember that this page is on disk."""
        keep_place(self._file, batch.mark)

    def finish(self) -> None:
        """All pages are on disk: a later command begins anew."""
        self._file.unlink(missing_ok=True)

    def _page(self, place: Place) -> dict[str, Any]:
        """The page at `place`; a session that Mixpanel no longer knows is begun anew, from the first page."""
        try:
            answer = self._ask(place)
        except MixpanelError as error:
            if not place.page or _EXPIRED not in error.message:
                raise
            self._tell("the session has expired: reading begins anew, from the first page")
            place.session_id, place.page, place.rows = "", 0, 0
            answer = self._ask(place)
        if type(answer) is not dict or type(answer.get("results")) is not list:
            raise MixpanelError("the answer has no list of results: is this a Mixpanel address?")
        session_id = answer.get("session_id")
        if not place.session_id and session_id:
            place.session_id = str(session_id)
        return answer

    def _ask(self, place: Place) -> Any:
        question = self._question
        form = {"page": str(place.page)}
        if place.session_id:
            form["session_id"] = place.session_id
        if question.where:
            form["where"] = question.where
        if question.group_id:
            form["data_group_id"] = question.group_id
        if question.properties is not None:
            form["output_properties"] = json.dumps(question.properties)
        query = {"project_id": question.project_id} if question.project_id else {}
        return self._asker.ask(PATH, query, form, _parsed)


def _parsed(reply: IO[bytes]) -> Any:
    body = reply.read(REPLY_LIMIT_BYTES + 1)
    if len(body) > REPLY_LIMIT_BYTES:
        raise MixpanelError(f"a page is larger than {REPLY_LIMIT_BYTES} bytes")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MixpanelError(f"the answer is no JSON: {error}", hint="Is this a Mixpanel address?") from error


def place_file(folder: Path, project: int, group_key: str, question: msgspec.Struct) -> Path:
    """Where the place of this reading is remembered: a file of its own for each source and each target."""
    digest = blake2b(digest_size=16)
    for part in (str(project), group_key, json.dumps(msgspec.to_builtins(question), sort_keys=True)):
        digest.update(f"{len(part)}:{part}".encode())
    return folder / "imports" / f"{digest.hexdigest()}.json"
