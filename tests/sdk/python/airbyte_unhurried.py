"""Runs airbyte-source-mixpanel as its command does, but for the minute that it rests after every request.

The connector keeps to Mixpanel's limit of 60 queries an hour by itself. Mixdown has no such limit, and a test
has no such time; what is asked, and what is made of the answers, stays as it is.
"""

import time
from types import SimpleNamespace
from typing import Any

import source_mixpanel.streams as export_stream
from airbyte_cdk.sources.streams.call_rate import MovingWindowCallRatePolicy
from source_mixpanel.run import run


def at_once(policy: Any, request: Any, weight: int) -> None:
    """Never too early."""


def no_rest(seconds: float) -> None:
    """Goes on."""


MovingWindowCallRatePolicy.try_acquire = at_once
export_stream.time = SimpleNamespace(**{**vars(time), "sleep": no_rest})
run()
