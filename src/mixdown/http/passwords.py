"""Credentials of a request, with limits on guessing them, and passwords that people chose (DESIGN §6).

A header, a view of the catalog and an address enter; a caller leaves, or `AuthError`: 429 for an address that
has failed too often. Credentials that were made are looked at first, so that good ones are never turned away.
A chosen password takes scrypt once and is then known by a keyed hash for five minutes; they are looked at one
by one, so that guesses cannot keep all processors, or the threads of reads. Everything here blocks.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mixdown.http.attempts import Attempts
from mixdown.http.auth import Caller, authenticate, basic_credentials, caller_of
from mixdown.model.errors import AuthError
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.credentials import is_chosen_password
from mixdown.store.protocols import Account

REMEMBERED_S: Final = 300.0
REMEMBERED: Final = 1_000
AT_ONCE: Final = 1
WAITING_LIMIT: Final = 2
WAIT_S: Final = 1.0
PASSWORD_LIMIT_CHARS: Final = 256
TOO_OFTEN: Final = "too many failed attempts from this address: wait a minute"
BUSY: Final = "too many passwords are looked at at once: try again"
_NO_HASH: Final = b""


class Passwords:
    """Chosen passwords, those that were right lately remembered."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._guard = threading.Lock()
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._waiting = 0

    def account(self, view: CatalogView, username: str, password: str, *, now_ms: int) -> Account | None:
        """The account, if it chose this password and has not expired; an unknown name takes as long.

        Raises `AuthError` (429) where too many are looked at at once.
        """
        if not view.has_chosen or not password or len(password) > PASSWORD_LIMIT_CHARS:
            return None
        account = self.remembered(view, username, password, now_ms=now_ms)
        if account is not None:
            return account
        known = view.accounts.get(username)
        stored = _NO_HASH if known is None else known.password_hash
        with self._place():
            is_right = is_chosen_password(stored, password)
        if known is None or not is_right:
            return None
        self._remember(self._mac(stored, password))
        return None if known.is_expired(now_ms) else known

    def remembered(self, view: CatalogView, username: str, password: str, *, now_ms: int) -> Account | None:
        """The same of one whose password was right a short while ago: it costs a hash."""
        known = view.accounts.get(username)
        if known is None or known.is_expired(now_ms):
            return None
        key = self._mac(known.password_hash, password)
        with self._guard:
            until = self._known.get(key, 0.0)
        return known if time.monotonic() < until else None

    def _mac(self, stored: bytes, password: str) -> bytes:
        return hmac.digest(self._key, stored + b"\0" + password.encode("utf-8", "surrogatepass"), "sha256")

    def _remember(self, key: bytes) -> None:
        with self._guard:
            self._known[key] = time.monotonic() + REMEMBERED_S
            self._known.move_to_end(key)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the few places in which a password is looked at. Raises `AuthError` (429): none is free."""
        with self._guard:
            if self._waiting >= WAITING_LIMIT:
                raise AuthError(BUSY, status=429)
            self._waiting += 1
        try:
            is_free = self._places.acquire(timeout=WAIT_S)
        finally:
            with self._guard:
                self._waiting -= 1
        if not is_free:
            raise AuthError(BUSY, status=429)
        try:
            yield
        finally:
            self._places.release()


class Gate:
    """Who calls, by their header; guesses are bounded for each address."""

    def __init__(self, attempts: Attempts, passwords: Passwords) -> None:
        self._attempts = attempts
        self._passwords = passwords

    def caller(self, header: str, view: CatalogView, *, address: str, now_ms: int) -> Caller:
        """The caller that an `Authorization` header names. Raises `AuthError` (401, 429)."""
        try:
            return authenticate(header, view, now_ms=now_ms)
        except AuthError:
            if not header.strip():
                raise  # nothing was tried
            name, _, password = basic_credentials(header).partition(":")
            account = self._passwords.remembered(view, name, password, now_ms=now_ms)
            if account is None:
                account = self._chosen(view, name, password, address=address, now_ms=now_ms)
            if account is None:
                self._attempts.call_failed(address, now_s=now_ms / 1000)
                raise
            return caller_of(account)

    def _chosen(
        self, view: CatalogView, name: str, password: str, *, address: str, now_ms: int
    ) -> Account | None:
        now_s = now_ms / 1000
        if not self._attempts.may_call(address, now_s=now_s):
            raise AuthError(TOO_OFTEN, status=429)
        if not view.has_chosen or not name or not password:
            return None
        if not self._attempts.may_try(address, name, now_s=now_s):
            raise AuthError(TOO_OFTEN, status=429)
        self._attempts.failed(address, name, now_s=now_s)
        try:
            account = self._passwords.account(view, name, password, now_ms=now_ms)
        except BaseException:
            self._attempts.forgive(address, name, now_s=now_s)
            raise
        if account is not None:
            self._attempts.forgive(address, name, now_s=now_s)
        return account
