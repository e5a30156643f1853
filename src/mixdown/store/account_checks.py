"""What may be changed of a service account's projects: the same for every store.

Accounts enter; changed accounts leave, or `CatalogError`. Nothing is stored here.
"""

from __future__ import annotations

from mixdown.model.errors import CatalogError
from mixdown.store.accounts import OWNER_ROLE, Account


def no_account(username: str) -> CatalogError:
    """There is no account of that name."""
    return CatalogError(f"there is no account {username!r}", hint="`mixdown account list` shows all.")


def granted(account: Account, project_id: int, role: str) -> Account:
    """The account with a role in a project. Raises `CatalogError` for an owner, and for the role of one."""
    if account.is_owner:
        raise CatalogError(f"{account.username!r} is an owner and sees every project")
    return checked(account.granted(project_id, role))


def checked(account: Account) -> Account:
    """The account, if it is an owner everywhere or nowhere. Raises `CatalogError`."""
    if any(role == OWNER_ROLE for _, role in account.others) or (account.is_owner and account.others):
        raise CatalogError("an owner sees every project", hint="an owner is made as one, not for a project")
    return account


def revoked(account: Account, project_id: int) -> Account:
    """The account without a project. Raises `CatalogError` when it is not in it."""
    if account.is_owner:
        raise CatalogError(f"{account.username!r} is an owner and sees every project")
    if project_id not in dict(account.grants):
        raise CatalogError(f"the account {account.username!r} is not in project {project_id}")
    return account.revoked(project_id)
