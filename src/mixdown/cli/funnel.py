"""`mixdown funnel …`: steps that people go through, saved to be asked again.

Makes, lists, shows and deletes saved funnels; `mixdown report run` counts them.
"""

from __future__ import annotations

import time
from typing import Any

import click

from mixdown.cli.flags import data_dir_flag, group_key_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened
from mixdown.cli.questions import steps_of
from mixdown.cli.saved import FUNNELS, delete_found, print_found, print_list, print_one


@click.group()
def funnel() -> None:
    """Make, list, show and delete funnels: steps that people go through."""


@funnel.command()
@click.argument("name")
@project_flag()
@click.option(
    "--step", "steps", multiple=True, required=True, metavar="EVENT", help="A step; name each in turn."
)
@click.option(
    "--where",
    "wheres",
    multiple=True,
    metavar="N=EXPRESSION",
    help="What events of step N (from 1) must match.",
)
@click.option("--length", type=click.IntRange(1), help="How long one may take from the first step. [14]")
@click.option("--length-unit", type=click.Choice(["day", "hour", "minute", "second"]), help="Of what. [day]")
@click.option("--order", type=click.Choice(["loose", "any"]), help="Steps in turn, or in any order. [loose]")
@group_key_flag("Count groups of this key, instead of users.")
@click.option("--description", default="", help="A note for people.")
@json_flag
@data_dir_flag
def create(  # noqa: PLR0913 - each is a flag
    *,
    name: str,
    project_ref: str,
    steps: tuple[str, ...],
    wheres: tuple[str, ...],
    length: int | None,
    length_unit: str | None,
    order: str | None,
    group_key: str,
    description: str,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Save a funnel, and print it; `mixdown report run` counts it.

    \b
    Examples:
      mixdown funnel create signup --project shop --step "Visit" --step "Sign Up"
      mixdown funnel create pay --project shop --step Cart --step Pay \\
        --where '2=properties["amount"] > 100' --length 1 --length-unit hour
    """
    from mixdown.query.reports.saved import checked_funnel, new_report

    definition: dict[str, Any] = {"steps": steps_of(steps, wheres, "--where")}
    given = {"length": length, "length_unit": length_unit, "order": order, "data_group_id": group_key or None}
    definition.update((key, value) for key, value in given.items() if value is not None)
    now_ms = time.time_ns() // 1_000_000
    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        checked_funnel(definition, store.lookup_tables.tables(project.id))
        wanted = new_report(
            store, project.id, FUNNELS, name, definition, description=description, now_ms=now_ms
        )
        saved = store.reports.create(wanted)
    print_one(saved, as_json=as_json)


@funnel.command("list")
@project_flag()
@json_flag
@data_dir_flag
def list_funnels(*, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """List a project's funnels."""
    print_list(project_ref, FUNNELS, as_json=as_json, data_dir=data_dir)


@funnel.command()
@click.argument("ref", metavar="FUNNEL")
@project_flag()
@json_flag
@data_dir_flag
def show(*, ref: str, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Show a funnel, by its id or its name."""
    print_found(ref, project_ref, FUNNELS, as_json=as_json, data_dir=data_dir)


@funnel.command()
@click.argument("ref", metavar="FUNNEL")
@project_flag()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@data_dir_flag
def delete(*, ref: str, project_ref: str, yes: bool, as_json: bool, data_dir: str | None) -> None:
    """Delete a funnel, by its id or its name; no event changes."""
    delete_found(ref, project_ref, FUNNELS, yes=yes, as_json=as_json, data_dir=data_dir)
