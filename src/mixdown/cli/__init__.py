"""The `mixdown` command: one file for each family of commands.

Enters: arguments and the environment. Leaves: data on stdout (one JSON value with `--json`), words for
people on stderr, an exit code. It never holds state of its own: what it changes goes through the store,
the same way as a server's requests.
"""

from mixdown.cli.root import main

__all__ = ["main"]
