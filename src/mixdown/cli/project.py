"""`mixdown project …`: projects, their tokens and secrets.

A secret is printed once, when it is made; the catalog holds its SHA-256 alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from mixdown.cli.flags import data_dir_flag, json_flag
from mixdown.cli.folder import find_project, opened, settle
from mixdown.cli.output import Failure, confirm, emit, note, print_fields, print_rows, printable, time_text
from mixdown.model.names import ID_MERGE, checked_credential, checked_project_name
from mixdown.store.zones import DEFAULT, checked_timezone

if TYPE_CHECKING:
    from mixdown.store.protocols import Catalog, Project, Store

SHORT_SECRET_CHARS: Final = 32
TIMEZONE: Final = "The zone of its days, and of times without an offset: an IANA name, such as Europe/Berlin."
LIMITS: Final = "rate_limit_"
DEFAULT_LIMIT: Final = -1


def project_view(project: Project, secret: str | None = None) -> dict[str, Any]:
    """A project as `--json` prints it (DESIGN §6); the secret only when it has just been made."""
    return {"id": project.id, "name": project.name, "token": project.token, "secret": secret}


def _show_new(project: Project, *, secret: str | None, as_json: bool) -> None:
    if as_json:
        emit(project_view(project, secret))
        return
    fields = [("id", project.id), ("name", project.name), ("token", project.token)]
    if secret is not None:
        fields.append(("secret", secret))
    print_fields(fields)
    if secret is not None:
        note("Keep the secret now: it is not stored, and is never shown again.")


@click.group()
def project() -> None:
    """Make, list, change and delete projects.

    A project has a token, with which SDKs write, and a secret, with which clients read. P below is a
    project's id or name.
    """


@project.command()
@click.argument("name")
@click.option("--token", metavar="T", help="Use this token instead of a new one.")
@click.option("--secret", metavar="S", help="Use this secret instead of a new one.")
@click.option(
    "--id-merge",
    type=click.Choice(ID_MERGE),
    default="simplified",
    show_default=True,
    help="How the project's identities merge.",
)
@click.option("--timezone", metavar="ZONE", default=DEFAULT, show_default=True, help=TIMEZONE)
@json_flag
@data_dir_flag
def create(
    *,
    name: str,
    token: str | None,
    secret: str | None,
    id_merge: str,
    timezone: str,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Make a project and print its token and its secret, this once.

    \b
    Examples:
      mixdown project create shop
      mixdown project create shop --json | jq -r .token
    """
    from mixdown.store.credentials import new_secret, new_token, secret_hash

    checked_project_name(name)
    checked_timezone(timezone)
    if token is not None:
        checked_credential("token", token)
    if secret is not None and len(checked_credential("secret", secret)) < SHORT_SECRET_CHARS:
        note(f"warning: a secret shorter than {SHORT_SECRET_CHARS} characters can be guessed")
    made_secret = secret or new_secret()
    with opened(data_dir, create=True) as (_, store):
        made = store.catalog.create_project(
            name,
            token=token or new_token(),
            secret_hash=secret_hash(made_secret),
            id_merge=id_merge,
            timezone=timezone,
            now_ms=time.time_ns() // 1_000_000,
        )
    _show_new(made, secret=made_secret, as_json=as_json)


@project.command("list")
@json_flag
@data_dir_flag
def list_projects(*, as_json: bool, data_dir: str | None) -> None:
    """List all projects."""
    with opened(data_dir) as (_, store):
        projects = store.catalog.projects()
    if as_json:
        emit([project_view(project) for project in projects])
        return
    print_rows(
        ("id", "name", "token", "id_merge", "timezone", "created"),
        [
            (each.id, each.name, each.token, each.id_merge, each.timezone, time_text(each.created_ms))
            for each in projects
        ],
    )


