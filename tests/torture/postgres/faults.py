"""What befalls the nodes, their database and the network between, one function each; clients write meanwhile.

A fault returns when it is over. From then on everything must work again by itself.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final

from tests.torture.postgres.network import Weather
from tests.torture.postgres.stage import LEASE_S, Stage

Fault = Callable[[Stage], None]


def kill_processes(stage: Stage) -> None:
    """Single processes are killed, whatever they do."""
    for role in ("fold", "worker", "events", "fold", "worker"):
        stage.kill_one(role)
        time.sleep(stage.chance.uniform(0.3, 1.2))


def kill_a_node(stage: Stage) -> None:
    """A node is killed as a whole; another takes over what it read; it comes back."""
    number = stage.chance.randrange(len(stage.ports))
    stage.kill_node(number)
    time.sleep(stage.chance.uniform(0.5, LEASE_S + 3))
    stage.start(number)


def stop_readers(stage: Stage) -> None:
    """The folds and the events reader of a node are stopped, within a step perhaps, and go on late."""
    number = stage.chance.randrange(len(stage.ports))
    with stage.stopped(stage.readers(number)):
        time.sleep(stage.chance.uniform(LEASE_S + 2, LEASE_S + 6))


def fail_over(stage: Stage) -> None:
    """The primary is killed with commits under way, and its standby promoted; then that gets a standby."""
    stage.pair.fail_over()
    time.sleep(stage.chance.uniform(1, 3))
    stage.pair.add_standby()
    stage.counts["failovers"] += 1


def lose_the_standby(stage: Stage) -> None:
    """The standby is gone for a while: no commit is confirmed, so nothing is acknowledged."""
    stage.pair.other.pause(paused=True)
    time.sleep(stage.chance.uniform(3, 13))
    stage.pair.other.pause(paused=False)


def _weather(stage: Stage, weather: Weather, seconds: float) -> None:
    for network in stage.networks.values():
        network.weather = weather
    time.sleep(seconds)
    for network in stage.networks.values():
        network.weather = "clear"


def part(stage: Stage) -> None:
    """The network swallows everything; connections that were open never say another word."""
    _weather(stage, "swallow", stage.chance.uniform(2, 8))


def mute(stage: Stage) -> None:
    """What is asked arrives, and no answer comes back: COMMITs whose outcome nobody knows."""
    _weather(stage, "mute", stage.chance.uniform(1, 4))


def cut_answers(stage: Stage) -> None:
    """Each answer is cut off by a reset, after what was asked has been done."""
    for _ in range(4):
        _weather(stage, "cut", stage.chance.uniform(0.2, 0.6))
        time.sleep(0.4)


def reset(stage: Stage) -> None:
    """All connections are reset, again and again; for a while none can be made."""
    for _ in range(3):
        for network in stage.networks.values():
            network.reset()
        _weather(stage, "refuse", stage.chance.uniform(0.2, 1.5))
        time.sleep(0.5)


def delay(stage: Stage) -> None:
    """Everything takes 50 to 300 ms longer, each way."""
    for network in stage.networks.values():
        network.delay_s = stage.chance.uniform(0.05, 0.3)
    time.sleep(6)
    for network in stage.networks.values():
        network.delay_s = 0.0


def pause_database(stage: Stage) -> None:
    """All processes of the primary stand still for seconds, as on a disk that hangs."""
    stage.pair.primary.pause(paused=True)
    time.sleep(stage.chance.uniform(3, 14))
    stage.pair.primary.pause(paused=False)


def restart_fast(stage: Stage) -> None:
    """The database restarts: whoever is connected is sent away."""
    _restart(stage, signal.SIGINT)


def restart_immediately(stage: Stage) -> None:
    """The database restarts without a checkpoint, and recovers from its log."""
    _restart(stage, signal.SIGQUIT)


def _restart(stage: Stage, how: signal.Signals) -> None:
    stage.pair.primary.stop(how)
    time.sleep(stage.chance.uniform(0.2, 3))
    stage.pair.primary.start()
    stage.counts[f"restarts by {how.name}"] += 1


def crowd_out(stage: Stage) -> None:
    """Others hold every connection that the database allows."""
    with stage.crowded():
        time.sleep(stage.chance.uniform(2, 5))


def fill_disk(stage: Stage) -> None:
    """The database's disk is full for seconds; where that ends the database, it is started again."""
    primary = stage.pair.primary
    with ExitStack() as stack:
        stack.callback(primary.make_room)
        if not primary.fill_disk():
            stage.counts["disks that cannot be filled here"] += 1
            return
        time.sleep(stage.chance.uniform(3, 6))
        stage.counts["full disks"] += 1
    if not primary.survives():
        primary.start()
        stage.counts["databases that a full disk ended"] += 1


def kill_bouncer(stage: Stage) -> None:
    """The pooler is killed and started again."""
    assert stage.bouncer is not None
    stage.bouncer.kill()
    time.sleep(stage.chance.uniform(0.2, 2))
    stage.bouncer.start()
    stage.counts["kills of pgbouncer"] += 1


STRAIGHT: Final[Mapping[str, Fault]] = {
    "processes killed": kill_processes,
    "a node killed": kill_a_node,
    "readers stopped": stop_readers,
    "failover": fail_over,
    "no standby": lose_the_standby,
    "network parted": part,
    "answers lost": mute,
    "answers cut off": cut_answers,
    "connections reset": reset,
    "network slow": delay,
    "database hangs": pause_database,
    "restart, fast": restart_fast,
    "restart, immediate": restart_immediately,
    "no connections left": crowd_out,
    "disk full": fill_disk,
}
BOUNCED: Final[Mapping[str, Fault]] = {
    "pgbouncer killed": kill_bouncer,
    **{
        name: STRAIGHT[name]
        for name in (
            "processes killed",
            "readers stopped",
            "network parted",
            "answers lost",
            "answers cut off",
            "connections reset",
            "database hangs",
            "restart, fast",
            "restart, immediate",
        )
    },
}
