"""`docs/limits.md` names every limit that can be set, with its default, and the constants as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mixdown.cli.transfer import asking, mixpanel
from mixdown.explorer import conditions, people
from mixdown.fold import identity as fold_identity
from mixdown.http import compression, exchange, ingestion, live, own, room
from mixdown.http.jsontext import DEAR_PARTS
from mixdown.ingest import commit, rows
from mixdown.model import identity, limits
from mixdown.query import choosing, engage, identities, listing, recent, refused
from mixdown.query.files import columns, parquet
from mixdown.query.live import arrivals, reader, tail
from mixdown.server import protocol, worker
from mixdown.settings import SETTINGS, Setting
from mixdown.store import bounds, sorting
from mixdown.store.sqlite import documents, scanning

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "limits.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| Limit |", "| ---"))
]
LIMITS = [
    setting
    for setting in SETTINGS
    if re.search(r"limit|timeout|reserve|_per_|_wait_|retention", setting.name)
]
MIB = 1024 * 1024


def row(limit: str) -> list[str]:
    (found,) = [cells for cells in ROWS if cells[0] == limit]
    return found


@pytest.mark.parametrize("setting", LIMITS, ids=lambda setting: setting.name)
def test_every_limit_that_can_be_set_has_a_row_with_its_default(setting: Setting) -> None:
    found = [cells for cells in ROWS if cells[2] == f"`{setting.name}`"]
    assert found, f"{setting.name} has no row"
    assert found[0][1].split()[0] == str(setting.default)


def test_the_page_names_no_setting_that_is_not_there() -> None:
    names = {setting.name for setting in SETTINGS}
    assert {cells[2].strip("`") for cells in ROWS if cells[2] != "-"} <= names


def test_every_row_says_what_happens_and_why() -> None:
    assert len(ROWS) > 40
    assert all(len(cells) == 5 and all(cells) for cells in ROWS)


@pytest.mark.parametrize(
    ("limit", "numbers"),
    [
        ("headers", [protocol.HEADER_COUNT_LIMIT]),
        ("listeners to what arrives, a worker", [tail.LISTENERS_LIMIT, tail.LISTENERS_OF_ONE]),
        ("what waits for a listener", [tail.QUEUE_MESSAGES, tail.QUEUE_BYTES // MIB]),
        (
            "records that a listener is sent a second",
            [live.DEFAULT_RATE, live.DEFAULT_RATE, live.RATE_LIMIT],
        ),
        ("records that are decoded for all listeners at a look, ten times a second", [reader.LOOK_RECORDS]),
        (
            "records that come to a listener who comes back",
            [reader.CAUGHT_UP_SHOWN, reader.CATCH_UP_RECORDS],
        ),
        ("a record that is sent to a listener", [live.MESSAGE_LIMIT_BYTES // 1024]),
        ("records that are counted where nobody counted before", [arrivals.BACK_RECORDS]),
        ("an expression", [limits.EXPRESSION_LIMIT_CHARS]),
        ("nesting of an expression", [limits.EXPRESSION_NESTING_LIMIT]),
        ("properties named in an expression", [limits.EXPRESSION_PROPERTIES_LIMIT]),
        ("`+` in an expression", [limits.EXPRESSION_SUMS_LIMIT, limits.VALUE_LIMIT_BYTES]),
        ("`Idempotency-Key`", [ingestion.IDEMPOTENCY_KEY_LIMIT_CHARS]),
        ("members of a gzip body", [compression._MEMBER_LIMIT]),
        ("bodies that a worker holds", [exchange.HELD_LIMIT_BYTES // MIB]),
        ("decoded text that waits for the disk", [room.DECODED_LIMIT_BYTES // MIB]),
        ("requests that wait for the log", [commit.WAITING_LIMIT_BYTES // MIB]),
        ("a record", [limits.Limits().record_limit_bytes // MIB]),
        (
            "lists, objects and names in a record of more than 256 KiB, in a body of more than 1 MiB",
            [DEAR_PARTS],
        ),
        ("nesting of a value", [limits.NESTING_LIMIT]),
        ("a property's name", [limits.NAME_LIMIT_CHARS]),
        ("properties of a profile", [limits.PROPERTIES_PER_PROFILE]),
        ("a list or object in a profile", [limits.VALUE_LIMIT_BYTES // 1024]),
        ("a whole profile", [limits.PROFILE_LIMIT_BYTES // MIB]),
        ("refusals of a project", [bounds.REFUSALS_PER_PROJECT, bounds.REFUSAL_BYTES_PER_PROJECT // MIB]),
        (
            "refusals whose token no project has",
            [bounds.REFUSALS_WITHOUT_PROJECT, bounds.REFUSAL_BYTES_WITHOUT_PROJECT // MIB],
        ),
        ("idempotency keys", [limits.KEY_WINDOW_MS // bounds.DAY_MS, bounds.KEYS_HELD]),
        (
            "keys of calls by browsers",
            [bounds.CALL_KEY_LIFE_MS // 60_000, bounds.CALL_KEYS_HELD],
        ),
        ("ids that become one by `$identify`, `$create_alias` and `$merge`", [identity.CLUSTER_LIMIT]),
        ("links that an unmerge undoes", [identity.LINKS_LIMIT]),
        ("ids, and links, of a person that are shown", [identities.SHOWN_LIMIT]),
        ("refusals of links about one device, anonymous id or alias", [fold_identity.TOLD_OF_ONE]),
        (
            "pairs of a device and a user that the fold remembers",
            [fold_identity.SETTLED_HELD, 2 * fold_identity.SETTLED_HELD],
        ),
        ("reads that a worker does at once", [worker.READ_THREADS]),
        ("reads beside them that filter, search, sort or count cohorts", [worker.SCAN_THREADS]),
        ("rows of a page", [engage.PAGE_SIZE_LIMIT]),
        ("profiles of a page of a list", [listing.LIMIT_LIMIT]),
        ("time that a list looks for a page", [listing.DEFAULT_LOOK_MS, listing.LOOK_LIMIT_MS]),
        ("profiles that a list looks at in one statement", [listing.MOST_ROWS]),
        ("first profiles of a sorted result that are found without sorting all", [sorting.FEW_LIMIT]),
        ("columns of a list", [people.COLUMNS_LIMIT]),
        ("conditions of a filter that are shown one by one", [conditions.ROWS_LIMIT]),
        ("ids in one query", [engage.IDS_LIMIT]),
        ("documents in one answer", [engage.ANSWER_LIMIT_BYTES // MIB]),
        ("documents read at once", [documents.FOUND_LIMIT_BYTES // MIB]),
        ("characters to search for", [choosing.SEARCH_LIMIT_CHARS]),
        ("ids that a filtered or sorted read holds in memory", [sorting.HELD_LIMIT_BYTES // MIB]),
        (
            "rows that a filter reads in one statement",
            [int(1000 * scanning.PIECE_S), scanning.PIECE_LIMIT_BYTES // MIB],
        ),
        ("cohorts of a project", [bounds.COHORTS_PER_PROJECT]),
        ("ids that a cohort lists", [bounds.COHORT_IDS]),
        ("indexes of a project", [bounds.INDEXES_PER_PROJECT]),
        (
            "query sessions of a project",
            [bounds.SESSIONS_PER_PROJECT, bounds.SESSION_LIFE_MS // bounds.DAY_MS],
        ),
        ("refusals in an answer", [own.RECORDS_LIMIT, refused.PAGE_LIMIT_BYTES // MIB]),
        ("records in an answer", [own.RECORDS_LIMIT]),
        ("a row of an import", [rows.ROW_LIMIT_BYTES // MIB]),
        ("rows that an import appends at once", [rows.BATCH_ROWS, rows.BATCH_BYTES // MIB]),
        ("properties with a column of their own", [columns.COLUMN_LIMIT]),
        ("memory for reading and writing Parquet", [parquet.MEMORY_LIMIT_MIB]),
        ("a page of a Mixpanel project", [mixpanel.REPLY_LIMIT_BYTES // MIB]),
        (
            "seconds that an import waits for Mixpanel's rate limit",
            [int(asking.LONGEST_ASKED_S), int(asking.WAIT_LIMIT_S)],
        ),
    ],
)
def test_what_cannot_be_set_is_as_the_page_says(limit: str, numbers: list[int]) -> None:
    assert [int(number) for number in re.findall(r"\d+", row(limit)[1])] == numbers


def test_the_records_that_are_looked_through_are_as_the_page_says() -> None:
    assert str(recent.SCAN_LIMIT_RECORDS) in row("records in an answer")[3]
