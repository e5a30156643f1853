"""`mixdown profiles import`: rows of a file, a pipe or a Mixpanel project into the log.

Enters: flags. Leaves: records in the log, refused rows with their reasons. It goes the way of every record
but HTTP: judged by the same rules, appended in the same chunks, folded by the same fold. A batch that was
applied before is recognised, so an interrupted import is continued by running it again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

import click
import msgspec

from mixdown.cli.flags import (
    data_dir_flag,
    group_key_flag,
    ignore_alias_flag,
    json_flag,
    project_flag,
    source_of,
)
from mixdown.cli.folder import find_project, opened, running_server, settle, settle_and_tell
from mixdown.cli.output import Failure, emit, json_text, note, printable
from mixdown.cli.progress import ProgressBar
from mixdown.cli.transfer.forms import COMPRESSIONS, FORMATS, STANDARD, Form, form_of, unpacked
from mixdown.model import texts
from mixdown.model.errors import OverloadedError
from mixdown.model.operators import LAST_SEEN
from mixdown.model.values import clean_text
from mixdown.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from mixdown.cli.transfer.mixpanel import MixpanelSource
    from mixdown.cli.transfer.reading import Batch, Source
    from mixdown.ingest.rows import Import, Row
    from mixdown.model.lookup import Tables
    from mixdown.model.updates import Unreadable, Update
    from mixdown.store.protocols import Store

OPERATORS: Final = ("set", "set_once", "merge", "add", "union", "append", "remove")
_LOOK_EVERY_S: Final = 0.25
_SHOWN: Final = 5

Keep = Any
"""A function from (id, properties) to whether a row is wanted."""


class Counts(msgspec.Struct):
    """What became of the rows; `recognised` were imported by an earlier run, `left_out` by the filter."""

    rows: int = 0
    imported: int = 0
    recognised: int = 0
    left_out: int = 0
    refused: int = 0


@click.command("import")
@click.argument("file", required=False)
@project_flag()
@group_key_flag("Import groups of this group key.")
@click.option(
    "--where",
    default="",
    metavar="EXPRESSION",
    help="Only rows that match, such as "
    """'properties["plan"] == "pro"'.""",
)
@click.option("--properties", metavar="A,B", help="Only these properties, separated by commas.")
@click.option(
    "--operator",
    type=click.Choice(OPERATORS),
    default="set",
    show_default=True,
    help="What a row does to its profile.",
)
@click.option("--replace", is_flag=True, help="Each profile becomes its row: what it had before goes.")
@ignore_alias_flag
@click.option("--id-column", metavar="NAME", help="Where the id stands, if not in `$distinct_id`.")
@click.option(
    "--refused",
    metavar="FILE",
    help="Write refused rows there, with reasons, and keep them out of the server's refusals.",
)
@click.option("--again", is_flag=True, help="Apply rows anew that an earlier run has applied.")
@click.option("--format", "file_format", type=click.Choice(FORMATS), help="Whatever the name says.")
@click.option("--compression", type=click.Choice(COMPRESSIONS), help="Likewise.")
@click.option("--from-mixpanel", metavar="ID", help="Read this Mixpanel project instead of a file.")
@click.option(
    "--region",
    type=click.Choice(("us", "eu", "in")),
    default="us",
    show_default=True,
    help="Where that project is.",
)
@click.option("--mixpanel-url", metavar="URL", help="Its address, if it is none of the regions.")
@click.option("--data-group-id", metavar="N", help="Mixpanel's number for the group key.")
@json_flag
@data_dir_flag
def import_(**flags: Any) -> None:
    """Read profiles from FILE, or from a Mixpanel project, into a project.

    FILE is .ndjson, .csv or .parquet, the first two also with .gz or .zst behind; `-` is standard input. A
    row is {"$distinct_id": …, "$properties": {…}}, or id and properties side by side. Its properties are set;
    those that a profile has besides stay. `$last_seen` becomes the row's.

    An import that was interrupted goes on when the same command is run again: what was applied is recognised
    for 7 days, and never applied twice. Exit code 1 when a row was refused.

    From Mixpanel: MIXPANEL_ACCOUNT (`user:secret` of a service account) or MIXPANEL_SECRET (the project's
    secret) says who reads; without either, a terminal asks.

    \b
    Examples:
      mixdown profiles import users.csv --project shop --refused refused.ndjson
      mixdown profiles export --project 1 | mixdown profiles import - --project copy
      mixdown profiles import --from-mixpanel 1234567 --region eu --project shop
    """
    asked = Asked(**flags)
    _check(asked)
    with opened(asked.data_dir) as (settings, store), contextlib.ExitStack() as stack:
        target = _target(asked, store)
        settle(settings, store)
        source, progress = _source(asked, settings, target, stack)
        refused = stack.enter_context(_Refused(asked.refused))
        run = _Run(store, settings, target, source, asked, refused)
        stack.callback(run.close)
        run.run(progress)
        settle_and_tell(settings, store)
        finish = getattr(source, "finish", None)
        if finish is not None:
            finish()
    _tell(run.counts, refused, asked)


class Asked(msgspec.Struct, frozen=True):
    """The flags."""

    file: str | None
    project_ref: str
    group_key: str
    where: str
    properties: str | None
    operator: str
    replace: bool
    ignore_alias: bool
    id_column: str | None
    refused: str | None
    again: bool
    file_format: str | None
    compression: str | None
    from_mixpanel: str | None
    region: str
    mixpanel_url: str | None
    data_group_id: str | None
    as_json: bool
    data_dir: str | None

    def names(self) -> tuple[str, ...] | None:
        """The properties that are wanted, `$last_seen` always; None for all."""
        if self.properties is None:
            return None
        given = (name.strip() for name in self.properties.split(","))
        return tuple(dict.fromkeys([*filter(None, given), LAST_SEEN]))


class _Run:
    """One import: batches in, one of them being appended while the next is judged."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        target: Import,
        source: Source,
        asked: Asked,
        refused: _Refused,
    ) -> None:
        from mixdown.ingest.gate import Gate
        from mixdown.ingest.pipeline import gate_limits_of
        from mixdown.store.sqlite.folder import WakeSender

        self.counts = Counts()
        self._store = store
        self._settings = settings
        self._target = target
        self._source = source
        self._refused = refused
        self._names = None if asked.names() is None else frozenset(asked.names() or ())
        tables = store.lookup_tables.tables(target.project)
        # Mixpanel filters by itself
        self._slow_source = asked.from_mixpanel is not None
        self._keep = None if asked.from_mixpanel else _filter(asked.where, tables)
        self._salt = f" {asked.where!r} {sorted(self._names or ())} {self._names is None}"
        if asked.again:
            self._salt += f" {time.time_ns()}"
        self._quick = _quick_reader(source, target, asked)
        self._gate = Gate(store, settings.data_dir, gate_limits_of(settings))
        self._looked = 0.0
        self._wake = WakeSender(settings.data_dir)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="append")
        self._waiting: tuple[Batch, Future[None] | None] | None = None

    def close(self) -> None:
        """End the thread and its wake-up calls."""
        self._thread.shutdown()
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
        from mixdown.ingest.rows import append, applied_before, judge

        key = self._target.key(batch.identity + self._salt)
        before = applied_before(self._store, key)
        self.counts.rows += len(batch.raws)
        if before is not None and not before.failed and before.total == len(batch.raws):
            self.counts.recognised += before.good
            self._next(batch, None)
            return
        numbers, raws, rows = self._wanted(batch)
        if before is None:
            judged = judge(
                rows,
                self._hostile(rows, raws),
                self._target,
                key,
                keep_refusals=not self._refused.wanted,
            )
            outcome, appended = judged.outcome, judged.append
            self.counts.imported += outcome.good
        else:
            outcome, appended = before, None
            self.counts.recognised += outcome.good
        self.counts.refused += len(outcome.failed)
        for index, field, message in outcome.failed:
            self._refused.add(numbers[index], field, message, partial(self._source.record, raws[index]))
        future = None
        if appended is not None:
            self._wait_for_room()
            self._finish()
            future = self._thread.submit(append, self._store, self._target, appended)
        self._next(batch, future)

    def _wanted(self, batch: Batch) -> tuple[list[int], list[Any], list[Row | Unreadable | Update]]:
        """The rows of a batch that are wanted: their numbers, as they were read, and as (id, properties).

        Plain rows come as updates already.
        """
        numbers: list[int] = []
        raws: list[Any] = []
        rows: list[Row | Unreadable | Update] = []
        read, keep, names, quick = self._source.row, self._keep, self._names, self._quick
        if quick is not None:
            found = [quick(raw) if type(raw) is bytes else None for raw in batch.raws]
            pairs = zip(found, batch.raws, strict=True)
            return (
                batch.numbers,
                batch.raws,
                [read(raw) if update is None else update for update, raw in pairs],
            )
        for number, raw in zip(batch.numbers, batch.raws, strict=True):
            row = read(raw)
            if type(row) is tuple and type(row[1]) is dict:
                if keep is not None and not keep(*row):
                    self.counts.left_out += 1
                    continue
                if names is not None:
                    row = row[0], {name: value for name, value in row[1].items() if name in names}
            numbers.append(number)
            raws.append(raw)
            rows.append(row)
        return numbers, raws, rows

    def _hostile(self, rows: list[Any], raws: list[Any]) -> list[bool]:
        """For each row whether its texts want a closer look; updates had theirs."""
        hostile = self._source.hostile
        return [type(row) is tuple and hostile(raw) for row, raw in zip(rows, raws, strict=True)]

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
                if running_server(self._settings.data_dir) is None:
                    self._finish()
                    settle(self._settings, self._store)
                else:
                    time.sleep(_LOOK_EVERY_S)
                self._gate.look()


