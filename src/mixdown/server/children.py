"""The children of the supervisor: starting them, starting them again, and ending them in order.

Settings, sockets and a lock enter; processes leave. A child that dies is started again after a pause that
doubles from 0.1 s to 5 s. To stop, workers drain first and the log's readers after them, so that they take in
what was acknowledged too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

import msgspec

import mixdown
from mixdown.model.errors import MixdownError
from mixdown.server import logs
from mixdown.server.family import READER_ROLES, READY, Inheritance, reader_names
from mixdown.settings import Settings, as_env

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_LIMIT_S: Final = 5.0
BACKOFF_RESET_S: Final = 10.0
DRAIN_MARGIN_S: Final = 5.0
_KILLED_WAIT_S: Final = 0.05
_STATUS_BYTES: Final = 4096
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Sockets(msgspec.Struct, frozen=True):
    """What children inherit: the lock's descriptor and the listening sockets."""

    lock_fd: int
    public: socket.socket
    internal: socket.socket | None


class FamilyReports(Protocol):
    """Where births and deaths are counted (`http.metrics.SupervisorMetrics`)."""

    def started(self, process: str, at_s: float) -> None:
        """A process of this name was started, at this Unix time."""

    def ended(self, process: str) -> None:
        """It has ended."""


class StartError(MixdownError):
    """A child found on the first start that it cannot do its work."""


class Child:
    """One place in the family: a process while it lives, and the pause before the next one."""

    def __init__(self, name: str, role: str) -> None:
        self.name = name
        self.role = role
        self.process: subprocess.Popen[bytes] | None = None
        self.status_fd = -1
        self.told = b""
        self.ready = False
        self.started = 0.0
        self.due = 0.0
        self._backoff_s = BACKOFF_FIRST_S

    def begin(self, command: list[str], environment: dict[str, str], inheritance: Inheritance) -> None:
        """Start a process. `inheritance` lacks the status pipe, which is made here."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        given = msgspec.structs.replace(inheritance, status_fd=writer)
        try:
            self.process = subprocess.Popen(
                [*command, self.role, msgspec.json.encode(given).decode()],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=given.descriptors(),
                start_new_session=True,  # Ctrl-C reaches the supervisor alone
            )
        finally:
            os.close(writer)
        self.status_fd = reader
        self.told = b""
        self.ready = False
        self.started = time.monotonic()

    def listen(self) -> None:
        """Take in what the process has said."""
        if self.status_fd < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while said := os.read(self.status_fd, _STATUS_BYTES):
                self.told += said
        if self.told.startswith(READY):
            self.ready = True

    def ended(self) -> int | None:
        """The exit status of a process that has ended (negative: a signal's number), None while it lives."""
        if self.process is None:
            return None
        status = self.process.poll()
        if status is not None:
            self.listen()
            os.close(self.status_fd)
            self.process, self.status_fd = None, -1
            if time.monotonic() - self.started >= BACKOFF_RESET_S:
                self._backoff_s = BACKOFF_FIRST_S
            self.due = time.monotonic() + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, BACKOFF_LIMIT_S)
        return status

    def reason(self) -> str:
        """Why the process could not start, in its own words; "" if it said nothing."""
        return "" if self.ready else self.told.decode("utf-8", "replace").strip()

    def send(self, signum: int) -> None:
        """Send a signal to the process, if it lives."""
        if self.process is not None:
            self.process.send_signal(signum)


