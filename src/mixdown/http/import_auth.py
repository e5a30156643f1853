"""Who may /import, and into which project (contract ingestion §7.5, DESIGN §6).

The `Authorization` header, parameters and a view of the catalog enter; a project leaves, or `AuthError`:
a 401 always, in Mixpanel's words. It must never tell by text or timing whether an account exists.
"""

from __future__ import annotations

from typing import Final

from mixdown.http.auth import ADMIN, INGEST, OWNER, Caller, account_of, basic_credentials
from mixdown.http.forms import Params
from mixdown.model import texts
from mixdown.model.errors import AuthError
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.protocols import Project

IMPORTERS: Final = frozenset({INGEST, ADMIN, OWNER})


def import_project(
    header: str, params: Params, view: CatalogView, *, now_ms: int, inside: Caller | None = None
) -> Project:
    """The project that an /import goes into; `inside` asks in process. Raises `AuthError` (401).

    Basic takes a service account with `project_id`, the project's secret or its token; `Bearer` an account's
    password with `project_id`; without a header, `api_key` takes the project's secret.
    """
    if inside is not None:
        return _of_account(inside, params, view)
    if not header.strip():
        project = view.project_of_secret(params.api_key) if params.api_key else None
        if project is None:
            raise _unauthorized(texts.NO_CREDENTIALS)
        return _matching(project, params)
    caller = account_of(header, view, now_ms=now_ms)
    if caller is not None:
        return _of_account(caller, params, view)
    name, colon, password = basic_credentials(header).partition(":")
    project = view.project_of_secret(f"{name}{colon}{password}".removesuffix(":"))
    if project is None and not password and name in view.tokens:
        project = view.projects.get(view.tokens[name])
    if project is not None:
        return _matching(project, params)
    if not name:
        raise _unauthorized(texts.NO_CREDENTIALS)
    raise _unauthorized(texts.ACCOUNT_INVALID if password else texts.SECRET_INVALID)


def _of_account(caller: Caller, params: Params, view: CatalogView) -> Project:
    if not params.project_id:
        raise _unauthorized(texts.PROJECT_ID_MISSING)
    wanted = params.project_id
    project = view.projects.get(int(wanted)) if wanted.isdecimal() and len(wanted) < 17 else None
    role = caller.role_in(project.id) if project is not None else ""
    if project is None or not role:
        raise _unauthorized(texts.ACCOUNT_OUTSIDE)
    if role not in IMPORTERS:
        raise _unauthorized(texts.ACCOUNT_MAY_NOT.format(role=role))
    return project


def _matching(project: Project, params: Params) -> Project:
    if params.project_id and params.project_id != str(project.id):
        raise _unauthorized(texts.PROJECT_MISMATCH)
    return project


def _unauthorized(message: str) -> AuthError:
    return AuthError(message, status=401)
