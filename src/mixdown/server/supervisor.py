"""`mixdown serve`: holds the data folder and the sockets, and keeps the children alive.

Settings enter; a server that is ready leaves, and at its end an exit status. This process never answers a
request and never touches the log: it only opens the catalog before any child is there. All that it holds (the
folder's lock, the sockets, a pipe) its children inherit, so that a killed child costs no connection in the
queue, and the lock is free only when all are gone.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson

from mixdown import __version__
from mixdown.http.metrics import SupervisorMetrics, count_as
from mixdown.model.errors import CatalogError, MixdownError
from mixdown.server import logs, telemetry
from mixdown.server.children import Nursery, Sockets
from mixdown.server.family import METRICS_FOLDER
from mixdown.server.first_start import Access, ensure_access, short_presets
from mixdown.server.greeting import greeting
from mixdown.server.listening import address_of, is_loopback, listen, tls_context
from mixdown.settings import Settings
from mixdown.store.moving.source import refuse_moved
from mixdown.store.opening import open_store
from mixdown.store.sqlite.folder import FolderLock

LOCK_WAIT_S: Final = 10.0
SERVER_FILE: Final = "server.json"
_SPARE_FILES: Final = 500


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. What cannot work is told on stderr, with what to do next.

    Returns:
        The exit status: 0 after a drain, 1 when it could not start or was told twice to stop.
    """
    logs.configure(settings, "supervisor")
    os.umask(0o077)
    try:
        with _folder(settings) as folder:
            return _serve(replace(settings, data_dir=folder))
    except MixdownError as error:
        tell(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        tell(f"the server cannot run: {where}{error.strerror or error}\nCheck the data folder and its disk.")
    return 1


def tell(text: str) -> None:
    """Say on stderr what went wrong, in words for people."""
    print(f"mixdown: {text}", file=sys.stderr, flush=True)  # noqa: T201 - this is what the command prints


@contextlib.contextmanager
def _folder(settings: Settings) -> Iterator[Path]:
    if not settings.ephemeral:
        yield settings.data_dir.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="mixdown-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(settings: Settings) -> int:
    tls_context(settings)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(FolderLock(settings.data_dir).acquire(LOCK_WAIT_S))
        if not settings.on_postgres:
            refuse_moved(settings.data_dir)
        public = stack.enter_context(listen(settings.host, settings.port))
        internal = None
        if settings.internal_port:
            internal = stack.enter_context(listen(settings.host, settings.internal_port))
        access = _ensure_access(settings)
        _warn(settings, public)
        _raise_file_limit(settings.connection_limit + _SPARE_FILES)
        metrics_dir = _empty_folder(settings.data_dir / METRICS_FOLDER)
        server_file = settings.data_dir / SERVER_FILE
        server_file.unlink(missing_ok=True)
        address = address_of(public, settings)
        internal_address = address_of(internal, settings) if internal else ""

        def announce() -> None:
            _write_server_file(server_file, address, settings.data_dir)
            text = greeting(address, settings, access, internal_address=internal_address)
            with contextlib.suppress(OSError):  # nobody reads: the server serves all the same
                print(text, flush=True)  # noqa: T201 - this is what the command prints
            logs.info("ready", address=address, workers=settings.workers)

        count_as("supervisor", metrics_dir)
        metrics = SupervisorMetrics()
        metrics.started("supervisor", time.time())
        nursery = Nursery(settings, Sockets(lock.fileno(), public, internal), metrics_dir, metrics)
        try:
            return nursery.run(on_ready=announce)
        finally:
            server_file.unlink(missing_ok=True)


def _ensure_access(settings: Settings) -> Access:
    store = open_store(settings, role="cli", create=True)
    try:
        try:
            return ensure_access(store.catalog, settings, now_ms=time.time_ns() // 1_000_000)
        except CatalogError:  # another node may be at its first start too: what it made is there now
            return ensure_access(store.catalog, settings, now_ms=time.time_ns() // 1_000_000)
    finally:
        store.close()


def _warn(settings: Settings, public: socket.socket) -> None:
    telemetry.warn_about(os.environ)
    if is_loopback(public):
        return
    for name in short_presets(settings):
        logs.warning("a short secret can be guessed: use 32 characters or more", variable=name)
    if not settings.tls_cert:
        logs.warning("other machines reach this server without TLS: use --tls-cert, or a proxy that has it")


def _raise_file_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        logs.warning("fewer files may be open than connection_limit needs", limit=allowed, wanted=wanted)


def _empty_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _write_server_file(path: Path, address: str, data_dir: Path) -> None:
    """Tell other programs where the server is; whole or not at all."""
    content: Mapping[str, object] = {
        "pid": os.getpid(),
        "address": address,
        "data_dir": str(data_dir),
        "version": __version__,
    }
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(orjson.dumps(content) + b"\n")
    unfinished.replace(path)
