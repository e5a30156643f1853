"""Load profiles from newline-delimited JSON into a server, read all of them back, and compare.

    python examples/load_profiles.py --token TOKEN --secret SECRET users.ndjson.gz groups.ndjson.gz

Each line is `{"$distinct_id": …, "$properties": {…}}` for a user, or for a group
`{"$group_key": …, "$group_id": …, "$properties": {…}}`; a file whose name ends in .gz is unpacked.
Profiles go to /engage and /groups as `$set` records, 2,000 in a request, and come back page by page
through /api/query/engage. `--check` leaves out the writing. Exit code 0 means that every profile came
back equal, but for strings that were cut. Only the standard library is used: copy the file, change it.
"""

import argparse
import base64
import gzip
import http.client
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

RECORDS_PER_REQUEST = 2000
PAGE_SIZE = 1000
TIMEOUT_S = 120
SHOWN_DIFFERENCES = 5
ADDED_BY_THE_SERVER = ("$last_seen",)

Properties = dict[str, Any]
Profiles = dict[str, Properties]


@dataclass
class Server:
    """A connection to a Mixdown server, with what it takes to write and to read."""

    url: str
    token: str
    credentials: str
    project_id: int

    def __post_init__(self) -> None:
        """Open the connection."""
        address = urlsplit(self.url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        assert address.hostname, f"--url {self.url} names no host"
        self.connection = kind(address.hostname, address.port, timeout=TIMEOUT_S)

    def request(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Any:
        """Send a request and return the JSON of the answer; end the program where it is an error."""
        self.connection.request(method, target, body or None, dict(headers))
        response = self.connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            path = target.partition("?")[0]
            sys.exit(f"{method} {path}: HTTP {response.status}: {answer.decode(errors='replace')}")
        return json.loads(answer)

    def write(self, endpoint: str, records: list[Properties]) -> None:
        """Store one batch; `ip=0` asks for no geolocation."""
        body = json.dumps(records, ensure_ascii=False).encode()
        answer = self.request(
            "POST", f"/{endpoint}?verbose=1&ip=0", body, {"Content-Type": "application/json"}
        )
        if answer["status"] != 1:
            sys.exit(f"/{endpoint} refused a whole batch: {answer['error']}")

    def read(self, group_key: str) -> Iterator[tuple[str, Properties]]:
        """Every profile of the project's users ("") or of one group key, page by page."""
        headers = {"Authorization": "Basic " + base64.b64encode(self.credentials.encode()).decode()}
        parameters: dict[str, Any] = {"page_size": PAGE_SIZE, "page": 0}
        if group_key:
            parameters["data_group_id"] = group_key
        if self.project_id:
            parameters["project_id"] = self.project_id
        while True:
            answer = self.request("GET", "/api/query/engage?" + urlencode(parameters), b"", headers)
            for row in answer["results"]:
                yield row["$distinct_id"], row["$properties"]
            if len(answer["results"]) < answer["page_size"]:
                return
            parameters["page"] += 1
            parameters["session_id"] = answer["session_id"]


@dataclass
class Tally:
    """How the profiles of one kind compare."""

    equal: int = 0
    cut: int = 0
    missing: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        """Whether anything is not as it was sent."""
        return bool(self.missing or self.different)


def lines_of(path: Path) -> Iterator[Properties]:
    """The rows of a file."""
    unpack = gzip.open if path.suffix == ".gz" else open
    with unpack(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def rows_by_kind(paths: Sequence[Path]) -> dict[str, Profiles]:
    """The profiles of all files, by group key ("" for users) and id."""
    kinds: dict[str, Profiles] = {}
    for path in paths:
        for row in lines_of(path):
            group_key = row.get("$group_key", "")
            profile_id = row["$group_id"] if group_key else row["$distinct_id"]
            kinds.setdefault(group_key, {})[profile_id] = row["$properties"]
    return kinds


def record(token: str, group_key: str, profile_id: str, properties: Properties) -> Properties:
    """The `$set` record that stores a profile."""
    ids = {"$group_key": group_key, "$group_id": profile_id} if group_key else {"$distinct_id": profile_id}
    return {"$token": token, **ids, "$set": properties}


def load(server: Server, group_key: str, profiles: Profiles) -> None:
    """Send profiles in batches, telling how far it is."""
    records = (record(server.token, group_key, profile_id, given) for profile_id, given in profiles.items())
    sent = 0
    began = time.perf_counter()
    while batch := list(islice(records, RECORDS_PER_REQUEST)):
        server.write("groups" if group_key else "engage", batch)
        sent += len(batch)
        print(f"{named(group_key)}: {sent:,} of {len(profiles):,} stored", file=sys.stderr)
    print(f"{named(group_key)}: sent in {time.perf_counter() - began:.2f} s", file=sys.stderr)


def named(group_key: str) -> str:
    """What profiles of a kind are called."""
    return f"groups of {group_key}" if group_key else "users"


def text_of(properties: Properties) -> str:
    """One spelling for equal properties: numbers as they are, keys in order."""
    return json.dumps(properties, sort_keys=True, ensure_ascii=False)


def cut(value: Any, limit_bytes: int) -> Any:
    """A value with its strings cut to `limit_bytes` of UTF-8 on a character boundary, as the server does."""
    if isinstance(value, str):
        return value.encode()[:limit_bytes].decode(errors="ignore")
    if isinstance(value, list):
        return [cut(item, limit_bytes) for item in value]
    if isinstance(value, dict):
        return {name: cut(item, limit_bytes) for name, item in value.items()}
    return value


def compare(given: Profiles, found: Profiles, limit_bytes: int) -> Tally:
    """Count the profiles that came back equal, equal but for cut strings, different, or not at all."""
    tally = Tally()
    for profile_id, properties in given.items():
        stored = found.get(profile_id)
        if stored is None:
            tally.missing.append(profile_id)
            continue
        own = {name: value for name, value in stored.items() if name not in ADDED_BY_THE_SERVER}
        if text_of(own) == text_of(properties):
            tally.equal += 1
        elif limit_bytes and text_of(own) == text_of(cut(properties, limit_bytes)):
            tally.cut += 1
        else:
            tally.different.append(profile_id)
    return tally


def report(group_key: str, given: Profiles, tally: Tally, limit_bytes: int) -> None:
    """Print what came of one kind of profiles."""
    print(f"{named(group_key)}: {len(given):,} sent, {tally.equal:,} equal as sent", end="")
    print(f", {tally.cut:,} equal with strings cut to {limit_bytes} bytes" if tally.cut else "", end="")
    print(f", {len(tally.different):,} different, {len(tally.missing):,} missing")
    for what, ids in (("different", tally.different), ("missing", tally.missing)):
        for profile_id in ids[:SHOWN_DIFFERENCES]:
            print(f"  {what}: {profile_id}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Load profiles into a Mixdown server, read them back, compare."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="ndjson, or ndjson.gz")
    parser.add_argument("--url", default="http://127.0.0.1:6493", help="the server (default: %(default)s)")
    parser.add_argument("--token", required=True, help="the project's token")
    access = parser.add_mutually_exclusive_group(required=True)
    access.add_argument("--secret", help="the project's secret, to read back")
    access.add_argument("--account", metavar="USER:PASSWORD", help="or a service account, with --project-id")
    parser.add_argument("--project-id", type=int, default=0, help="the project that an account reads")
    parser.add_argument(
        "--string-limit", type=int, default=255, metavar="BYTES", help="the server's (default: 255)"
    )
    parser.add_argument("--check", action="store_true", help="write nothing: only read back and compare")
    return parser.parse_args()


def main() -> None:
    """Load, read back, compare."""
    options = arguments()
    server = Server(options.url, options.token, options.account or f"{options.secret}:", options.project_id)
    failed = False
    for group_key, given in rows_by_kind(options.files).items():
        if not options.check:
            load(server, group_key, given)
        tally = compare(given, dict(server.read(group_key)), options.string_limit)
        report(group_key, given, tally, options.string_limit)
        failed = failed or tally.bad
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