def _quick_reader(source: Source, target: Import, asked: Asked) -> Callable[[bytes], Update | None] | None:
    """A function that reads plain lines in one step, where all of a line is wanted as it is."""
    from mixdown.cli.transfer.reading import Lines
    from mixdown.model.operators import Operator
    from mixdown.model.quick import row_reader

    plain = asked.operator in ("set", "set_once") and not (
        asked.where.strip() or asked.properties is not None
    )
    if not isinstance(source, Lines) or not plain or asked.id_column or target.string_limit_bytes:
        return None
    return row_reader(target.project, target.group_key, Operator[asked.operator.upper()])


class Progress:
    """How far the source is: in bytes of its file, or in rows where Mixpanel told their number."""

    def __init__(
        self, total: int | None, done: Callable[[], int] | None, mixpanel: MixpanelSource | None
    ) -> None:
        self.total = total
        self._done = done
        self._mixpanel = mixpanel

    def done(self, rows: int) -> int:
        """How much is done, in the unit of the total."""
        if self._mixpanel is not None:
            return self._mixpanel.rows_before + rows
        return rows if self._done is None else self._done()

    def total_now(self) -> int | None:
        """The total as it is known now."""
        return self.total if self._mixpanel is None else self._mixpanel.total


class _Refused:
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


