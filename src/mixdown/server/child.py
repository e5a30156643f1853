"""`python -m mixdown.server.child worker|fold|events INHERITANCE`: how the supervisor's children begin.

Settings enter by the environment, descriptors by inheritance. An exit status leaves: 0 after a drain.
People do not start this; without a supervisor it ends at once.
"""

from __future__ import annotations

import signal
import sys

import msgspec

from mixdown.model.errors import MixdownError
from mixdown.server import logs
from mixdown.server.family import CANNOT_START, Inheritance
from mixdown.settings import load


def main(arguments: list[str], environment: dict[str, str]) -> int:
    """Run one child until it is told to stop; its exit status."""
    role, inheritance = arguments[0], msgspec.json.decode(arguments[1], type=Inheritance)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's business
    settings = load(environment, {})
    logs.configure(settings, inheritance.name)
    logs.catch_all()
    inheritance.end_with_supervisor()
    try:
        if role == "worker":
            from mixdown.server.worker import run_worker  # noqa: PLC0415 - the fold needs none of HTTP

            run_worker(settings, inheritance)
        elif role == "events":
            from mixdown.server.eventing import run_eventing  # noqa: PLC0415 - nor any other the events reader

            run_eventing(settings, inheritance)
        else:
            from mixdown.server.folding import run_folding  # noqa: PLC0415 - nor a worker the fold

            run_folding(settings, inheritance)
    except MixdownError as error:
        inheritance.say_failed(str(error))
        return CANNOT_START
    return 0


if __name__ == "__main__":
    import os

    sys.exit(main(sys.argv[1:], dict(os.environ)))
