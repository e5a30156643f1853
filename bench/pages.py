"""`python -m bench.pages`: the explorer's pages in Chromium, over a million profiles and five million events.

One server, the browser beside it on the same cores. For each page: first byte, and time until all of it is
shown, as the page itself sees them; the bytes of a first visit; and the frames that the live view draws while
records come in. Profiles are placed through the fold's writing path, events come by `/import`.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench import load, machine, records, report
from bench import server as servers
from bench.event_lines import imports
from bench.progress import say
from tests.sdk.npm import FLAGS, NO_CHROMIUM, clean_environment, find_chromium, npm_install

ACCOUNT: Final = ("bench.mp-service-account", "bench-password-of-thirty-two-letters")
PROGRAM: Final = Path(__file__).with_suffix(".mjs")
PEOPLE: Final = {
    "ada": records.profile_id(42),
    "company": "company 42",
    "event": "page view",
}
COMPANIES: Final = 5000
LIVE_RECORDS_S: Final = (1000, 5000)
LIVE_REQUEST_RECORDS: Final = 50
LIVE_LEAD_S: Final = 3.0
EVENTS_AT_ONCE: Final = 100_000
EVENTS_A_REQUEST: Final = 2000
DAYS: Final = 30
READ_LIMIT_S: Final = 1800.0
END_MS: Final = 1 << 46


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and keep the result where asked to."""
    chosen = _options(arguments)
    problem = npm_install() or ("" if find_chromium() else NO_CHROMIUM)
    if problem:
        sys.exit(problem)
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        result: dict[str, Any] = {
            "machine": machine.facts(folder) | {"chromium": _chromium_version()},
            "options": {"profiles": chosen.profiles, "events": chosen.events, "rounds": chosen.rounds},
        }
        say(f"placing {chosen.profiles:,} profiles")
        servers.place(folder / "data", 0, chosen.profiles)
        with servers.serving(folder, {"MIXDOWN_ACCOUNT": ":".join(ACCOUNT)}) as running:
            _fill(running, chosen)
            measure(running, folder, chosen, result)
    print(report.pages(result))
    if chosen.save:
        say(f"kept in {report.save_pages(chosen.save, result)}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=7, help="warm visits of each page (7)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of the live view at each rate (15)")
    parser.add_argument("--folder", type=Path, help="where to measure: a temporary folder is made in it")
    parser.add_argument(
        "--save", nargs="?", const="pages", default="", metavar="NAME", help="keep the results"
    )
    return parser.parse_args(arguments)


def _fill(running: servers.Server, chosen: argparse.Namespace) -> None:
    """Groups and events over HTTP, until everything is folded, stored, merged and counted."""
    for start in range(0, COMPANIES, 1000):
        rows = [
            {
                "$token": records.TOKEN,
                "$group_key": "company",
                "$group_id": f"company {number}",
                "$set": {"$name": f"Company {number}", "seats": number % 300},
            }
            for number in range(start, start + 1000)
        ]
        _post(running, "/groups", json.dumps(rows))
    say(f"importing {chosen.events:,} events")
    head = (
        f"POST /import?project_id={servers.PROJECT} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Basic {_credentials(servers.SECRET, '')}\r\nContent-Type: application/json\r\n"
    )
    last_ms = int(time.time() * 1000)
    found = imports(chosen.events, last_ms=last_ms, days=DAYS, user=records.profile_id, size=EVENTS_A_REQUEST)
    waiting: list[bytes] = []
    for body in found:
        waiting.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        if len(waiting) * EVENTS_A_REQUEST >= EVENTS_AT_ONCE:
            load.send(running.port, records.Pool(EVENTS_A_REQUEST, waiting), connections=2)
            waiting = []
    if waiting:
        load.send(running.port, records.Pool(EVENTS_A_REQUEST, waiting), connections=2)
    say("until all is folded, stored and counted")
    began = time.perf_counter()
    while _status(running)["behind"] or running.store.state.uncounted():
        if time.perf_counter() - began > READ_LIMIT_S:
            raise RuntimeError("the readers of the log did not catch up")
        time.sleep(0.5)
    say("until files are split into days")
    while _recent_files(running):
        if time.perf_counter() - began > READ_LIMIT_S:
            raise RuntimeError("files of events were not split into days")
        time.sleep(0.5)
    time.sleep(10)  # files of a day are merged when the reader is idle


def _recent_files(running: servers.Server) -> int:
    """How many files are not of a day yet: those of what came in the last minute or two."""
    parts = running.store.events.parts(servers.PROJECT, 0, END_MS)
    return sum(file.day is None for file in parts.files)


def measure(
    running: servers.Server, folder: Path, chosen: argparse.Namespace, result: dict[str, Any]
) -> None:
    """Visit the pages, then watch the live view, into `result`."""
    say("the pages")
    result["pages"] = json.loads(_browse(running, folder, {"rounds": chosen.rounds}).communicate()[0])
    result["live"] = []
    for rate in LIVE_RECORDS_S:
        say(f"the live view at {rate:,} records/s")
        with _browse(running, folder, {"live": chosen.seconds}) as browsing:
            assert browsing.stdout is not None
            assert browsing.stdout.readline() == b"ready\n"
            pool = records.pool(
                size=LIVE_REQUEST_RECORDS, records=50_000, profiles=chosen.profiles, keys="zipf", seed=rate
            )
            sent = load.send(
                running.port,
                pool,
                connections=8,
                seconds=chosen.seconds + LIVE_LEAD_S,
                records_s=rate,
                stop=lambda: browsing.poll() is not None,
            )
            seen = json.loads(browsing.communicate()[0])
        result["live"].append({"offered_records_s": rate, **seen, "load": sent.figures()})


def _browse(running: servers.Server, folder: Path, more: dict[str, Any]) -> subprocess.Popen[bytes]:
    """The program that drives Chromium; its last line is its result."""
    config = {
        "url": f"http://127.0.0.1:{running.port}",
        "project": servers.PROJECT,
        "people": PEOPLE,
        "account": ACCOUNT,
        "chromium": find_chromium(),
        "flags": FLAGS,
        **more,
    }
    given = folder / "pages.json"
    given.write_text(json.dumps(config))
    return subprocess.Popen(
        ["node", str(PROGRAM), str(given)],  # noqa: S607 - node is on the path
        stdout=subprocess.PIPE,
        env=clean_environment(),
    )


def _chromium_version() -> str:
    told = subprocess.run([find_chromium(), "--version"], capture_output=True, text=True, check=False)
    return told.stdout.strip()


def _credentials(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _post(running: servers.Server, path: str, body: str) -> None:
    address = f"http://127.0.0.1:{running.port}{path}?ip=0"
    request = urllib.request.Request(address, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:  # noqa: S310 - our own server
        assert reply.read() == b"1", path


def _status(running: servers.Server) -> dict[str, Any]:
    address = f"http://127.0.0.1:{running.port}/api/mixdown/status"
    headers = {"Authorization": f"Basic {_credentials(*ACCOUNT)}", "X-Mixdown-Wait": "0"}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as reply:
        found: dict[str, Any] = json.loads(reply.read())["results"]
        return found


if __name__ == "__main__":
    main()
