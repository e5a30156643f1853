"""The competitors do the work that they are measured by: each ends with the profiles that Mixdown has."""

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from bench import __main__ as bench
from bench import load, records, report, server
from bench.competitors import databases
from bench.competitors.part import COMPETITORS, Competitor, application
from bench.disk import PLAIN

pytestmark = pytest.mark.slow
PROFILES = 40
NEW = range(PROFILES, PROFILES + 5)
Profiles = dict[str, Any]


def pool() -> records.Pool:
    """Many records on few profiles, and some profiles that are new."""
    requests = records.pool(size=50, records=1000, profiles=PROFILES, keys="zipf", seed=1).requests
    return records.Pool(50, [*requests, *records.new_profiles(NEW.start, NEW.stop, size=50).requests])


def sent_in_order(port: int) -> None:
    """Send the pool over one connection, with the same salt each time."""
    same = pool()
    same._salt = b"01234567"
    load.send(port, same, connections=1)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder below which another user may work, as PostgreSQL does: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Profiles:
    """The profiles that Mixdown has after the pool."""
    folder = tmp_path_factory.mktemp("mixdown")
    server.place(folder / "data", 0, PROFILES)
    with server.serving(folder, {}) as running:
        sent_in_order(running.port)
        running.wait_until_folded()
        names = [records.profile_id(number) for number in range(NEW.stop)]
        documents = running.store.state.documents([(server.PROJECT, "", name) for name in names])
    return {name: json.loads(document or b"") for name, document in zip(names, documents, strict=True)}


def in_postgres(address: str) -> Profiles:
    """All profiles of a PostgreSQL."""

    async def read() -> Profiles:
        connection = await asyncpg.connect(address)
        rows = await connection.fetch("SELECT id, doc FROM profiles")
        await connection.close()
        return {row["id"]: json.loads(row["doc"]) for row in rows}

    return asyncio.run(read())


def in_redis(address: str) -> Profiles:
    """All profiles of a Redis; a list that became empty is an object there (bench/competitors)."""
    with redis.Redis(unix_socket_path=address) as client:
        found = {key.decode(): json.loads(client.get(key) or b"") for key in client.scan_iter()}
    return {
        name: {key: [] if value == {} else value for key, value in doc.items()} for name, doc in found.items()
    }


READ: dict[str, Callable[[str], Profiles]] = {
    "naive": in_postgres,
    "batched": in_postgres,
    "with_redis": in_redis,
}


@pytest.mark.parametrize("competitor", COMPETITORS, ids=lambda competitor: competitor.module)
def test_a_competitor_ends_with_the_same_profiles(
    competitor: Competitor, expected: Profiles, open_folder: Path
) -> None:
    try:
        with competitor.start(open_folder / "database", PLAIN) as address:
            competitor.fill(address, PROFILES)
            with application(competitor, competitor.variants[0], open_folder, address) as port:
                sent_in_order(port)
            found = READ[competitor.module](address)
    except databases.StartError:
        raise
    except databases.MissingError as reason:
        pytest.skip(f"{competitor.name}: {reason}")
    assert found == expected


def test_the_part_measures_each_competitor_or_says_why_not(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", open_folder / "results")
    tiny = ["--profiles", "400", "--records", "800", "--seconds", "0.2", "--folder", str(open_folder)]
    bench.main(["--only", "competitors", "--disks", "slow", "--save", "tiny", *tiny])
    result = json.loads((open_folder / "results" / "tiny.json").read_bytes())
    measured = result["disks"]["slow"]["competitors"]
    assert [cell["name"] for cell in measured] == [competitor.name for competitor in COMPETITORS]
    for cell in measured:
        if "missing" in cell:
            assert "did not start" not in cell["missing"]
            assert "failed" not in cell["missing"]
        else:
            assert all(shape["records_s"] > 0 for shape in cell["cells"])
