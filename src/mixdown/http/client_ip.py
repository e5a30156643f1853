"""The address a request came from, to locate and limit it; it is never stored (contract ingestion §10.3)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.requests import HTTPConnection

from mixdown.settings import Network, Settings

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_HOP_LIMIT: Final = 100


def client_ip(peer: str, forwarded_for: Iterable[bytes], real_ip: bytes, trusted: Sequence[Network]) -> str:
    """The client's address, "" where it cannot be told.

    That is the socket's peer; or, where the peer is a trusted proxy, the right-most hop of
    `X-Forwarded-For` that is none, else of `X-Real-IP`, which proxies fill with lists as well.
    """
    if not trusted:
        return peer
    address = _address(peer)
    if address is None or not _is_trusted(address, trusted):
        return peer
    for hops in (b",".join(forwarded_for), real_ip):
        for hop in reversed(hops.decode("latin-1").split(",")[-_HOP_LIMIT:]):
            if not hop.strip():
                continue
            address = _address(hop)
            if address is None:
                return ""  # what stands to the left of junk may be anyone's word
            if not _is_trusted(address, trusted):
                return str(address)
    return peer


def request_ip(request: HTTPConnection, settings: Settings) -> str:
    """The same of a request and the proxies that the settings trust."""
    peer = request.client.host if request.client else ""
    forwarded = [value.encode("latin-1") for value in request.headers.getlist("x-forwarded-for")]
    real = request.headers.get("x-real-ip", "").encode("latin-1")
    return client_ip(peer, forwarded, real, settings.trusted_networks())


def is_proxy(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether the socket's peer is a proxy whose word about its client is believed."""
    address = _address(peer) if trusted else None
    return address is not None and _is_trusted(address, trusted)


def _is_trusted(address: _Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _address(text: str) -> _Address | None:
    """An address as proxies write it: a port, brackets and an IPv4 address inside IPv6 are taken off."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
