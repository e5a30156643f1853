"""`mixdown db …`: the tables of a PostgreSQL store, made, brought up to date, filled, spread over a cluster.

Takes the URL of a database. Everything else about the store goes through the commands that a data folder has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from mixdown.cli.db_copy import copy
from mixdown.cli.flags import json_flag
from mixdown.cli.output import Failure, emit, note
from mixdown.settings import Settings

if TYPE_CHECKING:
    from mixdown.store.postgres.connection import Database

F = TypeVar("F", bound=Callable[..., Any])
_URL_FILE: Final = "mixdown.cli.db.database_url_file"
_EXAMPLE: Final = "postgresql://mixdown@db.example.com/mixdown"


def _database_flags(command: F) -> F:
    """Give a command the flags that name a database; a variable names each too."""
    for flag, variable, metavar, about in (
        ("--database-password-file", "MIXDOWN_DATABASE_PASSWORD_FILE", "FILE", "A file with its password."),
        ("--database-url-file", "MIXDOWN_DATABASE_URL_FILE", "FILE", "A file with the URL."),
        ("--database-url", "MIXDOWN_DATABASE_URL", "URL", "The database."),
    ):
        keep = _keep_url_file if flag == "--database-url-file" else None
        command = click.option(
            flag,
            envvar=variable,
            default="",
            metavar=metavar,
            help=f"{about} [{variable}]",
            expose_value=keep is None,
            callback=keep,
        )(command)
    return command


def _keep_url_file(context: click.Context, option: click.Parameter, path: str) -> None:
    """Where the URL is, until it is asked for: what is in the file is for nobody's list of arguments."""
    del option
    context.meta[_URL_FILE] = path


@contextmanager
def _opened(database_url: str, password_file: str) -> Iterator[Database]:
    from mixdown.store.postgres.connection import Database

    path = click.get_current_context().meta.get(_URL_FILE)
    if not database_url and path:
        from mixdown.store.opening import database_url as read_url

        database_url = read_url(Settings(database_url_file=path))
    if not database_url:
        raise Failure("no database is named", hint=f"Name it: --database-url {_EXAMPLE}")
    database = Database(database_url, pool_size=1, application="mixdown db", password_file=password_file)
    try:
        yield database
    finally:
        database.close()


@click.group()
def db() -> None:
    """Make, update, fill and spread the tables of a PostgreSQL store."""


db.add_command(copy)


@db.command()
@_database_flags
@click.option(
    "--partitions",
    type=click.IntRange(1, 512),
    default=32,
    show_default=True,
    metavar="N",
    help="How many partitions a store that is made now has; it never changes afterwards.",
)
@json_flag
def migrate(*, database_url: str, database_password_file: str, partitions: int, as_json: bool) -> None:
    """Make the tables in a database, or bring them up to date.

    A server does so itself when it starts. Several may at once: one works, the others wait. A step is done
    whole or not at all, so the command can be given again after whatever ended it. With --json:
    {"taken": [NAME, …], "partitions": N}.

    \b
    Examples:
      mixdown db migrate --database-url postgresql://mixdown@db.example.com/mixdown
      mixdown db migrate --partitions 256
    """
    from mixdown.store.postgres.migrating import migrate as take

    with _opened(database_url, database_password_file) as database:
        taken = [step.name for step in take(database, partitions=partitions)]
        count = database.value("SELECT partitions FROM mixdown.layout")
        if as_json:
            emit({"taken": taken, "partitions": count})
            return
        for name in taken:
            click.echo(name)
        done = f"{len(taken)} taken" if taken else "nothing to do"
        note(f"{database.what}: {done}; {count} partitions")


@db.command()
@_database_flags
@click.option(
    "--shards",
    type=click.IntRange(1, 512),
    default=None,
    metavar="N",
    help="Into how many parts each table is cut; as many as partitions where it is not given.",
)
@json_flag
def distribute(*, database_url: str, database_password_file: str, shards: int | None, as_json: bool) -> None:
    """Spread the tables of partitions over the nodes of a Citus cluster.

    The database is that of the cluster's coordinator, migrated. Rows that are there move along, so let no
    server run meanwhile. Each node gets as many partitions as the others. Given again, after an update say,
    it spreads what is new. With --json: {"distributed": [TABLE, …], "nodes": {"HOST:PORT": PARTITIONS, …}}.

    \b
    Examples:
      mixdown db distribute --database-url postgresql://mixdown@coordinator.example.com/mixdown
    """
    from mixdown.store.postgres.distributing import distribute as spread
    from mixdown.store.postgres.distributing import partitions_on_nodes

    with _opened(database_url, database_password_file) as database:
        taken = spread(database, shards=shards, warn=note)
        nodes = partitions_on_nodes(database)
        if as_json:
            emit({"distributed": taken, "nodes": nodes})
            return
        for table in taken:
            click.echo(table)
        for name, partitions in nodes.items():
            note(f"{name}: {partitions} partitions")
        note(f"{database.what}: {len(taken)} tables distributed" if taken else "nothing to do")
