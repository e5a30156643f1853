"""Floors: the same bytes with no logic at all, so that a figure says how much of the machine is used."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson

from mixdown.store.protocols import FoldResult, ProfileKey, State
from mixdown.store.sqlite import open_store

PROJECT = 1


def decode_and_append(folder: Path, bodies: Sequence[bytes], *, size: int, seconds: float) -> float:
    """Records/s of: decode a body, append its bytes to one file, fdatasync; one body at a time, one core."""
    records = 0
    began = time.perf_counter()
    with (folder / "floor.log").open("wb", buffering=0) as file:
        while time.perf_counter() - began < seconds:
            for body in bodies:
                orjson.loads(body)
                file.write(body)
                os.fdatasync(file.fileno())
                records += size
                if time.perf_counter() - began >= seconds:
                    break
    return records / (time.perf_counter() - began)


def upsert(folder: Path, source: State, batches: Iterable[Sequence[str]]) -> float:
    """Documents/s of upserting final documents with no logic: one transaction for each batch of ids.

    The documents are the server's own, in a store of their own, written through the very path that
    the fold writes through; each is changed by a byte first, since a row that keeps its bytes costs
    no page write.
    """
    ids = list(source.ids(PROJECT, ""))
    keys: list[ProfileKey] = [(PROJECT, "", profile_id) for profile_id in ids]
    stored = {key: doc for key, doc in zip(keys, source.documents(keys), strict=True) if doc is not None}
    store = open_store(folder / "floor", role="fold", create=True)
    try:
        store.state.write(FoldResult(0, sorted(stored.items()), [], 0))
        written = 0
        elapsed = 0.0
        for turn, batch in enumerate(batches):
            unique = sorted({(PROJECT, "", profile_id) for profile_id in batch} & stored.keys())
            rows = [(key, stored[key][:-1] + b',"turn":%d}' % (turn % 10)) for key in unique]
            began = time.perf_counter()
            store.state.write(FoldResult(0, rows, [], 0))
            elapsed += time.perf_counter() - began
            written += len(batch)
    finally:
        store.close()
    return written / elapsed if elapsed else 0.0
