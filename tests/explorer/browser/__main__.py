"""`python -m tests.explorer.browser users profile`: run flows by name, or all; print what failed."""

import sys
import tempfile
from pathlib import Path

import pytest

from tests.explorer.browser import FLOWS, SETTINGS, Browser
from tests.explorer.seed import seed
from tests.sdk.npm import clean_environment, find_chromium, npm_install
from tests.serving import servers_ended_together


def main(names: list[str]) -> int:
    """Run the flows; the number that failed."""
    problem = npm_install()
    if problem:
        sys.exit(problem)
    flows = [FLOWS / f"{name}.mjs" for name in names] or sorted(FLOWS.glob("*.mjs"))
    browser = Browser(find_chromium(), clean_environment())
    failed = 0
    folder = Path(tempfile.mkdtemp(prefix="mixdown-flows-"))
    with servers_ended_together(folder) as start:
        config = seed(start(environment=SETTINGS)).config()
        for flow in flows:
            try:
                print(flow.stem, *browser.run(flow, config, folder), "passed", sep="\n  ")  # noqa: T201
            except pytest.fail.Exception as failure:
                failed += 1
                print(failure.msg)  # noqa: T201
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
