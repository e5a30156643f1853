"""How long a read may take: a time for the calling thread, which every engine looks at while it works.

A deadline enters with `until`, and a `Caller` who may leave before it; `ReadTimeoutError` leaves once it has
passed, or nobody waits any more. It knows no store: an engine asks `is_over` while a statement runs, or has
itself interrupted (`interrupted_by`), and loops over results call `check`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

from mixdown.model.errors import ReadTimeoutError

_own = threading.local()
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Caller:
    """Whoever waits for what threads read: `leave`, from any thread, ends it, now and then."""

    def __init__(self) -> None:
        self.is_gone = False
        self._lock = threading.Lock()
        self._interrupts: list[Callable[[], None]] = []

    def leave(self) -> None:
        """Nobody waits any more. Call it again while a thread reads: one may just be between statements."""
        self.is_gone = True
        with self._lock:
            for interrupt in self._interrupts:
                interrupt()

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Within the block `leave` calls `interrupt`, which must not block."""
        with self._lock:
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)


@contextmanager
def until(deadline_s: float, limit_s: float, caller: Caller | None = None) -> Iterator[None]:
    """What this thread reads in the block ends at `deadline_s` (`time.monotonic`), or with its caller.

    `limit_s` is what the error says. Raises `ReadTimeoutError` at once where the deadline has passed.
    """
    _own.deadline_s, _own.limit_s, _own.caller = deadline_s, limit_s, caller
    try:
        check()
        yield
    finally:
        _own.deadline_s = _own.caller = None


@contextmanager
def interrupted_by(interrupt: Callable[[], None]) -> Iterator[None]:
    """A block that `interrupt`, called from another thread, ends where this thread's time is over."""
    remaining, caller = remaining_s(), _caller()
    with ExitStack() as stack:
        if remaining is not None:
            watch = threading.Timer(remaining, interrupt)
            watch.daemon = True
            watch.start()
            stack.callback(watch.cancel)
        if caller is not None:
            stack.enter_context(caller.interrupting(interrupt))
        yield


@contextmanager
def forgotten() -> Iterator[None]:
    """No deadline within the block: for tidying up after a read that was ended."""
    deadline_s: float | None = getattr(_own, "deadline_s", None)
    caller = _caller()
    _own.deadline_s = _own.caller = None
    try:
        yield
    finally:
        _own.deadline_s, _own.caller = deadline_s, caller


def shared(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """`call`, for another thread to run: it has the deadline of the thread that asks for this now."""
    deadline_s: float | None = getattr(_own, "deadline_s", None)
    limit_s: float = getattr(_own, "limit_s", 0.0)
    if deadline_s is None:
        return call
    bound_s, caller = deadline_s, _caller()

    def bounded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with until(bound_s, limit_s, caller):
            return call(*args, **kwargs)

    return bounded


def is_bounded() -> bool:
    """Whether this thread has a deadline."""
    return getattr(_own, "deadline_s", None) is not None


def remaining_s() -> float | None:
    """How long this thread may still read, not below 0; None without a deadline."""
    deadline_s: float | None = getattr(_own, "deadline_s", None)
    return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())


def is_over() -> bool:
    """Whether this thread's deadline has passed, or nobody waits for it."""
    deadline_s: float | None = getattr(_own, "deadline_s", None)
    caller = _caller()
    return (deadline_s is not None and time.monotonic() > deadline_s) or (
        caller is not None and caller.is_gone
    )


def check() -> None:
    """Raises `ReadTimeoutError` where this thread's deadline has passed."""
    if is_over():
        raise timeout()


def _caller() -> Caller | None:
    caller: Caller | None = getattr(_own, "caller", None)
    return caller


def timeout() -> ReadTimeoutError:
    """The error of a read that took too long."""
    return ReadTimeoutError.after(getattr(_own, "limit_s", 0.0))
