"""Names and credentials that people choose: what may be one. Pure.

A text enters and leaves unchanged, or `CatalogError` says why it cannot be one.
"""

from __future__ import annotations

from typing import Final

from mixdown.model.errors import CatalogError

ROLES: Final = ("consumer", "analyst", "admin", "ingest", "owner")
PROJECT_ROLES: Final = ROLES[:-1]
"""What an account can be in one project; an owner is one in all of them."""
ID_MERGE: Final = ("simplified", "original", "legacy")
TEXT_LIMIT_CHARS: Final = 255
_FORBIDDEN_IN_USERNAMES: Final = frozenset(" :")


def checked_project_name(name: str) -> str:
    """A project's name. Raises `CatalogError` where it could be taken for an id, or not be typed."""
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > TEXT_LIMIT_CHARS:
        raise CatalogError(
            f"{name!r} cannot be a project's name",
            hint=f"A name has 1 to {TEXT_LIMIT_CHARS} characters, all visible, and no blanks around it.",
        )
    if name.isdigit():
        raise CatalogError(
            f"{name!r} cannot be a project's name", hint="Digits alone would be taken for an id."
        )
    return name


def checked_credential(kind: str, value: str) -> str:
    """A preset token or secret. Raises `CatalogError` where it could not travel in a header or a URL."""
    plain = value.isascii() and value.isprintable() and " " not in value
    if not value or not plain or len(value) > TEXT_LIMIT_CHARS:
        raise CatalogError(
            f"this cannot be a {kind}",
            hint=f"A {kind} has 1 to {TEXT_LIMIT_CHARS} ASCII characters without blanks.",
        )
    return value


def checked_username(name: str) -> str:
    """A user name that HTTP Basic can carry. Raises `CatalogError`."""
    printable = name.isprintable() and not _FORBIDDEN_IN_USERNAMES & set(name)
    if not name or not printable or len(name) > TEXT_LIMIT_CHARS:
        raise CatalogError(
            f"{name!r} cannot be a user name",
            hint=f"A user name has 1 to {TEXT_LIMIT_CHARS} characters, without blanks and colons.",
        )
    return name
