"""A worker's process: the HTTP application on the sockets that the supervisor opened.

Settings and inherited descriptors enter; answers leave. SIGTERM drains: it takes no new connection,
answers what is in flight, commits what waits, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import uvicorn

from mixdown.explorer.site import Explorer
from mixdown.http.app import App, make_app
from mixdown.http.auxiliary import auxiliary_path
from mixdown.http.exchange import Receive, Scope, Send, send_reply
from mixdown.http.ingestion import ENDPOINTS
from mixdown.http.lookup_tables import lookup_path
from mixdown.http.metrics import Metrics, count_as
from mixdown.http.paths import canonical_path
from mixdown.http.reply import Reply, error_reply, overloaded
from mixdown.http.services import Services
from mixdown.ingest.pipeline import Ingest
from mixdown.server import logs, telemetry
from mixdown.server.family import METRICS_FOLDER, Inheritance
from mixdown.server.listening import BACKLOG, certificate_end
from mixdown.server.protocol import LINGER_S, BoundedProtocol, ConnectionLimits, bounded_protocol
from mixdown.server.renewal import Renewal
from mixdown.server.short import with_short_way
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.opening import open_store
from mixdown.store.sqlite.folder import WakeSender

RATES_FILE: Final = "rates"
if TYPE_CHECKING:
    from mixdown.server.tracing import Application

READ_THREADS: Final = 4
SCAN_THREADS: Final = 2
EVENT_THREADS: Final = 2
EXPORT_THREADS: Final = 2
WRITE_THREADS: Final = 2
_TICKS_PER_SECOND: Final = 10
_GC_THRESHOLDS: Final = (50_000, 20, 50)
_SWITCH_S: Final = 0.001  # how long the event loop may wait for a thread that computes
_LARGE_NICENESS: Final = 5  # of what unfolds and decodes large bodies; at 10, others wait for its lock
_INGESTION: Final = frozenset(f"/{endpoint}" for endpoint in ENDPOINTS)
_TOO_MANY: Final = "the server has too many open connections"


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which also ends slow connections and leaves signals to this room."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        handshake_s: float,
        renewal: Renewal | None = None,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        super().__init__(config)
        self._renewal = renewal
        self._metrics = metrics
        self._handshake_s = handshake_s
        self._on_ready = on_ready
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept: uvicorn's own way for given sockets, but with a bound on TLS handshakes."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        config = self.config
        make: Callable[..., asyncio.Protocol] = config.http_protocol_class
        protocol = functools.partial(
            make, config=config, server_state=self.server_state, app_state={}, _loop=loop
        )
        self.servers = [
            await loop.create_server(
                protocol,
                sock=sock,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=self._handshake_s if config.ssl else None,
                ssl_shutdown_timeout=LINGER_S if config.ssl else None,
            )
            for sock in sockets or []
        ]
        self.started = True
        self._on_ready()

    def stop(self) -> None:
        """Begin to drain; a second call waits for nobody."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._on_stop()  # answers without an end would hold the server up until its patience is over

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_SECOND == 0:
            if self._renewal is not None:
                self._renewal.look()
            self._metrics.connections(len(self.server_state.connections))
        protocol = self.config.http_protocol_class
        if issubclass(protocol, BoundedProtocol):
            protocol.crowd.expire(counter, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: uvicorn's own would end the process with the signal before the store is closed."""
        yield


def run_worker(settings: Settings, inheritance: Inheritance) -> None:
    """Serve until SIGTERM. Raises `StoreError` and `SettingsError`."""
    count_as(inheritance.name, settings.data_dir / METRICS_FOLDER)
    public = _listener(inheritance.listen_fd)
    internal = _listener(inheritance.internal_fd)
    with contextlib.ExitStack() as stack:
        store = open_store(settings, role="worker", create=False)
        stack.callback(store.close)
        executor = _threads(stack, READ_THREADS, "read")
        scans = _threads(stack, SCAN_THREADS, "scans")
        writing = _threads(stack, WRITE_THREADS, "write", niceness=_LARGE_NICENESS)
        wake = WakeSender(settings.data_dir, settings.fold_workers)
        stack.callback(wake.close)
        tracing = telemetry.begin(inheritance.name, os.environ)
        if tracing is not None:
            stack.callback(tracing.close)
        metrics = Metrics() if tracing is None else tracing.metrics()
        metrics.certificate_ends(certificate_end(settings))
        renewal = Renewal.of(settings, renewed=metrics.certificate_ends)
        catalog = CatalogCache(store.catalog)
        ingest = Ingest.open(
            settings,
            store,
            catalog,
            executor=writing,
            wake=wake.wake,
            metrics=metrics,
            folder=settings.data_dir,
        )
        ingest.count_recognised = metrics.recognised
        stack.callback(ingest.close)
        services = Services(
            settings=settings,
            store=store,
            catalog=catalog,
            ingest=ingest,
            metrics=metrics,
            executor=executor,
            now_ms=now_ms,
            rates_file=settings.data_dir / METRICS_FOLDER / RATES_FILE,
            scans=scans,
            event_threads=_threads(stack, EVENT_THREADS, "events"),
            export_threads=_threads(stack, EXPORT_THREADS, "exports"),
        )
        stack.callback(services.close_event_reads)
        app: Application = application(services, internal_port=internal.getsockname()[1] if internal else 0)
        if tracing is not None:
            app = tracing.application(app)
        server = DrainingServer(
            server_config(settings, app, metrics, renewal.context if renewal else None),
            handshake_s=settings.header_timeout_s,
            renewal=renewal,
            on_ready=inheritance.say_ready,
            on_stop=services.close_live,
            metrics=metrics,
        )
        _set_interpreter()
        server.run(sockets=[sock for sock in (public, internal) if sock is not None])
    logs.info("drained")


def _set_interpreter() -> None:
    """Leave what the process began with out of collections, and let threads take turns as measured."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_S)


def _threads(stack: contextlib.ExitStack, count: int, name: str, *, niceness: int = 0) -> ThreadPoolExecutor:
    """Threads that end with the stack; those of some niceness get what the others leave of a busy machine."""
    made = ThreadPoolExecutor(
        count, thread_name_prefix=name, initializer=functools.partial(_give_way, niceness)
    )
    stack.callback(made.shutdown)
    return made


def _give_way(niceness: int) -> None:
    """Let this thread alone be nice: Linux counts threads here, other systems would take the process."""
    if niceness and sys.platform == "linux":
        with contextlib.suppress(OSError):
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, own + niceness))


def now_ms() -> int:
    """The time of day in milliseconds."""
    return time.time_ns() // 1_000_000


class _ByPort:
    """The two halves of the application, by the port that a request came to."""

    def __init__(self, public: App, internal: App, internal_port: int) -> None:
        self._public = public
        self._internal = internal
        self._internal_port = internal_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        chosen = self._internal if scope["server"][1] == self._internal_port else self._public
        await chosen(scope, receive, send)

    def take_at_once(self, scope: Scope, body: bytes, answer: Callable[[Reply], None]) -> bool:
        """As `App.take_at_once`; the internal port takes no writes."""
        return scope["server"][1] != self._internal_port and self._public.take_at_once(scope, body, answer)


def application(services: Services, *, internal_port: int) -> App | _ByPort:
    """The whole application, or the two halves of it by the port that a request came to."""
    explorer = Explorer(services) if services.settings.explorer else None
    routes = explorer.routes() if explorer else []
    page = explorer.page if explorer else None
    if not internal_port:
        return make_app(services, extra_routes=routes, page=page)
    public = make_app(services, part="public")
    internal = make_app(services, extra_routes=routes, page=page, part="internal")
    return _ByPort(public, internal, internal_port)


def server_config(
    settings: Settings, app: Application, metrics: Metrics, context: ssl.SSLContext | None = None
) -> uvicorn.Config:
    """The configuration of uvicorn: our protocol, and nothing that proxies or terminals would need."""
    protocol = bounded_protocol(ConnectionLimits.of(settings), busy, metrics.refused_by_protocol)
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=with_short_way(protocol, app.take_at_once),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        headers=[("server", "mixdown")],
        backlog=BACKLOG,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
        ssl_context_factory=(lambda *_: context) if context else None,
    )


async def busy(scope: Scope, receive: Receive, send: Send) -> None:
    """What every request of a connection beyond the limit gets: 503, with CORS and Retry-After for writers.

    No other reply carries Retry-After (DESIGN G7).
    """
    del receive
    path = canonical_path(scope["path"])
    if path in _INGESTION or auxiliary_path(path) is not None or lookup_path(path) is not None:
        origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
        await send_reply(send, overloaded(_TOO_MANY, 1), origin, close=True)
    else:
        await send_reply(send, error_reply(503, _TOO_MANY), b"", close=True)


def _listener(fd: int) -> socket.socket | None:
    return socket.socket(fileno=fd) if fd >= 0 else None
