"""The bounds that every store keeps: refusals, idempotency keys, query sessions (DESIGN G2, G5, G7)."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Final

import msgspec

from mixdown.model.errors import CatalogError
from mixdown.model.values import clean_text
from mixdown.store.protocols import RefusalFilter, RefusedRecord

DAY_MS: Final = 24 * 3600 * 1000

REFUSALS_PER_PROJECT: Final = 10_000
REFUSAL_BYTES_PER_PROJECT: Final = 64 * 1024 * 1024
REFUSALS_WITHOUT_PROJECT: Final = 1_000
REFUSAL_BYTES_WITHOUT_PROJECT: Final = 8 * 1024 * 1024
_REFUSAL_OVERHEAD_BYTES: Final = 64

KEYS_HELD: Final = 50_000_000
# A bucket of keys goes whole: eighths of the bound, so that it costs at most an eighth of the window.
KEYS_PER_BUCKET: Final = KEYS_HELD // 8

CALL_KEY_BYTES: Final = 12
"""A browser's call is known by so many random bytes (`store.calls`); its key is asked for within a minute
and kept for no longer than `CALL_KEY_LIFE_MS`; a bound of their own keeps them from taking room from the
keys of retries."""
CALL_KEY_LIFE_MS: Final = 10 * 60 * 1000
CALL_KEYS_HELD: Final = 10_000_000
CALL_KEYS_PER_BUCKET: Final = CALL_KEYS_HELD // 8

SESSIONS_PER_PROJECT: Final = 100
INDEXES_PER_PROJECT: Final = 16
SESSION_LIFE_MS: Final = 7 * DAY_MS
SESSION_TOUCH_MS: Final = 60_000  # a session's last use is known to the minute


PRESET_ACCOUNT_FACT: Final = "preset_account"
"""The fact that names the account whose password a variable presets; b"": there is none."""
SESSIONS_ENDED: Final = 100
"""So many sessions of the explorer that one account signed out of are told apart."""
ALL_SESSIONS: Final = b""
"""Stands for all of an account's, once it has signed out of more."""

COHORTS_PER_PROJECT: Final = 1_000
COHORT_IDS: Final = 100_000


def check_cohorts(held: int) -> None:
    """Raises `CatalogError` where a project that holds so many cohorts may not have one more."""
    if held >= COHORTS_PER_PROJECT:
        raise CatalogError(
            f"a project has at most {COHORTS_PER_PROJECT} cohorts", hint="Delete one that is not used."
        )


def check_cohort_ids(count: int) -> None:
    """Raises `CatalogError` where a list of ids is too long for a cohort."""
    if count > COHORT_IDS:
        raise CatalogError(
            f"a cohort lists at most {COHORT_IDS} ids",
            hint="Mark these profiles with a property, and make a cohort of an expression.",
        )


def no_cohort(cohort_id: int) -> CatalogError:
    """The error about a cohort that a project does not have."""
    return CatalogError(f"there is no cohort {cohort_id}", hint="`mixdown cohort list` shows all.")


def lists_ids(cohort_id: int) -> CatalogError:
    """The error about an expression for a cohort that is a list."""
    return CatalogError(
        f"cohort {cohort_id} is a list of ids and has no expression", hint="Make another cohort."
    )


def refusal_bounds(project: int) -> tuple[int, int]:
    """How many refusals a project may keep, and how many bytes of them (0: no project has the token)."""
    if project == 0:
        return REFUSALS_WITHOUT_PROJECT, REFUSAL_BYTES_WITHOUT_PROJECT
    return REFUSALS_PER_PROJECT, REFUSAL_BYTES_PER_PROJECT


def refusal_bytes(refusal: RefusedRecord) -> int:
    """What a refusal counts for: its texts in UTF-8 and a little for the rest."""
    texts = (refusal.record, refusal.message, refusal.field, refusal.endpoint, refusal.sdk)
    return _REFUSAL_OVERHEAD_BYTES + sum(len(text.encode()) for text in texts)


def storable(refusal: RefusedRecord) -> RefusedRecord:
    """`refusal` with texts that every store can hold (no NUL, no lone surrogate)."""
    given = (refusal.record, refusal.message, refusal.field, refusal.sdk)
    record, message, field, sdk = cleaned = tuple(map(clean_text, given))
    if cleaned == given:
        return refusal
    return msgspec.structs.replace(refusal, record=record, message=message, field=field, sdk=sdk)


_ASCII_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def folded(text: str) -> str:
    """`text` with ASCII letters in lower case, as SQLite's `lower` has it."""
    return text.translate(_ASCII_LOWER)


def is_wanted(refusal: RefusedRecord, wanted: RefusalFilter) -> bool:
    """Whether a filter wants a refusal: what each store must decide likewise."""
    if wanted.messages is not None and refusal.message not in wanted.messages:
        return False
    if wanted.endpoint not in ("", refusal.endpoint) or wanted.field not in ("", refusal.field):
        return False
    if refusal.time_ms < wanted.since_ms or 0 < wanted.until_ms <= refusal.time_ms:
        return False
    texts = (refusal.record, refusal.message, refusal.field)
    return any(folded(wanted.text) in folded(text) for text in texts)


def newest_within(refusals: Sequence[RefusedRecord]) -> list[RefusedRecord]:
    """`refusals` without those that newer ones would push out of their project's bound at once."""
    left: dict[int, int] = {}
    kept = []
    for refusal in reversed(refusals):
        room = left.get(refusal.project)
        if room is None:
            room = refusal_bounds(refusal.project)[0]
        if room:
            kept.append(refusal)
        left[refusal.project] = room - 1 if room else 0
    kept.reverse()
    return kept
