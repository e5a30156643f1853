"""Whether a password that somebody chooses is one that others will not guess. Pure.

A password and a name enter; what is wrong with it leaves, "" where nothing is.
"""

from __future__ import annotations

import re
from typing import Final

from mixdown.http.passwords import PASSWORD_LIMIT_CHARS

SHORTEST: Final = 12
_DIFFERENT: Final = 6
_LEFT: Final = 8
_COMMON: Final = tuple(
    """
    password passwort letmein welcome mixdown mixpanel qwertzuiop qwertyuiop qwerty asdfghjkl zxcvbnm iloveyou
    changeme secret admin dragon monkey football master sunshine princess abc123 1q2w3e4r trustno1 whatever
    superman batman hello login
    """.split()  # noqa: SIM905 - a list of words is read more easily so
)
_ROWS: Final = ("0123456789", "9876543210", "abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba")
_RUN: Final = 4


def weakness(password: str, username: str) -> str:
    """What is wrong with a new password, in words for who chose it."""
    if len(password) < SHORTEST:
        return f"Choose a longer one: {SHORTEST} characters at least. Four or five words do well."
    if len(password) > PASSWORD_LIMIT_CHARS:
        return f"Choose a shorter one: {PASSWORD_LIMIT_CHARS} characters at most."
    if len(set(password.casefold())) < _DIFFERENT:
        return "Choose another one: this repeats a few characters."
    if len(_unexpected(password.casefold(), username.casefold())) < _LEFT:
        return "Choose another one: this is made of what everybody tries first, or of the account's name."
    return ""


def _unexpected(password: str, username: str) -> str:
    """What is left of a password without names, words and rows of keys that are guessed first."""
    for word in (username, *re.findall(r"\w{3,}", username), *_COMMON):
        password = password.replace(word, "")
    left, place = "", 0
    while place < len(password):
        length = _run(password[place:])
        left += password[place : place + 1]
        place += length
    return re.sub(r"(.{1,4}?)\1+", r"\1", left)


def _run(text: str) -> int:
    """How many characters at the start are in a row that everybody knows; 1 where they are in none."""
    for length in range(min(len(text), 26), _RUN - 1, -1):
        if any(text[:length] in row for row in _ROWS):
            return length
    return 1
