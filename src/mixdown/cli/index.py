"""`mixdown index …`: indexes on chosen properties, for filters that are asked often.

Asks for, lists and removes them in the data folder; the fold of the running server builds and keeps them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from mixdown.cli.flags import data_dir_flag, group_key_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened
from mixdown.cli.output import Failure, emit, note, print_rows, printable
from mixdown.model.values import clean_text

if TYPE_CHECKING:
    from mixdown.store.protocols import PropertyIndex

_ONLY: Final = 'only a property of profiles can be indexed, written as properties["plan"]'


@click.group()
def index() -> None:
    """Make, list and remove indexes on properties, for filters asked often."""


def property_of(text: str) -> str:
    """The name in `properties["name"]`. Raises `Failure` where the text is anything else."""
    from mixdown.model.errors import ExpressionError
    from mixdown.model.expression import ID_NAMES, PROFILE_ACCESSORS, parse
    from mixdown.model.expression_nodes import Access

    try:
        read = parse(text)
    except ExpressionError as error:
        raise Failure(error.message, hint=_ONLY) from error
    if not isinstance(read.tree, Access) or read.slots[0].accessor not in PROFILE_ACCESSORS:
        raise Failure(_ONLY)
    name = read.slots[0].name
    if name in ID_NAMES:
        raise Failure(f"{name} is the id, which needs no index", hint="Use distinct_id in the query.")
    if '"' in name or "\\" in name or not name.isprintable():
        raise Failure("a property whose name has quotes, backslashes or control characters is not indexed")
    return name


def _view(found: PropertyIndex) -> dict[str, object]:
    return {
        "property": found.name,
        "group_key": found.group_key,
        "profiles": found.profiles,
        "complete": found.complete,
    }


@index.command()
@click.argument("expression", metavar="'properties[\"NAME\"]'")
@project_flag()
@group_key_flag("Groups of this key, instead of users.")
@json_flag
@data_dir_flag
def add(*, expression: str, project_ref: str, group_key: str, as_json: bool, data_dir: str | None) -> None:
    """Ask for an index on a property.

    The running server (or the next one) builds it while it goes on, and every write of such profiles keeps
    it. Filters use it where it is complete: ==, in, <, <=, > and >= against a text or a number, alone or
    joined by `and`. Answers are the same as without it.

    \b
    Examples:
      mixdown index add 'properties["plan"]' --project shop
      mixdown index add 'properties["industry"]' --group-key Company --project shop
    """
    name = property_of(expression)
    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        made = store.state.add_property_index(project.id, clean_text(group_key), name)
    if as_json:
        emit(_view(made))
    else:
        note(f"An index on {printable(name)} is asked for; `mixdown index list` shows how far it is.")


@index.command("list")
@project_flag()
@json_flag
@data_dir_flag
def list_indexes(*, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """List a project's indexes, and how far each is built."""
    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        found = [_view(each) for each in store.state.property_indexes(project.id)]
    if as_json:
        emit(found)
        return
    columns = ("property", "group_key", "profiles", "complete")
    print_rows(columns, [[str(view[column]) for column in columns] for view in found])


@index.command()
@click.argument("expression", metavar="'properties[\"NAME\"]'")
@project_flag()
@group_key_flag("Groups of this key, instead of users.")
@json_flag
@data_dir_flag
def remove(*, expression: str, project_ref: str, group_key: str, as_json: bool, data_dir: str | None) -> None:
    """Remove an index: filters read all profiles again, and writes get cheaper.

    \b
    Example:
      mixdown index remove 'properties["plan"]' --project shop
    """
    name = property_of(expression)
    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        store.state.drop_property_index(project.id, clean_text(group_key), name)
    if as_json:
        emit({"property": name, "group_key": clean_text(group_key), "removed": True})
    else:
        note(f"The index on {printable(name)} is removed.")
