"""A network that parts: a TCP proxy on loopback, in a thread of its own, that tests tell what to do.

Enters: a port, and what befalls the connections through it. Leaves: another port. What it swallows is lost
for good, as in a network that is not there any more: such a connection never says another word.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Final, Literal

Weather = Literal["clear", "swallow", "mute", "refuse", "cut"]
"""clear: bytes pass. swallow: nothing passes, either way, and nobody is told. mute: what clients send
arrives, and no answer does. refuse: whoever connects is reset. cut: answers are cut off by a reset, after
what was asked has been done."""
_READ_BYTES: Final = 1 << 16
_LOOK_S: Final = 0.02


class Network:
    """What lies before one port. `weather` and `delay_s` may be set at any time, from any thread."""

    def __init__(self, port: int) -> None:
        self.weather: Weather = "clear"
        self.delay_s = 0.0
        self.counts: Counter[str] = Counter()
        self._server_port = port
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(200)
        self.port = int(self._listener.getsockname()[1])
        self._closing = threading.Event()
        self._pairs: list[_Pair] = []
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Reset every connection that there is."""
        with self._guard:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.reset()
        self.counts["connections reset"] += len(pairs)

    def close(self) -> None:
        """End all connections, and listen no more."""
        self._closing.set()
        self._thread.join()
        self._listener.close()
        with self._guard:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.thread.join()

    def is_closing(self) -> bool:
        """Whether it is over."""
        return self._closing.is_set()

    def _accept(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._listener], [], [], _LOOK_S)[0]:
                continue
            client, _ = self._listener.accept()
            if self.weather == "refuse":
                _reset(client)
                self.counts["connections refused"] += 1
                continue
            pair = _Pair(self, client, self._server_port)
            with self._guard:
                self._pairs = [each for each in self._pairs if each.thread.is_alive()]
                self._pairs.append(pair)
                pair.thread.start()


class _Pair:
    """One connection through the proxy."""

    def __init__(self, network: Network, client: socket.socket, port: int) -> None:
        self._network = network
        self._client = client
        self._port = port
        self._is_lost = False
        self._is_reset = False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def reset(self) -> None:
        """Reset both ends, soon."""
        self._is_reset = True

    def _run(self) -> None:
        server = socket.socket()
        with self._client, server, suppress(OSError):
            for end in (self._client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._network.weather != "swallow":
                server.connect(("127.0.0.1", self._port))
            else:
                self._is_lost = True
            self._pass_on(server)

    def _pass_on(self, server: socket.socket) -> None:
        ends = {self._client: server, server: self._client}
        while not self._network.is_closing():
            if self._is_reset:
                _reset(self._client)
                _reset(server)
                return
            if self._is_lost:  # open at both ends, and nothing is heard any more
                time.sleep(_LOOK_S)
                continue
            for ready in select.select(list(ends), [], [], _LOOK_S)[0]:
                data = ready.recv(_READ_BYTES)
                if not data:
                    return
                if not self._falls(ready is server):
                    if self._network.delay_s:
                        time.sleep(self._network.delay_s)
                    ends[ready].sendall(data)

    def _falls(self, is_answer: bool) -> bool:
        """Whether what was read goes no further."""
        weather = self._network.weather
        if weather == "swallow" or (weather == "mute" and is_answer):
            self._is_lost = True
            self._network.counts["connections swallowed"] += 1
        elif weather == "cut" and is_answer:
            self._is_reset = True
            self._network.counts["answers cut off"] += 1
        return self._is_lost or self._is_reset


def _reset(end: socket.socket) -> None:
    """Close with a reset, as a firewall does that has forgotten a connection."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
