"""Tokens, secrets, passwords."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest

from mixdown.store.credentials import new_password, new_secret, new_token, same, secret_hash


@pytest.mark.parametrize(("make", "digits"), [(new_token, 32), (new_secret, 64), (new_password, 64)])
def test_credentials_are_random_hexadecimal(make: Callable[[], str], digits: int) -> None:
    made = [make() for _ in range(100)]
    assert len(set(made)) == 100
    assert all(len(text) == digits and set(text) <= set("0123456789abcdef") for text in made)


def test_a_secret_is_kept_as_its_sha256() -> None:
    assert secret_hash("s3cret") == sha256(b"s3cret").digest()
    assert secret_hash("é") == sha256("é".encode()).digest()
    assert len(secret_hash("\ud800")) == 32, "nothing that a client sends makes it raise"


def test_hashes_are_compared_whole() -> None:
    assert same(secret_hash("a"), secret_hash("a"))
    assert not same(secret_hash("a"), secret_hash("b"))
    assert not same(secret_hash("a"), secret_hash("a")[:31])
    assert not same(b"", secret_hash("a"))
