"""Puts the server together: the only room that knows every part.

Settings enter; processes, sockets and log lines leave. `run` is what `mixdown serve` calls.
"""

from mixdown.server.supervisor import run

__all__ = ["run"]
