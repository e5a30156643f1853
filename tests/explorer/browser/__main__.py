"""`python -m tests.explorer.browser users profile`: run flows by name, or all; print what failed."""

import argparse
import sys
import tempfile
from pathlib import Path

import pytest

from tests.explorer.browser import FLOWS, SETTINGS, Browser
from tests.explorer.seed import seed
from tests.sdk.npm import clean_environment, find_chromium, npm_install
from tests.serving import servers_ended_together


def main(arguments: list[str]) -> int:
    """Run the flows; the number that failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.explorer.browser", description=__doc__)
    parser.add_argument("flows", nargs="*", metavar="FLOW", help="flows by name; all, where none is named")
    parser.add_argument("--slow", type=int, default=1, metavar="N", help="pages run N times slower")
    parser.add_argument("--latency", type=int, default=0, metavar="MS", help="each answer comes MS later")
    chosen = parser.parse_args(arguments)
    problem = npm_install()
    if problem:
        sys.exit(problem)
    flows = [FLOWS / f"{name}.mjs" for name in chosen.flows] or sorted(FLOWS.glob("*.mjs"))
    browser = Browser(find_chromium(), clean_environment())
    failed = 0
    folder = Path(tempfile.mkdtemp(prefix="mixdown-flows-"))
    with servers_ended_together(folder) as start:
        seeded = seed(start(environment=SETTINGS)).config()
        config = {**seeded, "slow": chosen.slow, "latency": chosen.latency}
        for flow in flows:
            try:
                print(flow.stem, *browser.run(flow, config, folder), "passed", sep="\n  ", flush=True)  # noqa: T201
            except pytest.fail.Exception as failure:
                failed += 1
                print(failure.msg, flush=True)  # noqa: T201
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