def _check(asked: Asked) -> None:
    """Wrong usage ends here."""
    if (asked.file is None) == (asked.from_mixpanel is None):
        raise click.UsageError("Name a FILE (- for standard input), or give --from-mixpanel ID.")
    if asked.replace and asked.operator != "set":
        raise click.UsageError("--replace sets whole profiles: it goes with no other operator.")
    if asked.from_mixpanel is None:
        if asked.mixpanel_url or asked.data_group_id:
            raise click.UsageError("--mixpanel-url and --data-group-id go with --from-mixpanel.")
    elif asked.file_format or asked.compression or asked.id_column:
        raise click.UsageError("--format, --compression and --id-column go with a FILE.")
    if asked.refused and asked.file not in (None, STANDARD):
        with contextlib.suppress(FileNotFoundError):
            if Path(asked.refused).samefile(str(asked.file)):
                raise click.UsageError("--refused names the file that is to be read.")
    from mixdown.model.expression import parse

    parse(asked.where, lenient=True)  # lookup tables are known once the folder is open


def _filter(where: str, tables: Tables) -> Keep | None:
    """A function that says whether a row matches. Raises `ExpressionError`."""
    from mixdown.model.expression import Context, parse, row_of

    expression = parse(where, tables)
    if expression.is_blank:
        return None
    matches = expression.predicate(Context(int(time.time())))
    return lambda profile_id, properties: matches(row_of(expression, properties, str(profile_id)))


