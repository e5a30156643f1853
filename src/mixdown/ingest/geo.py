"""Geolocation: an IP address in, the properties that a database knows about it out.

Contract ingestion §10. Without a database of your own a small country database answers, which
comes with Mixdown. A lookup never raises, and no address is kept.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import iptocc
import maxminddb

from mixdown.model.errors import SettingsError


class Geo(Protocol):
    """Something that knows where an address is."""

    def lookup(self, ip: str) -> dict[str, str]:
        """`$city`, `$region`, `$country_code`, `$timezone`, those that are known; {} for none."""


class CountryGeo:
    """The built-in database: countries only, from the registries' allocation tables."""

    @lru_cache(maxsize=4096)  # noqa: B019 - one instance lives as long as its process
    def lookup(self, ip: str) -> dict[str, str]:
        """`$country_code` of a public address."""
        try:
            country = iptocc.country_code(ip)
        except ValueError:
            return {}
        return {"$country_code": country} if country else {}


class MaxMindGeo:
    """Any database in MaxMind's format: city level where the file has it."""

    def __init__(self, path: Path) -> None:
        try:
            self._reader = maxminddb.open_database(path, maxminddb.MODE_AUTO)
        except (OSError, maxminddb.InvalidDatabaseError, ValueError) as error:
            raise SettingsError(
                f"geo_database: {path} cannot be read as a MaxMind database: {error}",
                hint="Point MIXDOWN_GEO_DATABASE at a .mmdb file, or leave it empty for countries only.",
            ) from error

    @lru_cache(maxsize=4096)  # noqa: B019 - one instance lives as long as its process
    def lookup(self, ip: str) -> dict[str, str]:
        """What the file says about an address."""
        try:
            found = self._reader.get(ip)
        except (ValueError, maxminddb.InvalidDatabaseError):
            return {}
        if not isinstance(found, dict):
            return {}
        subdivisions = found.get("subdivisions")
        region = subdivisions[0] if isinstance(subdivisions, list) and subdivisions else None
        location = found.get("location")
        known = {
            "$city": _name(found.get("city")),
            "$region": _name(region),
            "$country_code": _text(found.get("country"), "iso_code")
            or _text(found.get("registered_country"), "iso_code"),
            "$timezone": _text(location, "time_zone"),
        }
        return {name: value for name, value in known.items() if value}


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _name(value: Any) -> str:
    return _text(value.get("names"), "en") if isinstance(value, dict) else ""


def open_geo(path: str) -> Geo:
    """The database at `path`, or the built-in one where `path` is empty. Raises `SettingsError`."""
    return MaxMindGeo(Path(path)) if path else CountryGeo()


def valid_ip(value: Any) -> str:
    """`value` as an address to look up, or "" where it is none (`"0"`, 0, "" and junk: no lookup).

    An IPv6 zone (`fe80::1%eth0`), whose text has no limit, means an address that is nowhere.
    """
    if type(value) is not str or "%" in value:
        return ""
    try:
        return str(ipaddress.ip_address(value.strip()))
    except ValueError:
        return ""
