"""`python -m tests.explorer.screenshots [PAGE…]`: pictures of the explorer's pages, for the documents.

A server of its own is filled with data that looks like a real product's; pictures leave, into
docs/screenshots: each page (or those named), light and dark, at a desktop's width and a phone's.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.explorer import pleasant, story
from tests.explorer.browser import PROGRAMS, Browser
from tests.explorer.seed import save_reports, seed
from tests.sdk.npm import NO_CHROMIUM, clean_environment, find_chromium, npm_install
from tests.serving import servers_ended_together

PICTURES: Final = Path(__file__).parents[2] / "docs" / "screenshots"
LIMIT_BYTES: Final = 100_000
SERVER: Final = {
    "MIXDOWN_STRING_LIMIT_BYTES": "0",
    "MIXDOWN_TOKEN": "7c1f0b5e9d3a4f62b8e07d915ac24e38",
    "MIXDOWN_ACCOUNT": "ada:a-password-for-pictures-alone-0123456789",
}


def main(arguments: list[str]) -> int:
    """Take the pictures; the number of those that are too large."""
    parser = argparse.ArgumentParser(prog="make screenshots", description=__doc__)
    parser.add_argument("pages", nargs="*", help="names of pages; all of them without")
    parser.add_argument("--folder", type=Path, default=PICTURES, help="where they go (docs/screenshots)")
    parser.add_argument("--png", type=Path, help="a folder for the same pictures as PNG")
    parser.add_argument("--hostile", action="store_true", help="with data that looks like an attack, too")
    asked = parser.parse_args(arguments)
    problem = npm_install() or ("" if find_chromium() else NO_CHROMIUM)
    if problem:
        sys.exit(problem)
    browser = Browser(find_chromium(), clean_environment())
    with tempfile.TemporaryDirectory(prefix="mixdown-pictures-") as name:
        folder = Path(name)
        with servers_ended_together(folder) as start:
            clock = story.Clock(folder / "clock")
            clock.set(-30 * pleasant.DAY_S)
            server = start(environment={**SERVER, **clock.environment()})
            story.play(server, clock, int(time.time()))
            seeded = seed(server, with_records=False, with_hostile=asked.hostile)
            config = {
                **seeded.config(),
                "dashboard": save_reports(server),
                "pictures": str(asked.folder.resolve()),
                "png": str(asked.png.resolve()) if asked.png else "",
                "only": asked.pages,
                "data": str(server.data_dir),
                "live": arriving(seeded.server.token),
            }
            browser.run(PROGRAMS / "screenshots.mjs", config, folder)
    large = [file for file in asked.folder.glob("*.webp") if file.stat().st_size > LIMIT_BYTES]
    for file in large:
        print(f"{file.name} has more than {LIMIT_BYTES:,} bytes")  # noqa: T201
    return len(large)


def arriving(token: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """What arrives while the live view is open: (path, records)."""
    now_s = int(time.time())
    source = random.Random(11)
    everyone = pleasant.people(now_s)
    sent: list[tuple[str, list[dict[str, Any]]]] = []
    for number in range(14):
        person = source.choice(everyone)
        event = pleasant.event(person, source, now_s, f"live-{number:03}")
        event["properties"]["token"] = token
        sent.append(("/track", [event]))
        if number % 3 == 0:
            change = {"$set": {"plan": person.plan}, "$add": {"tasks_done": 1}}
            sent.append(("/engage", [{"$token": token, "$distinct_id": person.id, **change}]))
    refused = {"$token": token, "$distinct_id": "user-0021", "$set": "plan=business"}
    sent.insert(8, ("/engage", [refused]))
    return sent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
