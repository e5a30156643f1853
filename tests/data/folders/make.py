"""Makes a data folder as the installed version of Mixdown leaves it when it is killed, for the upgrade tests.

`python tests/data/folders/make.py` drives a real server over HTTP: users, groups, refusals and retries are
sent and folded; then the fold is stopped, more records are sent, and all processes are killed. The databases
and their WALs go to a folder named after the version, beside `expected.json`, which says what must be read
from them after they are folded. Run it with the version that is about to be released; a folder that is there
is never made anew.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOKEN = "folder-token-0123456789abcdef0123"
SECRET = "5ec2e7" + "0" * 58
ACCOUNT = "keeper:" + "pa55" + "0" * 60
KEYED = {"Idempotency-Key": "import-7"}

FOLDED: list[tuple[str, list[dict[str, Any]]]] = [
    (
        "engage",
        [
            {"$distinct_id": "ann", "$set": {"plan": "free", "n": 1}},
            {"$distinct_id": "bob", "$set": {"n": 5}},
        ],
    ),
    (
        "engage",
        [{"$distinct_id": "ann", "$add": {"n": 2}}, {"$distinct_id": "ann", "$union": {"tags": ["a", "b"]}}],
    ),
    (
        "engage",
        [
            {"$distinct_id": f"u{number:03}", "$set": {"number": number, "pad": "x" * 200}}
            for number in range(300)
        ],
    ),
    ("groups", [{"$group_key": "Company", "$group_id": "Acme", "$set": {"seats": 3}}]),
    ("engage", [{"$distinct_id": "bob", "$delete": ""}, {"$distinct_id": "ünï-☃", "$set": {"naïve": "😀"}}]),
    ("engage", [{"$distinct_id": "ann", "$set": 5}]),
]
INSERTED = {"$distinct_id": "ann", "$add": {"once": 1}, "$insert_id": "visit-1"}
IMPORTED = [{"$distinct_id": "ann", "$add": {"imported": 10}}]
TAIL: list[tuple[str, list[dict[str, Any]]]] = [
    (
        "engage",
        [{"$distinct_id": "ann", "$set": {"plan": "paid"}}, {"$distinct_id": "late", "$append": {"l": 1}}],
    ),
    ("engage", [{"$distinct_id": "u000", "$add": {"number": 1000}}]),
    ("groups", [{"$group_key": "Company", "$group_id": "Late", "$set": {"seats": 1}}]),
]


def expected() -> dict[str, Any]:
    """What all of it comes to, worked out by hand: profiles without `$last_seen`."""
    users: dict[str, Any] = {f"u{number:03}": {"number": number, "pad": "x" * 200} for number in range(300)}
    users["u000"]["number"] = 1000
    users["ann"] = {"plan": "paid", "n": 3, "tags": ["a", "b"], "once": 1, "imported": 10}
    users["ünï-☃"] = {"naïve": "😀"}
    users["late"] = {"l": [1]}
    return {
        "token": TOKEN,
        "secret": SECRET,
        "account": ACCOUNT.partition(":")[0],
        "users": users,
        "groups": {"Company": {"Acme": {"seats": 3}, "Late": {"seats": 1}}},
        "refused": [{"$distinct_id": "ann", "$set": 5, "$token": TOKEN}],
        "keyed": {"key": KEYED["Idempotency-Key"], "records": with_token(IMPORTED)},
        "inserted": with_token([INSERTED]),
    }


def with_token(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records as they are sent."""
    return [{"$token": TOKEN, **record} for record in records]


def send(
    address: str, endpoint: str, records: list[dict[str, Any]], headers: dict[str, str] | None = None
) -> None:
    """One request, which must have been answered; that it was stored is for the tests to see."""
    body = json.dumps(with_token(records)).encode()
    told = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(f"{address}/{endpoint}?ip=0", body, told)
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.status == 200


def fold_pid(supervisor: int) -> int:
    """The fold's process, told by its command line or its environment."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "stat").exists():
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if (
                parent == supervisor
                and b"fold" in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            ):
                return int(entry.name)
    raise SystemExit("the fold's process was not found")


def position(data: Path) -> tuple[int, int]:
    """Watermark and head, asked of the files."""
    import apsw

    found = []
    for name, question in (
        ("state", "SELECT position FROM watermarks"),
        ("log", "SELECT position FROM head"),
    ):
        connection = apsw.Connection(str(data / f"{name}.db"), flags=apsw.SQLITE_OPEN_READONLY)
        found.append(connection.execute(question).get)
        connection.close()
    return found[0], found[1]


def fill(data: Path) -> None:
    """Run a server on a new folder, and kill it when it has an unfolded tail."""
    presets = {"MIXDOWN_TOKEN": TOKEN, "MIXDOWN_SECRET": SECRET, "MIXDOWN_ACCOUNT": ACCOUNT}
    command = [sys.executable, "-m", "mixdown", "serve", "--port", "0", "--data-dir", str(data)]
    server = subprocess.Popen(command, env={**os.environ, **presets}, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not (data / "server.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        address = json.loads((data / "server.json").read_bytes())["address"]
        for endpoint, records in FOLDED:
            send(address, endpoint, records)
        send(address, "engage", [INSERTED])
        send(address, "engage", IMPORTED, KEYED)
        while len(set(position(data))) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        fold = fold_pid(server.pid)
        os.kill(fold, signal.SIGSTOP)
        for endpoint, records in TAIL:
            send(address, endpoint, records)
        watermark, head = position(data)
        assert watermark < head
        os.kill(fold, signal.SIGKILL)
    finally:
        server.kill()
        server.wait()
    time.sleep(2)  # the children end by themselves


def main() -> None:
    """Make the folder of the installed version."""
    from mixdown import __version__

    target = HERE / __version__
    if target.exists():
        raise SystemExit(f"{target} is there already")
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        fill(data)
        target.mkdir()
        for name in ("log.db", "catalog.db", "state.db"):
            for file in (data / name, data / f"{name}-wal"):
                shutil.copyfile(file, target / file.name)
    text = json.dumps(expected(), indent=1, ensure_ascii=False)
    (target / "expected.json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {target}\n")


if __name__ == "__main__":
    main()
