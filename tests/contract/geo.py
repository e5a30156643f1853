"""The small GeoIP database of the contract's cases: two cities, one of them this machine's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]

BERLIN = {
    "$city": "Berlin",
    "$region": "Land Berlin",
    "$country_code": "DE",
    "$timezone": "Europe/Berlin",
}
LONDON = {
    "$city": "London",
    "$region": "England",
    "$country_code": "GB",
    "$timezone": "Europe/London",
}
CLIENT_IP = "203.0.113.9"
OTHER_IP = "81.2.69.160"
PLACES = {CLIENT_IP: BERLIN, OTHER_IP: LONDON, "127.0.0.1": BERLIN}


def _entry(place: dict[str, str]) -> dict[str, Any]:
    return {
        "city": {"names": {"en": place["$city"], "de": "nicht gefragt"}},
        "subdivisions": [{"iso_code": "XX", "names": {"en": place["$region"]}}],
        "country": {"iso_code": place["$country_code"], "names": {"en": "not asked"}},
        "location": {"latitude": 1.5, "time_zone": place["$timezone"]},
    }


def write_database(path: Path) -> Path:
    """Write the database in MaxMind's format."""
    writer = MMDBWriter(ip_version=4, database_type="Test-City")
    for ip, place in PLACES.items():
        writer.insert_network(IPSet([f"{ip}/32"]), _entry(place))
    writer.to_db_file(str(path))
    return path
