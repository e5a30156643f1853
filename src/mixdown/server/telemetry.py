"""Whether traces are sent, by the standard `OTEL_*` variables; nothing of OpenTelemetry is imported if not.

The environment enters; a `Tracing` leaves, or None. It must cost nothing where no address is set.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mixdown.server import logs

if TYPE_CHECKING:
    from mixdown.server.tracing import Tracing

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN: Final = "http/protobuf"
_PACKAGES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the variables ask for traces: an address is set, and nothing switches them off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environment.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if "otlp" not in [exporter.strip() for exporter in exporters.split(",")]:
        return False
    return any(environment.get(name, "").strip() for name in ENDPOINTS)


def is_installed() -> bool:
    """Whether the extra `otel` is there."""
    try:
        return all(importlib.util.find_spec(package) is not None for package in _PACKAGES)
    except ModuleNotFoundError:  # not even the package around it
        return False


def warn_about(environment: Mapping[str, str]) -> None:
    """Say once, as the supervisor does, what keeps the traces from being sent as asked."""
    if not is_wanted(environment):
        return
    if not is_installed():
        logs.warning("traces are asked for, but not installed: pip install 'mixdown[otel]'")
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), SPOKEN)
    if protocol != SPOKEN:
        logs.warning("traces are sent by http/protobuf alone", asked=protocol)


def begin(process: str, environment: Mapping[str, str]) -> Tracing | None:
    """Begin to trace in this process ("worker-0", "fold"), where that is wanted and can be."""
    if not is_wanted(environment) or not is_installed():
        return None
    from mixdown.server.tracing import Tracing  # noqa: PLC0415 - imported only where it is used

    return Tracing(process, environment)
