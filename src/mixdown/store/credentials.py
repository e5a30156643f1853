"""Credentials: making tokens, secrets and passwords, and the form in which they are kept.

Secrets and passwords leave this room once, when they are made; what is stored is their SHA-256. That
is enough because they carry 256 random bits: there is nothing to guess, so nothing to slow down. Of a
password that somebody chose, scrypt is stored instead.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import scrypt, sha256
from typing import Final


def new_token() -> str:
    """A project token: 32 hexadecimal digits, as Mixpanel's."""
    return secrets.token_hex(16)


def new_secret() -> str:
    """A project secret: 64 hexadecimal digits (256 random bits)."""
    return secrets.token_hex(32)


def new_password() -> str:
    """A service account's password: 64 hexadecimal digits (256 random bits)."""
    return secrets.token_hex(32)


def secret_hash(text: str) -> bytes:
    """The form in which a secret or password is stored: its SHA-256, 32 bytes."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def same(one: bytes, other: bytes) -> bool:
    """Whether two hashes are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


# --- passwords that people choose: there is something to guess, so guessing is made slow

_MARK: Final = b"scrypt-15-8-1:"
_SALT_BYTES: Final = 16
_SCRYPT: Final = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024, "dklen": 32}


def chosen_hash(password: str) -> bytes:
    """The form in which a password that somebody chose is stored: scrypt, with a salt of its own."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return _MARK + salt + _stretched(password, salt)


def is_chosen(stored: bytes) -> bool:
    """Whether what is stored is of a password that somebody chose."""
    return stored.startswith(_MARK) and len(stored) == len(_MARK) + _SALT_BYTES + 32


def is_chosen_password(stored: bytes, password: str) -> bool:
    """Whether this is the password that was chosen: a tenth of a second of work, whatever is stored."""
    salt = stored[len(_MARK) : len(_MARK) + _SALT_BYTES] if is_chosen(stored) else bytes(_SALT_BYTES)
    return same(_MARK + salt + _stretched(password, salt), stored)


def _stretched(password: str, salt: bytes) -> bytes:
    return scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, **_SCRYPT)