@project.command()
@click.argument("project_ref", metavar="P")
@json_flag
@data_dir_flag
def show(*, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Show a project, its service accounts, and how much it holds."""
    with opened(data_dir) as (_, store):
        found = find_project(store, project_ref)
        if as_json:
            emit(project_view(found))
            return
        accounts = [
            account.username for account in store.catalog.accounts() if found.id in dict(account.grants)
        ]
        groups = sorted(store.state.group_keys(found.id))
        held = [("users", store.state.count(found.id, ""))]
        held += [(f"groups of {key}", store.state.count(found.id, key)) for key in groups]
        refused, _ = store.refusals.counts().get(found.id, (0, 0))
        limits = [
            (name, getattr(found, name)) for name in msgspec.structs.asdict(found) if name.startswith(LIMITS)
        ]
    print_fields(
        [
            ("id", found.id),
            ("name", found.name),
            ("token", found.token),
            ("id_merge", found.id_merge),
            ("late_events", "accepted" if found.late_events else "refused after five days"),
            ("timezone", found.timezone),
            ("ci_strings", "on" if found.ci_strings else "off"),
            ("large", "yes, spread over all partitions" if found.large else "no"),
            ("created", time_text(found.created_ms)),
            ("accounts", ", ".join(accounts) or "none of its own"),
            *held,
            ("refusals", refused),
            *((name, limit) for name, limit in limits if limit is not None),
        ]
    )


def _limit(context: click.Context, option: click.Parameter, given: str | None) -> int | None:
    """A rate limit as it was given: a whole number, or `default` for the server's setting."""
    del context, option
    if given == "default":
        return DEFAULT_LIMIT
    if given is None:
        return None
    if given.isdecimal() and len(given) < 10:
        return int(given)
    raise click.BadParameter(f"{given!r} is neither a whole number below a billion nor `default`.")


@project.command("set")
@click.argument("project_ref", metavar="P")
@click.option("--name", metavar="NAME", help="A new name.")
@click.option("--id-merge", type=click.Choice(ID_MERGE), help="How the project's identities merge.")
@click.option(
    "--late-events",
    type=click.Choice(("accept", "refuse")),
    help="Whether /track takes events of more than five days ago.",
)
@click.option("--timezone", metavar="ZONE", help=TIMEZONE)
@click.option(
    "--ci-strings",
    type=click.Choice(("on", "off")),
    help="Whether expressions compare texts whatever their case.",
)
@click.option(
    "--rate-limit-records-per-s", metavar="N", callback=_limit, help="Records a second that may be sent."
)
@click.option(
    "--rate-limit-requests-per-s", metavar="N", callback=_limit, help="Requests of writes a second."
)
@click.option("--rate-limit-queries-per-hour", metavar="N", callback=_limit, help="Queries an hour.")
@json_flag
@data_dir_flag
def set_project(
    *,
    project_ref: str,
    name: str | None,
    id_merge: str | None,
    late_events: str | None,
    timezone: str | None,
    ci_strings: str | None,
    as_json: bool,
    data_dir: str | None,
    **limits: int | None,
) -> None:
    """Change a project's name, how it takes and reads data, or its rate limits.

    A limit is a whole number, 0 for none, or `default` for what the server's setting of that name says.
    --timezone and --ci-strings change what reads make of what is stored, old or new; nothing is rewritten.

    \b
    Examples:
      mixdown project set shop --rate-limit-records-per-s 1000
      mixdown project set shop --rate-limit-records-per-s default
      mixdown project set shop --timezone America/New_York
    """
    limits = {option: limit for option, limit in limits.items() if limit is not None}
    given: dict[str, Any] = {
        "name": name,
        "id_merge": id_merge,
        "late_events": None if late_events is None else late_events == "accept",
        "timezone": timezone,
        "ci_strings": None if ci_strings is None else ci_strings == "on",
    }
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes and not limits:
        raise click.UsageError(
            "Nothing to set: give --name, --id-merge, --late-events, --timezone, --ci-strings, or a limit."
        )
    if name is not None:
        checked_project_name(name)
    if timezone is not None:
        checked_timezone(timezone)
    with opened(data_dir) as (_, store):
        changed = find_project(store, project_ref)
        if changes:
            changed = store.catalog.change_project(changed.id, **changes)
        if limits:
            changed = _limited(store.catalog, changed, limits)
    _show_new(changed, secret=None, as_json=as_json)


@project.command("set-large")
@click.argument("project_ref", metavar="P")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@data_dir_flag
def set_large(*, project_ref: str, yes: bool, as_json: bool, data_dir: str | None) -> None:
    """Mark a new project as large, for good.

    For a project that one process cannot fold: its records are spread over all partitions of the store. It
    must be empty, and its identity simplified; its updates then address the very id that they name, linked
    to others or not.
    """
    with opened(data_dir) as (settings, store):
        found = find_project(store, project_ref)
        settle(settings, store)
        if store.partition_count == 1:
            raise Failure(
                "this store has one partition, and a large project is spread over several",
                hint="One process folds all that a data folder takes; on PostgreSQL there are partitions.",
            )
        if not found.large and _holds_anything(store, found):
            raise Failure(
                f"project {found.id}, {printable(found.name)}, has records, and a large project begins empty",
                hint="Make a new project, mark it as large before anything is sent, and import into it.",
            )
        if not found.large:
            confirm(f"Mark project {found.id}, {printable(found.name)}, as large, for good?", yes=yes)
        changed = store.catalog.enlarge_project(found.id)
    if as_json:
        emit(project_view(changed))
    else:
        note(f"project {changed.id}, {printable(changed.name)}, is large now")


def _holds_anything(store: Store, project: Project) -> bool:
    """Whether profiles or events of a project are stored, or links between its ids."""
    state, events = store.state, store.events.size(project.id)
    return bool(
        state.count(project.id, "")
        or state.group_keys(project.id)
        or project.id in state.linked_projects()
        or events.hot_events
        or events.file_events
    )


def _limited(catalog: Catalog, project: Project, limits: Mapping[str, int | None]) -> Project:
    """Change the rate limits that are given, by the names of their options, and keep the others."""

    def chosen(own: str) -> int | None:
        limit = limits.get(own, getattr(project, own))
        return None if limit == DEFAULT_LIMIT else limit

    return catalog.limit_project(
        project.id,
        records_per_s=chosen("rate_limit_records_per_s"),
        requests_per_s=chosen("rate_limit_requests_per_s"),
        queries_per_hour=chosen("rate_limit_queries_per_hour"),
    )


@project.command()
@click.argument("project_ref", metavar="P")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@data_dir_flag
def delete(*, project_ref: str, yes: bool, as_json: bool, data_dir: str | None) -> None:
    """Delete a project and its service accounts.

    Its token is refused from then on, and its id is never used again.
    """
    with opened(data_dir) as (_, store):
        found = find_project(store, project_ref)
        confirm(f"Delete project {found.id}, {printable(found.name)}, and its service accounts?", yes=yes)
        store.catalog.delete_project(found.id)
    if as_json:
        emit(project_view(found))
    else:
        note(f"deleted project {found.id}, {printable(found.name)}")


@project.command("rotate-token")
@click.argument("project_ref", metavar="P")
@json_flag
@data_dir_flag
def rotate_token(*, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Give a project a new token; the old one stops at once."""
    from mixdown.store.credentials import new_token

    with opened(data_dir) as (_, store):
        changed = store.catalog.change_project(find_project(store, project_ref).id, token=new_token())
    _show_new(changed, secret=None, as_json=as_json)


@project.command("rotate-secret")
@click.argument("project_ref", metavar="P")
@json_flag
@data_dir_flag
def rotate_secret(*, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Give a project a new secret and print it, this once; the old one stops at once."""
    from mixdown.store.credentials import new_secret, secret_hash

    made = new_secret()
    with opened(data_dir) as (_, store):
        changed = store.catalog.change_project(
            find_project(store, project_ref).id, secret_hash=secret_hash(made)
        )
    _show_new(changed, secret=made, as_json=as_json)
