"""Traces by OpenTelemetry: spans of requests, commits and fold transactions, sent by OTLP over HTTP.

What the metrics are told of enters; spans leave, from a thread with a bounded queue. A collector that is
slow or down costs spans and one log line. No id, token, address or property is put into a span.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode

from mixdown import __version__
from mixdown.fold.profiles import Folded
from mixdown.http.exchange import Receive, Scope, Send
from mixdown.http.metrics import Metrics
from mixdown.http.reply import Reply
from mixdown.server import logs
from mixdown.store.chunk import Outcome

CLOSE_S: Final = 2.0
"""How long the end of a process waits for the collector to take the last spans."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_NS: Final = 1_000_000_000


class Application(Protocol):
    """The application of a worker (`http.app.App`)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

    def take_at_once(self, scope: Scope, body: bytes, answer: Callable[[Reply], None]) -> bool:
        """Answer a plain write without ASGI."""


class Tracing:
    """The spans of one process. `close` at its end."""

    def __init__(self, process: str, environment: Mapping[str, str]) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # `_Exporter` says it, once
        attributes = {"service.version": __version__, "mixdown.process": process}
        if "service.name" not in environment.get("OTEL_RESOURCE_ATTRIBUTES", "") and not environment.get(
            "OTEL_SERVICE_NAME"
        ):
            attributes["service.name"] = "mixdown"
        # The sampler, limits and the queue's size are the SDK's to read from the environment.
        self._provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter(OTLPSpanExporter())))
        self.tracer = self._provider.get_tracer("mixdown", __version__)

    def application(self, app: Application) -> TracedApplication:
        """`app`, with a span for each request."""
        return TracedApplication(app, self.tracer)

    def metrics(self) -> TracingMetrics:
        """A worker's metrics, which also tell the spans."""
        return TracingMetrics(self.tracer)

    def folded(self, folded: Folded, seconds: float) -> None:
        """A fold transaction is written: a span of its own."""
        attributes = {
            "mixdown.records": folded.records,
            "mixdown.profiles": folded.profiles,
            "mixdown.recognised": folded.recognised,
            "mixdown.failed": folded.failed,
        }
        ended_span(self.tracer, "fold", seconds, attributes)

    def close(self) -> None:
        """Send what waits, for at most two seconds."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


class TracedApplication:
    """An application with a span for each request, which continues the trace of its `traceparent`."""

    def __init__(self, app: Application, tracer: trace.Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            method,
            context=propagate.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.scheme": scope["scheme"]},
        )
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                await self._app(scope, receive, send)
            except BaseException:
                span.set_status(trace.StatusCode.ERROR)  # without the text, which may quote a record
                raise

    def take_at_once(self, scope: Scope, body: bytes, answer: Callable[[Reply], None]) -> bool:
        """Never: a span lasts as long as its task, so traced requests go the long way."""
        del scope, body, answer
        return False


class TracingMetrics(Metrics):
    """Metrics that put what they are told into the span of the request under way."""

    def __init__(self, tracer: trace.Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        super().request(endpoint, status, seconds)
        span = trace.get_current_span()
        if isinstance(span, ReadableSpan) and span.is_recording():
            method = (span.attributes or {}).get("http.request.method")
            span.update_name(f"{method} {endpoint}")
            span.set_attributes({"http.route": endpoint, "http.response.status_code": status})
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))

    def records(self, endpoint: str, outcome: Outcome) -> None:
        super().records(endpoint, outcome)
        refused = outcome.total - outcome.good
        trace.get_current_span().set_attributes(
            {"mixdown.records": outcome.total, "mixdown.refused": refused}
        )

    def body_refused(self, endpoint: str, message: str) -> None:
        super().body_refused(endpoint, message)
        trace.get_current_span().set_attributes({"mixdown.records": 0, "mixdown.refused": 1})

    def committed(self, *, requests: int, records: int, seconds: float) -> None:
        super().committed(requests=requests, records=records, seconds=seconds)
        attributes = {"mixdown.requests": requests, "mixdown.records": records}
        ended_span(self._tracer, "commit", seconds, attributes)


def ended_span(tracer: trace.Tracer, name: str, seconds: float, attributes: Mapping[str, Any]) -> None:
    """A span of something that took so many seconds and has just ended; it begins a trace of its own."""
    now_ns = time.time_ns()
    began_ns = now_ns - int(seconds * _NS)
    span = tracer.start_span(name, context=contexts.Context(), start_time=began_ns, attributes=attributes)
    span.end(end_time=now_ns)


class _Exporter(SpanExporter):
    """Sends spans, and says in the log when that stops working and when it works again."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            logs.warning("the collector does not take traces: they are dropped until it does")
        elif self._failing and not failed:
            logs.info("the collector takes traces again")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)
