"""What a start makes sure of in the catalog: a project, an owner, and the presets of the environment.

A catalog and the settings enter; `Access` leaves, which carries a secret only where it was made just now,
so that it can be shown once. What people changed by the command line stays, unless a preset says otherwise.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mixdown.settings import Settings
from mixdown.store.bounds import PRESET_ACCOUNT_FACT
from mixdown.store.credentials import new_password, new_secret, new_token, same, secret_hash
from mixdown.store.protocols import Account, Catalog, Project

PROJECT_NAME: Final = "default"
OWNER_NAME: Final = "owner"
OWNER_ROLE: Final = "owner"
SHORT_SECRET_CHARS: Final = 32


class Access(msgspec.Struct, frozen=True):
    """How to reach the project `default`. `secret` and `password` are "" unless they were made just now.

    `project` is None where people have deleted or renamed it; `user` is "" where no account was made or set.
    """

    project: Project | None
    secret: str = ""
    user: str = ""
    password: str = ""
    new: bool = False


def ensure_access(catalog: Catalog, settings: Settings, *, now_ms: int) -> Access:
    """Make the project `default` and an owner account on a first start, and put presets in force.

    A preset token or secret is that of `default` after every start, a preset account an owner; without
    presets an existing catalog is left as it is. Where people have renamed it, it is the project that has a
    preset already. Raises `CatalogError` (a preset token is taken).
    """
    user, password = settings.account_parts()
    first = not catalog.projects()
    made_password = ""
    if (catalog.fact(PRESET_ACCOUNT_FACT) or b"") != user.encode():
        catalog.set_fact(PRESET_ACCOUNT_FACT, user.encode())
    if user:
        _ensure_owner(catalog, user, password, now_ms)
    elif first:
        # Before the project: if this start dies in between, the next one makes a password anew and shows it.
        user, made_password = OWNER_NAME, new_password()
        _ensure_owner(catalog, user, made_password, now_ms)
    project = _preset_project(catalog, settings)
    made_secret = ""
    if project is None and (first or settings.token or settings.secret):
        made_secret = "" if settings.secret else new_secret()
        project = catalog.create_project(
            PROJECT_NAME,
            token=settings.token or new_token(),
            secret_hash=secret_hash(settings.secret or made_secret),
            id_merge="simplified",
            now_ms=now_ms,
        )
    elif project is not None:
        project = _put_in_force(catalog, project, settings)
    return Access(project=project, secret=made_secret, user=user, password=made_password, new=first)


def short_presets(settings: Settings) -> list[str]:
    """The variables whose preset secrets are short enough to be guessed."""
    _, password = settings.account_parts()
    presets = {
        "MIXDOWN_TOKEN": settings.token,
        "MIXDOWN_SECRET": settings.secret,
        "MIXDOWN_ACCOUNT": password,
    }
    return [name for name, value in presets.items() if value and len(value) < SHORT_SECRET_CHARS]


def _preset_project(catalog: Catalog, settings: Settings) -> Project | None:
    """The project `default`, or what became of it: the one that has the preset token or secret."""
    projects = catalog.projects()
    named = [project for project in projects if project.name == PROJECT_NAME]
    hashed = secret_hash(settings.secret) if settings.secret else b""
    holding = [
        project
        for project in projects
        if (settings.token and project.token == settings.token) or same(hashed, project.secret_hash)
    ]
    return next(iter(named or holding), None)


def _put_in_force(catalog: Catalog, project: Project, settings: Settings) -> Project:
    token = settings.token if settings.token and settings.token != project.token else None
    hashed = secret_hash(settings.secret) if settings.secret else None
    if hashed is not None and same(hashed, project.secret_hash):
        hashed = None
    if token is None and hashed is None:
        return project
    return catalog.change_project(project.id, token=token, secret_hash=hashed)


def _ensure_owner(catalog: Catalog, user: str, password: str, now_ms: int) -> None:
    hashed = secret_hash(password)
    for account in catalog.accounts():
        if account.username != user:
            continue
        if account.role == OWNER_ROLE and same(account.password_hash, hashed):
            return
        catalog.delete_account(user)
    catalog.create_account(Account(user, hashed, 0, OWNER_ROLE, now_ms))
