"""Credentials: making tokens, secrets and passwords, and the form in which they are kept.

Secrets and passwords leave this room once, when they are made; what is stored is their SHA-256. That
is enough because they carry 256 random bits: there is nothing to guess, so nothing to slow down.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256


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
