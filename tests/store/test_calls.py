"""The table of unanswered calls: which requests are one call, over processes that come and go (DESIGN G2)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixdown.store import calls
from mixdown.store.bounds import CALL_KEY_BYTES, CALL_KEY_LIFE_MS
from mixdown.store.calls import RESEND_WINDOW_MS, Call, CallTable, Verdict
from mixdown.store.protocols import State
from tests.store.support import DAY_MS, NOW_MS, key, write

# Another worker: it claims each digest that it is sent in hex, and says by a letter what came of it.
OTHER = """
import sys
from pathlib import Path
from mixdown.store.calls import Call, CallTable
table = CallTable(Path(sys.argv[1]))
for line in sys.stdin:
    digest, answered = line.split()
    found = table.claim(bytes.fromhex(digest), int(sys.argv[2]))
    if answered != "open" and isinstance(found, Call):
        table.settle(found, answered=answered == "answered")
    print(found.key.hex() if isinstance(found, Call) else found.name, flush=True)
"""


class Other:
    """A worker in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(folder), str(NOW_MS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def claim(self, digest: bytes, answered: str = "open") -> str:
        """Claim a call, and leave it open or settle it; the call's key in hex, or the verdict."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{digest.hex()} {answered}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        if self.process.returncode is not None:
            return
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[CallTable]:
    opened = CallTable(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def other(tmp_path: Path, table: CallTable) -> Iterator[Other]:
    del table  # it is there first
    started = Other(tmp_path)
    yield started
    started.kill()


def taken(found: Call | Verdict) -> Call:
    assert isinstance(found, Call), found
    return found


def test_requests_with_the_same_parts_and_no_others_have_the_same_digest(table: CallTable) -> None:
    assert table.digest(b"a", b"bc") == table.digest(b"a", b"bc")
    assert table.digest(b"a", b"bc") != table.digest(b"ab", b"c")
    assert len(table.digest()) == calls.DIGEST_BYTES


def test_all_workers_and_later_ones_make_the_same_digests(tmp_path: Path) -> None:
    digests = []
    for _ in range(2):
        opened = CallTable(tmp_path)
        digests.append(opened.digest(b"x"))
        opened.close()
    assert digests[0] == digests[1]


def test_an_answered_call_is_forgotten(table: CallTable) -> None:
    digest = table.digest(b"x")
    first = taken(table.claim(digest, NOW_MS))
    assert not first.again
    assert table.claim(digest, NOW_MS) is Verdict.WAIT
    table.settle(first, answered=True)
    second = taken(table.claim(digest, NOW_MS))
    assert not second.again
    assert second.key != first.key


def test_an_unanswered_call_comes_again_with_its_key_until_it_is_answered(table: CallTable) -> None:
    digest = table.digest(b"x")
    first = taken(table.claim(digest, NOW_MS))
    table.settle(first, answered=False)
    for _ in range(3):
        again = taken(table.claim(digest, NOW_MS + RESEND_WINDOW_MS))
        assert again.again
        assert again.key == first.key
        assert table.claim(digest, NOW_MS) is Verdict.WAIT
        table.settle(again, answered=False)
    table.settle(taken(table.claim(digest, NOW_MS)), answered=True)
    assert not taken(table.claim(digest, NOW_MS)).again


@pytest.mark.parametrize(("later_ms", "same"), [(RESEND_WINDOW_MS, True), (RESEND_WINDOW_MS + 1, False)])
def test_a_call_may_come_again_for_a_minute(table: CallTable, later_ms: int, *, same: bool) -> None:
    digest = table.digest(b"x")
    first = taken(table.claim(digest, NOW_MS))
    table.settle(first, answered=False)
    assert (taken(table.claim(digest, NOW_MS + later_ms)).key == first.key) is same


def test_the_minute_is_60_seconds() -> None:
    assert RESEND_WINDOW_MS == 60_000


def test_a_call_in_hand_is_waited_for_however_old_it_is(table: CallTable) -> None:
    digest = table.digest(b"x")
    taken(table.claim(digest, NOW_MS))
    assert table.claim(digest, NOW_MS + 10 * RESEND_WINDOW_MS) is Verdict.WAIT


def test_workers_see_each_others_calls(table: CallTable, other: Other) -> None:
    digest = table.digest(b"x")
    first = taken(table.claim(digest, NOW_MS))
    assert other.claim(digest) == "WAIT"
    table.settle(first, answered=False)
    assert other.claim(digest, "answered") == first.key.hex()
    assert not taken(table.claim(digest, NOW_MS)).again


def test_a_worker_that_dies_leaves_its_calls_unanswered_and_no_others(table: CallTable, other: Other) -> None:
    left, answered = table.digest(b"left"), table.digest(b"answered")
    left_key = other.claim(left)
    other.claim(answered, "answered")
    assert table.claim(left, NOW_MS) is Verdict.WAIT
    other.kill()
    again = taken(table.claim(left, NOW_MS))
    assert again.again
    assert again.key.hex() == left_key
    assert not taken(table.claim(answered, NOW_MS)).again


def test_a_new_worker_in_the_place_of_a_dead_one_does_not_bring_its_calls_to_life(
    tmp_path: Path, table: CallTable, other: Other
) -> None:
    digest = table.digest(b"x")
    left_key = other.claim(digest)
    other.kill()
    successor = Other(tmp_path)
    assert successor.claim(table.digest(b"y")) != "UNTRACKED"  # it has taken a slot by now
    again = taken(table.claim(digest, NOW_MS))
    assert again.key.hex() == left_key
    assert successor.claim(digest) == "WAIT"
    successor.kill()


def test_calls_outlive_a_whole_server(tmp_path: Path) -> None:
    before = CallTable(tmp_path)
    digest = before.digest(b"x")
    first = taken(before.claim(digest, NOW_MS))
    before.close()
    after = CallTable(tmp_path)
    assert taken(after.claim(digest, NOW_MS)).key == first.key
    after.close()


def test_a_full_bucket_forgets_the_oldest_cut_call_and_never_one_in_hand(table: CallTable) -> None:
    digests = [b"same" + bytes([number]) * 12 for number in range(calls.ENTRIES_PER_BUCKET + 1)]
    *some, last = digests
    held = [taken(table.claim(digest, NOW_MS + at)) for at, digest in enumerate(some)]
    assert table.claim(last, NOW_MS) is Verdict.UNTRACKED
    table.settle(held[3], answered=False)
    table.settle(held[2], answered=False)
    assert not taken(table.claim(last, NOW_MS)).again
    assert taken(table.claim(some[3], NOW_MS)).key == held[3].key
    assert table.claim(some[2], NOW_MS) is Verdict.UNTRACKED, "forgotten, and all others are in hand"
    table.settle(held[2], answered=True)  # its place is another's now
    assert table.claim(last, NOW_MS) is Verdict.WAIT


def test_a_file_that_is_none_of_ours_is_begun_afresh(tmp_path: Path) -> None:
    (tmp_path / calls.FILE_NAME).write_bytes(b"something else" * 100)
    table = CallTable(tmp_path)
    assert not taken(table.claim(table.digest(b"x"), NOW_MS)).again
    table.close()
    assert (tmp_path / calls.FILE_NAME).read_bytes().startswith(b"calls 01")


def test_the_file_is_private_and_small(tmp_path: Path, table: CallTable) -> None:
    for number in range(200):
        table.settle(taken(table.claim(table.digest(b"%d" % number), NOW_MS)), answered=True)
    found = (tmp_path / calls.FILE_NAME).stat()
    assert found.st_mode & 0o777 == 0o600
    assert found.st_size <= 4096 + calls.BUCKETS * calls.ENTRIES_PER_BUCKET * 48


def test_a_table_that_cannot_be_written_tracks_nothing(
    table: CallTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device", arguments)

    first = taken(table.claim(table.digest(b"x"), NOW_MS))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        assert table.claim(table.digest(b"y"), NOW_MS) is Verdict.UNTRACKED
        table.settle(first, answered=True)
    assert table.claim(table.digest(b"x"), NOW_MS) is Verdict.WAIT, "as it was"


def test_keys_of_calls_leave_the_state_after_ten_minutes_and_others_stay(state: State) -> None:
    call_key, other_key = b"c" * CALL_KEY_BYTES, key(1)
    write(state, keys=[(call_key, NOW_MS, None), (other_key, NOW_MS, None)])
    near = NOW_MS + CALL_KEY_LIFE_MS - 1
    write(state, keys=[(key(2), near, None)], now_ms=near)
    assert set(state.known_keys([call_key, other_key], since_ms=0)) == {call_key, other_key}
    late = NOW_MS + 3 * CALL_KEY_LIFE_MS
    write(state, keys=[(key(3), late, None)], now_ms=late)
    assert set(state.known_keys([call_key, other_key], since_ms=0)) == {other_key}
    assert late < NOW_MS + DAY_MS
