"""What every import shares: its flags, its run from batches to the log, its refused rows and what it says.

Enters: flags, a source of rows and where they go (`Target`). Leaves: records in the log, refused rows with
their reasons. It goes the way of every record but HTTP: judged by the same rules, appended in the same
chunks, taken by the same readers. A batch that was applied before is recognised, so an interrupted import is
continued by running it again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

import click
import msgspec

from mixdown.cli.flags import data_dir_flag, json_flag
from mixdown.cli.folder import opened, running_server, settle, settle_and_tell
from mixdown.cli.output import Failure, emit, json_text, note, printable
from mixdown.cli.progress import ProgressBar
from mixdown.cli.transfer.forms import COMPRESSIONS, FORMATS, STANDARD, form_of, unpacked
from mixdown.model import texts
from mixdown.model.errors import OverloadedError
from mixdown.model.updates import Unreadable, Update
from mixdown.query.files.shapes import RowReader
from mixdown.settings import Settings

if TYPE_CHECKING:
    from mixdown.cli.transfer.reading import Batch, Source
    from mixdown.ingest.rows import Judged
    from mixdown.store.chunk import Outcome
    from mixdown.store.protocols import Append, Store

_LOOK_EVERY_S: Final = 0.25
_SHOWN: Final = 5
F = TypeVar("F", bound=Callable[..., Any])

LEFT_OUT: Final = object()
"""What `Run.choose` gives for a row that is not wanted."""
Choose = Callable[[Any], Any]
"""A function from a row to what of it is wanted, or `LEFT_OUT`."""


class Target(Protocol):
    """Where rows go, and how they are judged."""

    def key(self, identity: str) -> bytes:
        """The key of a batch that `identity` tells apart from all others of such imports."""

    def applied_before(self, store: Store, key: bytes) -> Outcome | None:
        """How a batch with this key turned out, if one was applied within the window of idempotency keys."""

    def judge(self, rows: list[Any], hostile: list[bool], key: bytes, *, keep_refusals: bool) -> Judged:
        """Judge every row; `hostile` says of each whether its texts want a closer look."""

    def append(self, store: Store, appends: Sequence[Append]) -> None:
        """Append a batch; on disk on return. Raises `StoreError`, `CatalogError`."""


class Counts(msgspec.Struct):
    """What became of the rows; `recognised` were imported by an earlier run, `left_out` by the filter."""

    rows: int = 0
    imported: int = 0
    recognised: int = 0
    left_out: int = 0
    refused: int = 0


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """The flags that say where an import reads, and what becomes of its rows."""

    file: str | None
    refused: str | None
    again: bool
    file_format: str | None
    compression: str | None
    from_mixpanel: str | None
    region: str
    mixpanel_url: str | None
    as_json: bool
    data_dir: str | None

    def check(self) -> None:
        """Wrong usage ends here."""
        if (self.file is None) == (self.from_mixpanel is None):
            raise click.UsageError("Name a FILE (- for standard input), or give --from-mixpanel ID.")
        if self.from_mixpanel is None and self.mixpanel_url:
            raise click.UsageError("--mixpanel-url goes with --from-mixpanel.")
        if self.from_mixpanel is not None and (self.file_format or self.compression):
            raise click.UsageError("--format and --compression go with a FILE.")
        if self.refused and self.file not in (None, STANDARD):
            with contextlib.suppress(FileNotFoundError):
                if Path(self.refused).samefile(str(self.file)):
                    raise click.UsageError("--refused names the file that is to be read.")


def input_flags(command: F) -> F:
    """Give a command the argument FILE and the flags of `Input`."""
    options = (
        click.argument("file", required=False),
        click.option(
            "--refused",
            metavar="FILE",
            help="Write refused rows there, with reasons, and keep them out of the server's refusals.",
        ),
        click.option("--again", is_flag=True, help="Apply rows anew that an earlier run has applied."),
        click.option("--format", "file_format", type=click.Choice(FORMATS), help="Whatever the name says."),
        click.option("--compression", type=click.Choice(COMPRESSIONS), help="Likewise."),
        click.option("--from-mixpanel", metavar="ID", help="Read this Mixpanel project instead of a file."),
        click.option(
            "--region",
            type=click.Choice(("us", "eu", "in")),
            default="us",
            show_default=True,
            help="Where that project is.",
        ),
        click.option("--mixpanel-url", metavar="URL", help="Its address, if it is none of the regions."),
        json_flag,
        data_dir_flag,
    )
    for option in reversed(options):
        command = option(command)
    return command


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an import does: where rows come from and go, and which are wanted.

    `salt` tells it apart from other imports of the same rows. `quick` reads plain lines in one step, where
    all of a line is wanted as it is.
    """

    target: Target
    source: Source
    progress: Progress
    choose: Choose | None = None
    quick: Callable[[bytes], Update | None] | None = None
    salt: str = ""


