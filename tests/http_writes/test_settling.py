"""One answer that fails costs no other request of its commit anything."""

from __future__ import annotations

import asyncio
from typing import Any

from mixdown.ingest.commit import Pending, _settle_here
from mixdown.ingest.prepare import Prepared
from mixdown.store.chunk import Outcome


class Broken:
    """Somebody who waits, and cannot be told."""

    def done(self) -> bool:
        return False

    def set_result(self, outcome: Outcome, /) -> None:
        raise RuntimeError(outcome)


def test_an_answer_that_raises_leaves_the_others_theirs() -> None:
    async def settle() -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        outcome = Outcome(1, 1)
        broken: Any = Broken()
        group = [Pending(None, None, Prepared(None, outcome), 1, done) for done in (broken, future)]
        _settle_here(group, None)
        return await asyncio.wait_for(future, 1)

    assert asyncio.run(settle()) == Outcome(1, 1)
