"""Puts the server together: the only room that knows every part.

Settings enter; processes, sockets and log lines leave. `run` is what `mixdown serve` calls.
"""

from mixdown.settings import Settings


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit status (see `supervisor.run`)."""
    from mixdown.server.supervisor import run as supervise  # noqa: PLC0415 - the children need none of it

    return supervise(settings)
