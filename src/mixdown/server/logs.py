"""Logs: the only way in which anything of this server is written to stderr while it runs.

A sentence and a few facts enter, one line leaves: text on a terminal, JSON otherwise. A fact is a number,
a name from a fixed list or an address of the server itself. Property values, ids, tokens and secrets never
enter; since an exception's own text may quote what a client sent, only its type and where it arose are
written, and the text of those few that speak of the server alone.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from mixdown.model.errors import OverloadedError, SettingsError, StoreError
from mixdown.settings import Settings

Fact = str | int | float | bool | None

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_FRAMES: Final = 12
# It has a warning for every broken body, so that anyone could fill the log.
MULTIPART: Final = "python_multipart"
_SPEAKS_OF_THE_SERVER: Final = (StoreError, SettingsError, OverloadedError)


def configure(settings: Settings, process: str, *, stream: TextIO | None = None) -> None:
    """Send all log lines of this process, those of libraries included, to `stream` (stderr).

    Args:
        settings: `log_format` and `log_level` count.
        process: what the process is ("supervisor", "worker-0", "fold"), written with each line.
        stream: where lines go.
    """
    target = stream or sys.stderr
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and target.isatty())
    level = _LEVELS[settings.log_level]
    structlog.configure(
        processors=_processors(
            process, as_text=as_text, colors=target.isatty() and "NO_COLOR" not in os.environ
        ),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_LibraryLines()]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger(MULTIPART).setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


def catch_all() -> None:
    """Write exceptions that end a process or thread as lines like all others, without their text."""

    def in_process(kind: type[BaseException], value: BaseException, trace: object) -> None:
        del kind, trace
        fault("the process failed", value)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            fault("a thread failed", args.exc_value, thread=args.thread.name if args.thread else "")

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            fault("an exception could not be raised", args.exc_value)

    sys.excepthook = in_process
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable


def debug(sentence: str, **facts: Fact) -> None:
    """Something that only a developer wants to see."""
    structlog.get_logger().debug(sentence, **facts)


def info(sentence: str, **facts: Fact) -> None:
    """Something that an operator expects."""
    structlog.get_logger().info(sentence, **facts)


def warning(sentence: str, **facts: Fact) -> None:
    """Something that an operator should look at; the server goes on."""
    structlog.get_logger().warning(sentence, **facts)


def error(sentence: str, **facts: Fact) -> None:
    """Something that does not work."""
    structlog.get_logger().error(sentence, **facts)


def fault(sentence: str, exception: BaseException, **facts: Fact) -> None:
    """An exception that nobody expected: its type and place, not its text."""
    structlog.get_logger().error(sentence, **facts, **exception_facts(exception))


def exception_facts(exception: BaseException) -> dict[str, Fact]:
    """What may be written of an exception: `error` its type, `at` the calls that led to it, innermost first.

    `reason`, its text, is there where the text speaks of the server alone.
    """
    frames = traceback.extract_tb(exception.__traceback__)[-_FRAMES:]
    facts: dict[str, Fact] = {
        "error": type(exception).__qualname__,
        "at": " < ".join(
            f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames)
        ),
    }
    if isinstance(exception, _SPEAKS_OF_THE_SERVER):
        facts["reason"] = exception.message
    elif isinstance(exception, OSError) and exception.errno:
        facts["reason"] = os.strerror(exception.errno)
    elif exception.__cause__ is not None:
        facts["cause"] = type(exception.__cause__).__qualname__
    return facts


def _short(filename: str) -> str:
    return "/".join(Path(filename).parts[-2:])


def _without_text(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A logged exception as `exception_facts`: whoever logs it, its text stays out."""
    del logger, method
    given = event.pop("exc_info", None)
    exception = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if exception is not None:
        event.update(exception_facts(exception))
    return event


def _processors(process: str, *, as_text: bool, colors: bool) -> list[Processor]:
    def add_process(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        del logger, method
        event["process"] = process
        event["pid"] = event.get("pid", os.getpid())
        return event

    if as_text:
        return [
            add_process,
            _without_text,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=colors),
        ]
    return [
        add_process,
        _without_text,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(serializer=_json),
    ]


def _json(event: Any, **options: Any) -> str:
    del options
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return orjson.dumps({**first, **event}, default=str).decode()


class _LibraryLines(logging.Handler):
    """What libraries log, as lines like ours: the fixed part of their message, without its arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        lines = str(record.msg).splitlines()
        facts: dict[str, Fact] = {"library": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            facts |= exception_facts(record.exc_info[1])
        line: Callable[..., None] = error if record.levelno >= logging.ERROR else warning
        line(lines[0] if lines else "", **facts)
