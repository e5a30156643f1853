"""`mixdown profiles import`: rows of a file, a pipe or a Mixpanel project into the log, each a profile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from mixdown.cli.flags import group_key_flag, ignore_alias_flag, project_flag, settings_from, source_of
from mixdown.cli.folder import find_project
from mixdown.cli.output import note, printable
from mixdown.cli.transfer.asking import authorization
from mixdown.cli.transfer.export_run import names_of
from mixdown.cli.transfer.import_run import (
    LEFT_OUT,
    Choose,
    Input,
    Plan,
    Progress,
    address,
    credentials,
    file_source,
    input_flags,
    run_import,
)
from mixdown.model.operators import LAST_SEEN
from mixdown.model.values import clean_text
from mixdown.query.files.shapes import ProfileReader
from mixdown.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from mixdown.cli.transfer.mixpanel import MixpanelSource
    from mixdown.cli.transfer.reading import Source
    from mixdown.ingest.rows import Import, Judged
    from mixdown.model.updates import Update
    from mixdown.store.chunk import Outcome
    from mixdown.store.protocols import Append, Store

OPERATORS: Final = ("set", "set_once", "merge", "add", "union", "append", "remove")


@click.command("import")
@project_flag()
@group_key_flag("Import groups of this group key.")
@click.option(
    "--where",
    default="",
    metavar="EXPRESSION",
    help="""Only rows that match, such as 'properties["plan"] == "pro"'.""",
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
@input_flags
@click.option("--data-group-id", metavar="N", help="Mixpanel's number for the group key.")
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
    asked = Asked(**{name: flags.pop(name) for name in Asked.__struct_fields__})
    input_ = Input(**flags)
    _check(asked, input_)
    run_import(input_, partial(_plan, asked, input_))


class Asked(msgspec.Struct, frozen=True):
    """The flags that only profiles have."""

    project_ref: str
    group_key: str
    where: str
    properties: str | None
    operator: str
    replace: bool
    ignore_alias: bool
    id_column: str | None
    data_group_id: str | None

    def names(self) -> tuple[str, ...] | None:
        """The properties that are wanted, `$last_seen` always; None for all."""
        names = names_of(self.properties)
        return None if names is None else tuple(dict.fromkeys([*names, LAST_SEEN]))


def _check(asked: Asked, input_: Input) -> None:
    """Wrong usage ends here."""
    from mixdown.model.expression import parse

    input_.check()
    if asked.replace and asked.operator != "set":
        raise click.UsageError("--replace sets whole profiles: it goes with no other operator.")
    if input_.from_mixpanel is None and asked.data_group_id:
        raise click.UsageError("--data-group-id goes with --from-mixpanel.")
    if input_.from_mixpanel is not None and asked.id_column:
        raise click.UsageError("--id-column goes with a FILE.")
    parse(asked.where, lenient=True)  # lookup tables are known once the folder is open


def _plan(asked: Asked, input_: Input, settings: Settings, store: Store, stack: contextlib.ExitStack) -> Plan:
    target = _target(asked, store)
    names = asked.names()
    salt = f"{asked.where!r} {sorted(names or ())} {names is None}"
    if input_.from_mixpanel is not None:
        remote = _mixpanel_source(asked, input_, settings, target)
        return Plan(
            target=_Target(target),
            source=remote,
            progress=Progress(remote=remote),
            choose=_choose(None, names),  # Mixpanel filters by itself
            salt=salt,
        )
    keep = _filter(asked.where, store, target.project)
    source, progress = file_source(input_, ProfileReader(asked.id_column), stack)
    return Plan(
        target=_Target(target),
        source=source,
        progress=progress,
        choose=_choose(keep, names),
        quick=_quick_reader(source, target, asked),
        salt=salt,
    )


class _Target:
    """Where profiles go: `import_run.Target`."""

    def __init__(self, target: Import) -> None:
        self._target = target
        self.key = target.key

    def applied_before(self, store: Store, key: bytes) -> Outcome | None:
        from mixdown.ingest.rows import applied_before

        return applied_before(store, self._target.project, key)

    def judge(self, rows: list[Any], hostile: list[bool], key: bytes, *, keep_refusals: bool) -> Judged:
        from mixdown.ingest.rows import judge

        return judge(rows, hostile, self._target, key, keep_refusals=keep_refusals)

    def append(self, store: Store, appends: Sequence[Append]) -> None:
        from mixdown.ingest.rows import append as append_rows

        append_rows(store, self._target.project, appends)


Keep = Callable[[Any, dict[str, Any]], bool]
"""Whether a row, its id and its properties, is wanted."""


def _choose(keep: Keep | None, names: tuple[str, ...] | None) -> Choose | None:
    if keep is None and names is None:
        return None
    wanted = None if names is None else frozenset(names)

    def choose(row: tuple[Any, Any]) -> Any:
        profile_id, properties = row
        if type(properties) is not dict:
            return row
        if keep is not None and not keep(profile_id, properties):
            return LEFT_OUT
        if wanted is None:
            return row
        return profile_id, {name: value for name, value in properties.items() if name in wanted}

    return choose


def _filter(where: str, store: Store, project: int) -> Keep | None:
    """A function that says whether a row matches. Raises `ExpressionError`."""
    from mixdown.model.expression import parse, row_of
    from mixdown.query.contexts import context_of

    expression = parse(where, store.lookup_tables.tables(project))
    if expression.is_blank:
        return None
    matches = expression.predicate(context_of(store, project, now_ms=time.time_ns() // 1_000_000))
    return lambda profile_id, properties: matches(row_of(expression, properties, str(profile_id)))


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


def _target(asked: Asked, store: Store) -> Import:
    from mixdown.ingest.placing import placing_of
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
        string_limit_bytes=settings_from({}).string_limit_bytes if given else 0,
        ignore_alias=asked.ignore_alias,
        placing=placing_of(store),
        held=project,
    )


def _mixpanel_source(asked: Asked, input_: Input, settings: Settings, target: Import) -> MixpanelSource:
    from mixdown.cli.transfer import mixpanel

    account, secret = credentials()
    url = address(input_, mixpanel.REGIONS)
    question = mixpanel.Question(
        base_url=url,
        project_id=str(input_.from_mixpanel) if account else "",
        group_id=asked.data_group_id or target.group_key,
        where=asked.where,
        properties=asked.names(),
    )
    place = mixpanel.place_file(settings.data_dir, target.project, target.group_key, question)
    return mixpanel.MixpanelSource(
        question, authorization(account, secret), place, tell=lambda text: note(printable(text))
    )