def _target(asked: Asked, store: Store) -> Import:
    from mixdown.ingest.rows import Import

    project = find_project(store, asked.project_ref)
    limit = next(setting for setting in SETTINGS if setting.name == "string_limit_bytes")
    given = source_of(limit, {}) != "default"
    return Import(
        project.id,
        project.token,
        clean_text(asked.group_key),
        asked.operator,
        asked.replace,
        string_limit_bytes=_limit_in_force() if given else 0,
        ignore_alias=asked.ignore_alias,
    )


def _limit_in_force() -> int:
    from mixdown.cli.flags import settings_from

    return settings_from({}).string_limit_bytes


def _source(
    asked: Asked, settings: Settings, target: Import, stack: contextlib.ExitStack
) -> tuple[Source, Progress]:
    if asked.from_mixpanel is not None:
        source = _mixpanel_source(asked, settings, target)
        return source, Progress(None, None, source)
    assert asked.file is not None
    form = form_of(asked.file, asked.file_format, asked.compression)
    return _file_source(asked, form, stack)


def _file_source(asked: Asked, form: Form, stack: contextlib.ExitStack) -> tuple[Source, Progress]:
    from mixdown.cli.transfer.reading import CsvTable, Lines, ParquetTable

    assert asked.file is not None
    path = Path(asked.file)
    from_pipe = asked.file == STANDARD
    file = sys.stdin.buffer if from_pipe else stack.enter_context(path.open("rb"))
    if form.format == "parquet":
        import shutil
        import tempfile

        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mixdown-import-")))
        if from_pipe:
            path = scratch / "input"
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
        return ParquetTable(path.resolve(), scratch, asked.id_column), Progress(None, None, None)
    read = 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for piece in unpacked(file, form.compression, asked.file or ""):
            read += len(piece)
            yield piece

    size = 0 if from_pipe else path.stat().st_size
    measured = bool(size) and path.is_file()
    progress = Progress(size if measured else None, (file.tell if measured else lambda: read), None)
    kind = CsvTable if form.format == "csv" else Lines
    return kind(counted(), asked.id_column), progress


def _mixpanel_source(asked: Asked, settings: Settings, target: Import) -> MixpanelSource:
    from mixdown.cli.transfer import mixpanel

    account, secret = os.environ.get("MIXPANEL_ACCOUNT", ""), os.environ.get("MIXPANEL_SECRET", "")
    if not account and not secret and sys.stdin.isatty():
        account = click.prompt("Service account (user:secret)", hide_input=True, err=True)
    if bool(account) == bool(secret) or (account and ":" not in account):
        raise Failure(
            "no credentials for Mixpanel",
            hint="Set MIXPANEL_ACCOUNT=user:secret, of a service account, or MIXPANEL_SECRET, the project's.",
        )
    url = (asked.mixpanel_url or mixpanel.REGIONS[asked.region]).rstrip("/")
    if not url.startswith(("https://", "http://")):
        raise Failure(f"{url} is no address", hint="Such as https://eu.mixpanel.com")
    question = mixpanel.Question(
        base_url=url,
        project_id=str(asked.from_mixpanel) if account else "",
        group_id=asked.data_group_id or target.group_key,
        where=asked.where,
        properties=asked.names(),
    )
    place = mixpanel.place_file(settings.data_dir, target.project, target.group_key, question)
    return mixpanel.MixpanelSource(
        question, mixpanel.authorization(account, secret), place, tell=lambda text: note(printable(text))
    )


def _tell(counts: Counts, refused: _Refused, asked: Asked) -> None:
    if asked.as_json:
        emit(msgspec.to_builtins(counts))
    else:
        told = f"imported {counts.imported} of {counts.rows} rows"
        if counts.recognised:
            told += f"; {counts.recognised} were imported before"
        if counts.left_out:
            told += f"; {counts.left_out} were left out by the filter"
        note(told)
        if counts.recognised and not asked.again:
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
