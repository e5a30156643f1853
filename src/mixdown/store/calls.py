"""Calls not answered yet, shared by the workers of a server (DESIGN G2, the browser's resend rule).

Enters: the digest of a request that a browser may send again by itself. Leaves: a `Call`, whose key tells
the fold which requests are one call. The table decides only whether a request is a new call or an old one
again; whether the old one was stored, the fold finds by the key, in its own transaction. So a table that is
lost or full costs recognition, never a record.

The file outlives its workers. A worker holds a lock on a byte of its own for its whole life: a call whose
worker has lost that lock was never answered, as far as anybody knows. Each change is one small write, so
that a kill at any moment leaves the table as it was or as it should be.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Final

import msgspec

from mixdown.store.bounds import CALL_KEY_BYTES

FILE_NAME: Final = "calls"
RESEND_WINDOW_MS: Final = 60_000
"""So long after a call was taken may it come again."""
DIGEST_BYTES: Final = 16
ENTRIES_PER_BUCKET: Final = 16
BUCKETS: Final = 4096

_MAGIC: Final = b"calls 01"
_SECRET: Final = (len(_MAGIC), 16)  # where the key of the digests stands, and its length
_SLOTS_AT: Final = 64
_SLOTS: Final = 255
_BUCKETS_AT: Final = 4096
_ENTRY: Final = Struct(f"<{DIGEST_BYTES}s{CALL_KEY_BYTES}s4xqQ")
_WORD: Final = Struct("<Q")
_WORD_AT: Final = _ENTRY.size - _WORD.size
_BUCKET_BYTES: Final = ENTRIES_PER_BUCKET * _ENTRY.size
# Locks are on bytes of the file that hold no data: they need not exist.
_TABLE_LOCK: Final = 1 << 40
_LIFE_LOCKS: Final = _TABLE_LOCK + 1

_FREE: Final = 0
_CUT: Final = 1
"""An entry's last word: free, unanswered for ever, or the mark of the worker that is answering."""


class Verdict(enum.Enum):
    """What else than a call a claim may come to."""

    WAIT = enum.auto()
    """The same request is being answered: whether this one is a new call shows when that is done."""
    UNTRACKED = enum.auto()
    """No room in the table: the request is a call of its own, and will not be recognised."""


class Call(msgspec.Struct, frozen=True):
    """A request taken in hand. `key` is the same for all requests of one call; `again`: not the first."""

    digest: bytes
    key: bytes
    again: bool
    place: int


class CallTable:
    """The table as one worker holds it. All methods take microseconds; one thread at a time may call them.

    `folder` None: a table of this worker's own, in a file without a name.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            with tempfile.TemporaryFile() as unnamed:
                self._fd = os.dup(unnamed.fileno())
        else:
            self._fd = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with self._locked():
            self._prepare()
            self._mark = self._take_slot()

    def close(self) -> None:
        """Give up the slot: what is still unanswered counts as cut."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def digest(self, *parts: bytes) -> bytes:
        """What a request is recognised by: a keyed hash, so that nobody can fill a bucket on purpose."""
        state = blake2b(digest_size=DIGEST_BYTES, key=self._secret)
        for part in parts:
            state.update(_WORD.pack(len(part)))
            state.update(part)
        return state.digest()

    def claim(self, digest: bytes, now_ms: int) -> Call | Verdict:
        """Take a request in hand: a new call, or one that came before and was never answered.

        `now_ms` is when the request came. The same request, in hand already, is waited for.
        """
        if not self._mark:
            return Verdict.UNTRACKED
        try:
            with self._locked():
                return self._claim(digest, now_ms)
        except OSError:  # a full disk: whether records can still be stored is not decided here
            return Verdict.UNTRACKED

    def settle(self, call: Call, *, answered: bool) -> None:
        """The request is done: its reply was written to a connection that lived, or was not."""
        with contextlib.suppress(OSError), self._locked():
            at = call.place + _WORD_AT
            # a place that was given away in between is left alone
            held = os.pread(self._fd, _ENTRY.size, call.place)
            if held[: DIGEST_BYTES + CALL_KEY_BYTES] == call.digest + call.key and held[
                _WORD_AT:
            ] == _WORD.pack(self._mark):
                os.pwrite(self._fd, _WORD.pack(_FREE if answered else _CUT), at)

    def _claim(self, digest: bytes, now_ms: int) -> Call | Verdict:
        start = _BUCKETS_AT + int.from_bytes(digest[:4], "little") % BUCKETS * _BUCKET_BYTES
        bucket = os.pread(self._fd, _BUCKET_BYTES, start).ljust(_BUCKET_BYTES, b"\0")
        place = -1
        oldest_cut = (1 << 63, -1)
        entries = _ENTRY.iter_unpack(bucket)
        for at, (held, key, time_ms, word) in zip(
            range(start, start + _BUCKET_BYTES, _ENTRY.size), entries, strict=True
        ):
            if word == _FREE:
                place = at
                continue
            answering = word != _CUT and self._lives(word)
            if not answering and now_ms - time_ms > RESEND_WINDOW_MS:
                place = at
            elif held == digest:
                if answering:
                    return Verdict.WAIT
                os.pwrite(self._fd, _WORD.pack(self._mark), at + _WORD_AT)
                return Call(digest, key, again=True, place=at)
            elif not answering:
                oldest_cut = min(oldest_cut, (time_ms, at))
        if place < 0:
            place = oldest_cut[1]
        if place < 0:
            return Verdict.UNTRACKED
        key = secrets.token_bytes(CALL_KEY_BYTES)
        os.pwrite(self._fd, _ENTRY.pack(digest, key, now_ms, self._mark), place)
        return Call(digest, key, again=False, place=place)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, _TABLE_LOCK)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _TABLE_LOCK)

    def _prepare(self) -> None:
        """Begin a file that is empty, or is none of ours, afresh."""
        head = os.pread(self._fd, _SLOTS_AT, 0)
        offset, length = _SECRET
        if not head.startswith(_MAGIC) or len(head) < _SLOTS_AT:
            os.ftruncate(self._fd, 0)
            head = (_MAGIC + secrets.token_bytes(length)).ljust(_SLOTS_AT, b"\0")
            os.pwrite(self._fd, head, 0)
        self._secret = head[offset : offset + length]

    def _take_slot(self) -> int:
        """This worker's mark: its slot in the lowest byte, then chance; 0 where every slot is taken."""
        for slot in range(_SLOTS):
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LIFE_LOCKS + slot)
            except OSError:
                continue
            mark = (secrets.randbits(55) + 1) << 8 | slot
            os.pwrite(self._fd, _WORD.pack(mark), _SLOTS_AT + slot * _WORD.size)
            return mark
        return 0

    def _lives(self, mark: int) -> bool:
        """Whether the worker of a mark runs."""
        if mark == self._mark:
            return True
        slot = mark & 0xFF
        if os.pread(self._fd, _WORD.size, _SLOTS_AT + slot * _WORD.size) != _WORD.pack(mark):
            return False  # another worker has that slot now
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LIFE_LOCKS + slot)
        except OSError:
            return True
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _LIFE_LOCKS + slot)
        return False