class Nursery:
    """All children of one server. `run` returns when the server has stopped."""

    def __init__(
        self, settings: Settings, sockets: Sockets, metrics_dir: Path, reports: FamilyReports
    ) -> None:
        self._reports = reports
        self._settings = settings
        self._sockets = sockets
        self._children = [Child(name, role) for name, role in reader_names(settings.fold_workers)]
        self._children += [Child(f"worker-{number}", "worker") for number in range(settings.workers)]
        without_secrets = dataclasses.replace(settings, token="", secret="", account="")
        self._environment = {
            **os.environ,
            **as_env(without_secrets),  # they are in the catalog by now
            "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir),
        }
        self._stops = 0
        self._parent_fd = -1
        self._ready = False

    def run(self, *, on_ready: Callable[[], None]) -> int:
        """Keep the children alive until a signal comes, then drain; the exit status.

        Raises:
            StartError: a child cannot do its work, before the server was ready for the first time.
        """
        self._parent_fd, held = os.pipe()  # held open here alone: children end when it closes
        try:
            with self._woken_by_signals() as selector:
                while not self._stops:
                    self._begin_due()
                    self._wait(selector, self._pause())
                    self._look(on_ready)
                return self._drain(selector)
        finally:
            self._kill_all()
            os.close(held)
            os.close(self._parent_fd)

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Iterator[selectors.BaseSelector]:
        """Signals, a child's end included, end a wait on the selector."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        before = {signum: signal.getsignal(signum) for signum in (*_STOP_SIGNALS, signal.SIGCHLD)}
        old_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for signum in _STOP_SIGNALS:
            if before[signum] is not signal.SIG_IGN or signum == signal.SIGTERM:  # nohup ignores SIGHUP
                signal.signal(signum, self._on_stop)
        signal.signal(signal.SIGCHLD, _on_child)
        selector = selectors.DefaultSelector()
        selector.register(reader, selectors.EVENT_READ)
        try:
            yield selector
        finally:
            selector.close()
            signal.set_wakeup_fd(old_fd)
            for signum, handler in before.items():
                signal.signal(signum, handler)
            os.close(reader)
            os.close(writer)

    def _on_stop(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._stops += 1

    def _begin_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None and child.due <= now:
                child.begin(_command(), self._environment, self._inheritance(child))
                self._reports.started(child.name, time.time())

    def _inheritance(self, child: Child) -> Inheritance:
        works = child.role == "worker"
        internal = self._sockets.internal
        return Inheritance(
            name=child.name,
            lock_fd=self._sockets.lock_fd,
            parent_fd=self._parent_fd,
            status_fd=-1,
            listen_fd=self._sockets.public.fileno() if works else -1,
            internal_fd=internal.fileno() if works and internal is not None else -1,
        )

    def _pause(self) -> float | None:
        """How long nothing can be due; None: until something happens."""
        waits = [child.due - time.monotonic() for child in self._children if child.process is None]
        return max(0.0, min(waits)) if waits else None

    def _wait(self, selector: selectors.BaseSelector, timeout_s: float | None) -> None:
        """Wait for a signal, or for a word from a child that is not ready yet."""
        silent = [child for child in self._children if child.status_fd >= 0 and not child.ready]
        for child in silent:
            selector.register(child.status_fd, selectors.EVENT_READ)
        for key, _ in selector.select(timeout_s):
            if not any(key.fd == child.status_fd for child in silent):
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, _STATUS_BYTES)
        for child in silent:
            selector.unregister(child.status_fd)

    def _look(self, on_ready: Callable[[], None]) -> None:
        for child in self._children:
            child.listen()
            pid = child.process.pid if child.process else 0
            status = child.ended()
            if status is None or self._stops:
                continue
            self._reports.ended(child.name)
            if not self._ready:
                reason = child.reason() or f"the process {child.name} ended with status {status}"
                raise StartError(reason)
            pause_ms = round(1000 * (child.due - time.monotonic()))
            facts: dict[str, logs.Fact] = {"child": child.name, "child_pid": pid, "status": status}
            if reason := child.reason():
                facts["reason"] = reason
            logs.error("a process died and is started again", **facts, pause_ms=pause_ms)
        if not self._ready and all(child.ready for child in self._children):
            self._ready = True
            on_ready()

    def _drain(self, selector: selectors.BaseSelector) -> int:
        """Workers first, then the readers; a second signal, or too long a wait, ends all at once."""
        logs.info("stopping")
        # Workers close theirs too: who connects now is refused at once, and not left waiting to be cut off.
        for listening in (self._sockets.public, self._sockets.internal):
            if listening is not None:
                listening.close()
        limit_s = self._settings.shutdown_timeout_s + DRAIN_MARGIN_S
        whole = True
        for roles in (("worker",), READER_ROLES):
            group = [child for child in self._children if child.role in roles]
            for child in group:
                child.send(signal.SIGTERM)
            whole = self._wait_for_end(selector, group, limit_s) and whole
        if whole:
            logs.info("stopped")
            return 0
        logs.warning(
            "stopped without waiting for all requests and the log's readers; what was acknowledged is stored"
        )
        return 1

    def _wait_for_end(self, selector: selectors.BaseSelector, group: list[Child], limit_s: float) -> bool:
        until = time.monotonic() + limit_s
        whole = True
        while any(child.process is not None for child in group):
            left = until - time.monotonic()
            if left <= 0 or self._stops > 1:
                whole = False
                for child in group:
                    child.send(signal.SIGKILL)
            self._wait(selector, max(_KILLED_WAIT_S, left))
            for child in group:
                child.listen()
                # A child that had not begun has nothing to drain, and ends by the signal itself.
                whole = child.ended() in (None, 0, -signal.SIGTERM) and whole
        return whole

    def _kill_all(self) -> None:
        for child in self._children:
            if child.process is not None:
                child.process.kill()
                child.process.wait()
                child.ended()


def _on_child(signum: int, frame: FrameType | None) -> None:
    """Nothing: the wake-up descriptor tells."""
    del signum, frame


def _command() -> list[str]:
    """How a child is started: without the working directory in front of the library (`-P`)."""
    source = Path(mixdown.__file__).parent.parent
    safe_path = [] if source == Path.cwd() else ["-P"]
    return [sys.executable, *safe_path, "-m", "mixdown.server.child"]
