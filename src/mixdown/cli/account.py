"""`mixdown account …`: service accounts, with which clients read and administer.

A password is printed once, when it is made; the catalog holds its SHA-256 alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from mixdown.cli.flags import data_dir_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened
from mixdown.cli.output import confirm, emit, note, print_fields, print_rows, printable, time_text
from mixdown.model.errors import CatalogError
from mixdown.model.names import PROJECT_ROLES, ROLES, checked_username

if TYPE_CHECKING:
    from mixdown.store.protocols import Account

EVERY_PROJECT: Final = ("0", "none")


def account_view(account: Account, password: str | None = None) -> dict[str, Any]:
    """An account as `--json` prints it (DESIGN §6); the password only when it has just been made.

    An owner of every project has `project_id` 0.
    """
    return {
        "username": account.username,
        "password": password,
        "project_id": account.project_id,
        "role": account.role,
    }


@click.group()
def account() -> None:
    """Make, list and delete service accounts.

    \b
    Roles, each with the rights of those before it, but for ingest:
      consumer  reads
      analyst   also writes cohorts, funnels and the dictionary
      admin     also edits profiles, manages keys and erases
      ingest    may only import
      owner     sees every project, and the records with an unknown token
    """


@account.command()
@click.argument("name")
@project_flag(required=False)
@click.option(
    "--role", type=click.Choice(ROLES), default="consumer", show_default=True, help="What the account may do."
)
@json_flag
@data_dir_flag
def create(*, name: str, project_ref: str | None, role: str, as_json: bool, data_dir: str | None) -> None:
    """Make a service account and print its password, this once.

    Every role but owner needs --project; an owner sees every project, and takes `--project none` or no
    --project at all.

    \b
    Examples:
      mixdown account create airbyte --project shop
      mixdown account create root --role owner
    """
    from mixdown.store.credentials import new_password, secret_hash
    from mixdown.store.protocols import Account

    checked_username(name)
    everywhere = project_ref is None or project_ref in EVERY_PROJECT
    if everywhere and role != "owner":
        raise click.UsageError(
            f"--project is missing: an account with the role {role} belongs to one project."
        )
    password = new_password()
    with opened(data_dir, create=role == "owner") as (_, store):
        made = Account(
            username=name,
            password_hash=secret_hash(password),
            project_id=0 if project_ref is None or everywhere else find_project(store, project_ref).id,
            role=role,
            created_ms=time.time_ns() // 1_000_000,
        )
        store.catalog.create_account(made)
    if as_json:
        emit(account_view(made, password))
        return
    print_fields(
        [
            ("username", name),
            ("password", password),
            ("project_id", made.project_id or "every"),
            ("role", role),
        ]
    )
    note("Keep the password now: it is not stored, and is never shown again.")


@account.command("list")
@project_flag(required=False)
@json_flag
@data_dir_flag
def list_accounts(*, project_ref: str | None, as_json: bool, data_dir: str | None) -> None:
    """List service accounts: all, or those of one project."""
    with opened(data_dir) as (_, store):
        accounts = store.catalog.accounts()
        if project_ref is not None:
            wanted = 0 if project_ref in EVERY_PROJECT else find_project(store, project_ref).id
            accounts = [each for each in accounts if wanted in (each.project_id, *dict(each.grants))]
    if as_json:
        emit([account_view(each) for each in accounts])
        return
    print_rows(
        ("username", "project_id", "role", "created"),
        [
            (each.username, project_id, role, time_text(each.created_ms))
            for each in accounts
            for project_id, role in each.grants or ((each.project_id, each.role),)
        ],
    )


@account.command()
@click.argument("username")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@data_dir_flag
def delete(*, username: str, yes: bool, as_json: bool, data_dir: str | None) -> None:
    """Delete a service account; it is refused at once."""
    with opened(data_dir) as (_, store):
        found = next((each for each in store.catalog.accounts() if each.username == username), None)
        if found is None:
            raise CatalogError(
                f"there is no account {username!r}", hint="`mixdown account list` names all of them."
            )
        confirm(f"Delete the account {printable(username)}?", yes=yes)
        store.catalog.delete_account(username)
    if as_json:
        emit(account_view(found))
    else:
        note(f"deleted the account {printable(username)}")


@account.command("rotate-password")
@click.argument("username")
@json_flag
@data_dir_flag
def rotate_password(*, username: str, as_json: bool, data_dir: str | None) -> None:
    """Give an account a new password, printed this once; the old one stops at once."""
    from mixdown.store.credentials import new_password, secret_hash

    password = new_password()
    with opened(data_dir) as (_, store):
        changed = store.catalog.change_password(username, secret_hash(password))
    if as_json:
        emit(account_view(changed, password))
        return
    print_fields([("username", username), ("password", password)])
    note("Keep the password now: it is not stored, and is never shown again.")


@account.command()
@click.argument("username")
@project_flag(required=True)
@click.option(
    "--role", type=click.Choice(PROJECT_ROLES), required=True, help="What the account may do there."
)
@json_flag
@data_dir_flag
def grant(*, username: str, project_ref: str, role: str, as_json: bool, data_dir: str | None) -> None:
    """Let an account into one more project, or change its role in one.

    \b
    Examples:
      mixdown account grant airbyte --project blog --role consumer
    """
    with opened(data_dir) as (_, store):
        changed = store.catalog.grant_account(username, find_project(store, project_ref).id, role)
    _show_grants(changed, as_json=as_json)


@account.command()
@click.argument("username")
@project_flag(required=True)
@json_flag
@data_dir_flag
def revoke(*, username: str, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Take an account out of a project; at once."""
    with opened(data_dir) as (_, store):
        changed = store.catalog.revoke_account(username, find_project(store, project_ref).id)
    _show_grants(changed, as_json=as_json)


def _show_grants(account: Account, *, as_json: bool) -> None:
    if as_json:
        emit(
            [
                {**account_view(account), "project_id": project, "role": role}
                for project, role in account.grants
            ]
        )
    else:
        print_rows(("project_id", "role"), account.grants)
