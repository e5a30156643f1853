"""How long a read may take: a time for the calling thread, which every engine looks at while it works.

A deadline enters with `until`; `ReadTimeoutError` leaves once it has passed. It knows no store: an
engine asks `is_over` while a statement runs, and loops over results call `check`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from mixdown.model.errors import ReadTimeoutError

_own = threading.local()
_P = ParamSpec("_P")
_T = TypeVar("_T")


@contextmanager
def until(deadline_s: float, limit_s: float) -> Iterator[None]:
    """What this thread reads in the block ends at `deadline_s` (`time.monotonic`).

    `limit_s` is what the error says. Raises `ReadTimeoutError` at once where the deadline has passed.
    """
    _own.deadline_s, _own.limit_s = deadline_s, limit_s
    try:
        check()
        yield
    finally:
        _own.deadline_s = None


@contextmanager
def forgotten() -> Iterator[None]:
    """No deadline within the block: for tidying up after a read that was ended."""
    deadline_s: float | None = getattr(_own, "deadline_s", None)
    _own.deadline_s = None
    try:
        yield
    finally:
        _own.deadline_s = deadline_s


def shared(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """`call`, for another thread to run: it has the deadline of the thread that asks for this now."""
    deadline_s: float | None = getattr(_own, "deadline_s", None)
    limit_s: float = getattr(_own, "limit_s", 0.0)
    if deadline_s is None:
        return call
    bound_s = deadline_s

    def bounded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with until(bound_s, limit_s):
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
    """Whether this thread's deadline has passed."""
    deadline_s: float | None = getattr(_own, "deadline_s", None)
    return deadline_s is not None and time.monotonic() > deadline_s


def check() -> None:
    """Raises `ReadTimeoutError` where this thread's deadline has passed."""
    if is_over():
        raise timeout()


def timeout() -> ReadTimeoutError:
    """The error of a read that took too long."""
    return ReadTimeoutError.after(getattr(_own, "limit_s", 0.0))