def run_import(input_: Input, planned: Callable[[Settings, Store, contextlib.ExitStack], Plan]) -> None:
    """Import as `planned`, which is asked once the folder is open, and say how it went. Raises `Failure`."""
    with opened(input_.data_dir) as (settings, store), contextlib.ExitStack() as stack:
        plan = planned(settings, store, stack)
        settle(settings, store)
        refused = stack.enter_context(Refused(input_.refused))
        run = Run(store, settings, plan, input_, refused)
        stack.callback(run.close)
        run.run(plan.progress)
        settle_and_tell(settings, store)
        finish = getattr(plan.source, "finish", None)
        if finish is not None:
            finish()
    _tell(run.counts, refused, input_)


class Run:
    """One import: batches in, one of them being appended while the next is judged."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        plan: Plan,
        input_: Input,
        refused: Refused,
    ) -> None:
        from mixdown.ingest.gate import Gate
        from mixdown.ingest.pipeline import gate_limits_of
        from mixdown.store.sqlite.folder import WakeSender

        self.counts = Counts()
        self._store = store
        self._settings = settings
        self._plan = plan
        self._target = plan.target
        self._source = plan.source
        self._refused = refused
        self._slow_source = input_.from_mixpanel is not None
        self._salt = f" {plan.salt}" + (f" {time.time_ns()}" if input_.again else "")
        self._gate = Gate(store, settings.data_dir, gate_limits_of(settings))
        self._looked = 0.0
        self._wake = WakeSender(settings.data_dir) if settings.data_dir.is_dir() else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="append")
        self._waiting: tuple[Batch, Future[None] | None] | None = None

    def close(self) -> None:
        """End the thread and its wake-up calls."""
        self._thread.shutdown()
        if self._wake is not None:
            self._wake.close()

    def run(self, progress: Progress) -> None:
        """Import all batches."""
        with ProgressBar("importing", progress.total, "rows") as bar:
            bar.tell(0, 0)
            for batch in self._source.batches():
                self._take(batch)
                bar.tell(progress.done(self.counts.rows), self.counts.rows, total=progress.total_now())
            self._finish()

    def _take(self, batch: Batch) -> None:
        key = self._target.key(batch.identity + self._salt)
        before = self._target.applied_before(self._store, key)
        self.counts.rows += len(batch.raws)
        if before is not None and not before.failed and before.total == len(batch.raws):
            self.counts.recognised += before.good
            self._next(batch, None)
            return
        numbers, raws, rows = self._wanted(batch)
        if before is None:
            hostile = self._hostile(rows, raws)
            judged = self._target.judge(rows, hostile, key, keep_refusals=not self._refused.wanted)
            outcome, appended = judged.outcome, judged.appends
            self.counts.imported += outcome.good
        else:
            outcome, appended = before, ()
            self.counts.recognised += outcome.good
        self.counts.refused += len(outcome.failed)
        for index, field, message in outcome.failed:
            self._refused.add(numbers[index], field, message, partial(self._source.record, raws[index]))
        future = None
        if appended:
            self._wait_for_room()
            self._finish()
            future = self._thread.submit(self._target.append, self._store, appended)
        self._next(batch, future)

    def _wanted(self, batch: Batch) -> tuple[list[int], list[Any], list[Any]]:
        """The rows of a batch that are wanted: their numbers, as they were read, and as they are judged."""
        read, choose, quick = self._source.row, self._plan.choose, self._plan.quick
        if quick is not None:
            found = [quick(raw) if type(raw) is bytes else None for raw in batch.raws]
            pairs = zip(found, batch.raws, strict=True)
            return (
                batch.numbers,
                batch.raws,
                [read(raw) if update is None else update for update, raw in pairs],
            )
        numbers: list[int] = []
        raws: list[Any] = []
        rows: list[Any] = []
        for number, raw in zip(batch.numbers, batch.raws, strict=True):
            row = read(raw)
            if choose is not None and not isinstance(row, Unreadable):
                row = choose(row)
                if row is LEFT_OUT:
                    self.counts.left_out += 1
                    continue
            numbers.append(number)
            raws.append(raw)
            rows.append(row)
        return numbers, raws, rows

    def _hostile(self, rows: list[Any], raws: list[Any]) -> list[bool]:
        """For each row whether its texts want a closer look; updates had theirs."""
        hostile = self._source.hostile
        return [
            not isinstance(row, (Update, Unreadable)) and hostile(raw)
            for row, raw in zip(rows, raws, strict=True)
        ]

    def _next(self, batch: Batch, future: Future[None] | None) -> None:
        self._finish()
        self._waiting = batch, future
        if self._slow_source:
            self._finish()  # the next page may be an hour away

    def _finish(self) -> None:
        """Wait for the batch that is being appended."""
        if self._waiting is None:
            return
        batch, future = self._waiting
        self._waiting = None
        if future is not None:
            future.result()
            if self._wake is not None:
                self._wake.wake()
        self._source.done(batch)

    def _wait_for_room(self) -> None:
        """Go no faster than the fold, and stop before the disk is full (DESIGN G7). Raises `Failure`."""
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        self._gate.look()
        while True:
            try:
                time.sleep(self._gate.check())
                return
            except OverloadedError as error:
                if error.message == texts.OVERLOADED_DISK:
                    raise Failure(
                        error.message, hint="Free some space, then run the same command again."
                    ) from None
                if not self._settings.on_postgres and running_server(self._settings.data_dir) is None:
                    self._finish()
                    settle(self._settings, self._store)
                else:
                    time.sleep(_LOOK_EVERY_S)
                self._gate.look()


class RemoteSource(Protocol):
    """A source that is read elsewhere, and may learn only while it is read how much there is."""

    @property
    def total(self) -> int | None:
        """How much there is, in any unit."""

    def done_of_total(self, rows: int) -> int:
        """How much of it is done, when this run has read so many rows."""


class Progress:
    """How far the source is: in bytes of its file, or in rows where Mixpanel told their number."""

    def __init__(
        self,
        total: int | None = None,
        done: Callable[[], int] | None = None,
        remote: RemoteSource | None = None,
    ) -> None:
        self.total = total
        self._done = done
        self._remote = remote

    def done(self, rows: int) -> int:
        """How much is done, in the unit of the total."""
        if self._remote is not None:
            return self._remote.done_of_total(rows)
        return rows if self._done is None else self._done()

    def total_now(self) -> int | None:
        """The total as it is known now."""
        return self.total if self._remote is None else self._remote.total


class Refused:
    """The file of refused rows: one JSON object a line, with `row`, `field`, `message` and `record`."""

    def __init__(self, file: str | None) -> None:
        self.wanted = file is not None
        self.path = None if file is None else Path(file)
        self.shown: list[str] = []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        if self.path is not None:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(fd, "wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None and self.path is not None:
            empty = self._file.tell() == 0
            self._file.close()
            if empty and self.path.is_file():
                self.path.unlink()

    def add(self, number: int, field: str, message: str, record: Callable[[], Any]) -> None:
        """Note a refused row."""
        if len(self.shown) < _SHOWN:
            self.shown.append(f"row {number}: {message}")
        if self._file is not None:
            line = {"row": number, "field": field, "message": message, "record": record()}
            self._file.write(json_text(line).encode() + b"\n")


def file_source(input_: Input, reader: RowReader, stack: contextlib.ExitStack) -> tuple[Source, Progress]:
    """The rows of a file or of standard input, and how far they are. Raises `Failure`, `FormError`."""
    from mixdown.cli.transfer.reading import CsvTable, Lines, ParquetTable

    assert input_.file is not None
    form = form_of(input_.file, input_.file_format, input_.compression)
    path = Path(input_.file)
    from_pipe = input_.file == STANDARD
    file = sys.stdin.buffer if from_pipe else stack.enter_context(path.open("rb"))
    if form.format == "parquet":
        import shutil
        import tempfile

        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mixdown-import-")))
        if from_pipe:
            path = scratch / "input"
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
        return ParquetTable(path.resolve(), scratch, reader), Progress()
    read = 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for piece in unpacked(file, form.compression, input_.file or ""):
            read += len(piece)
            yield piece

    size = 0 if from_pipe else path.stat().st_size
    measured = bool(size) and path.is_file()
    progress = Progress(size if measured else None, (file.tell if measured else lambda: read))
    kind = CsvTable if form.format == "csv" else Lines
    return kind(counted(), reader), progress


def credentials() -> tuple[str, str]:
    """A Mixpanel service account (`user:secret`), or a project's secret; the other is "".

    Raises `Failure`.
    """
    account, secret = os.environ.get("MIXPANEL_ACCOUNT", ""), os.environ.get("MIXPANEL_SECRET", "")
    if not account and not secret and sys.stdin.isatty():
        account = click.prompt("Service account (user:secret)", hide_input=True, err=True)
    if bool(account) == bool(secret) or (account and ":" not in account):
        raise Failure(
            "no credentials for Mixpanel",
            hint="Set MIXPANEL_ACCOUNT=user:secret, of a service account, or MIXPANEL_SECRET, the project's.",
        )
    return account, secret


def address(input_: Input, regions: dict[str, str]) -> str:
    """Where the Mixpanel project is. Raises `Failure`."""
    url = (input_.mixpanel_url or regions[input_.region]).rstrip("/")
    if not url.startswith(("https://", "http://")):
        raise Failure(f"{url} is no address", hint="Such as https://eu.mixpanel.com")
    return url


def _tell(counts: Counts, refused: Refused, input_: Input) -> None:
    if input_.as_json:
        emit(msgspec.to_builtins(counts))
    else:
        told = f"imported {counts.imported} of {counts.rows} rows"
        if counts.recognised:
            told += f"; {counts.recognised} were imported before"
        if counts.left_out:
            told += f"; {counts.left_out} were left out by the filter"
        note(told)
        if counts.recognised and not input_.again:
            note("(--again applies rows anew that were imported before)")
    if counts.refused:
        for line in refused.shown:
            note(f"  {printable(line)}")
        if counts.refused > len(refused.shown):
            note("  …")
        where = (
            f"They are in {printable(str(refused.path))}" if refused.wanted else "See `mixdown refusals list`"
        )
        raise Failure(f"{counts.refused} rows were refused", hint=f"{where}.")
