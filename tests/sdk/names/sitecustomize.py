# ruff: noqa: INP001 - Python imports it by this name from a folder on its path, not as part of a package
"""Stands for a name server and a port: mixpanel.com and its hosts are MIXDOWN_TEST_PORT of this machine.

Nothing else changes: the client speaks TLS to the name that it means, and checks the certificate.
"""

import os
import socket
from typing import Any

_resolve: Any = socket.getaddrinfo


def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
    """Resolve as ever, but for Mixpanel's names."""
    if str(host) == "mixpanel.com" or str(host).endswith(".mixpanel.com"):
        return _resolve("127.0.0.1", int(os.environ["MIXDOWN_TEST_PORT"]), *arguments, **options)
    return _resolve(host, port, *arguments, **options)


socket.getaddrinfo = getaddrinfo
