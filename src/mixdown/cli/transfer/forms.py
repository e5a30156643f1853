"""What form a file of profiles has: its format, its compression, and how those follow from its name.

Enters: a file's name and flags. Leaves: a `Form`, and streams that compress and decompress on the way.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Final, Protocol

from mixdown.cli.output import Failure
from mixdown.query.files.forms import Form, FormError

STANDARD: Final = "-"
FORMATS: Final = ("ndjson", "csv", "parquet")
COMPRESSIONS: Final = ("none", "gz", "zst")
LAYOUTS: Final = ("columns", "json")
READ_BYTES: Final = 1 << 20

_SUFFIXES: Final = {".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson", ".csv": "csv"}
_GZIP_LEVEL: Final = 6
_ZSTD_LEVEL: Final = 3
_THREADS: Final = 2
_WAITING: Final = 4
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_ZSTD_WINDOW_BYTES: Final = 128 * 1024 * 1024
_ZSTD_AT_ONCE_BYTES: Final = 4096  # whose worst case unfolds to 128 MiB


class Writable(Protocol):
    """What compressed bytes go to."""

    def write(self, piece: bytes, /) -> object:
        """Write all of a piece."""

    def flush(self) -> None:
        """Hold nothing back."""


def form_of(file: str, file_format: str | None, compression: str | None) -> Form:
    """The form that a name and the flags `--format` and `--compression` mean. Raises `Failure`."""
    name = file.lower()
    packed = "none"
    for suffix in ("gz", "zst"):
        if name.endswith("." + suffix):
            packed, name = suffix, name.removesuffix("." + suffix)
    found = next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)
    if name.endswith((".parquet", ".pq")):
        found = "parquet"
        if packed != "none":
            raise Failure(
                f"{file}: Parquet is compressed inside, not as a whole",
                hint="Name it NAME.parquet; --compression says which compression its pages have.",
            )
        packed = "zst"
    form = Form(file_format or found or ("ndjson" if file == STANDARD else ""), compression or packed)
    if form.format == "parquet" and file_format and not found and compression is None:
        form = Form("parquet", "zst")
    if not form.format:
        raise Failure(
            f"{file}: the name does not say which format it has",
            hint="Name it .ndjson, .csv or .parquet, the first two also with .gz or .zst, or give --format.",
        )
    return form


class Packer:
    """Writes blocks to a stream, compressed each by itself in threads, in the order in which they came.

    A block is a gzip member or zstd frame of its own: what stands in the stream after `flush` can be read,
    and gone on with later.
    """

    def __init__(self, out: Writable, compression: str) -> None:
        self._out = out
        self._pack = _packer(compression)
        self._threads = ThreadPoolExecutor(_THREADS) if self._pack is not None else None
        self._waiting: deque[Future[bytes]] = deque()
        self.written_bytes = 0

    def write(self, block: bytes) -> None:
        """Write a block, or leave it to be compressed."""
        if self._threads is None or self._pack is None:
            self._put(block)
            return
        self._waiting.append(self._threads.submit(self._pack, block))
        if len(self._waiting) > _WAITING:
            self._put(self._waiting.popleft().result())

    def flush(self) -> None:
        """Write all that waits, out of the stream's own buffer as well."""
        while self._waiting:
            self._put(self._waiting.popleft().result())
        self._out.flush()

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def _put(self, piece: bytes) -> None:
        self._out.write(piece)
        self.written_bytes += len(piece)


def _packer(compression: str) -> Callable[[bytes], bytes] | None:
    if compression == "none":
        return None
    if compression == "gz":
        return _gzip_member
    import zstandard

    return lambda block: zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(block)


def _gzip_member(block: bytes) -> bytes:
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return packer.compress(block) + packer.flush()


def unpacked(source: IO[bytes], compression: str, name: str) -> Iterator[bytes]:
    """The bytes of a file or pipe, decompressed, in pieces of about a mebibyte. Raises `FormError`."""
    # what a pipe holds is taken at once, not when there is a whole mebibyte of it
    read: Callable[[int], bytes] = getattr(source, "read1", source.read)
    pieces = iter(lambda: read(READ_BYTES), b"")
    if compression == "gz":
        return _ungzipped(pieces, name)
    if compression == "zst":
        return _unzstd(pieces, name)
    return pieces


def _ungzipped(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    begun = False
    try:
        for packed in pieces:
            rest = packed
            while rest:
                if unpacker.eof:
                    unpacker, begun = zlib.decompressobj(_GZIP_WINDOW), False
                begun = True
                yield unpacker.decompress(rest, READ_BYTES)
                rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    except zlib.error as error:
        raise FormError(f"{name} is no gzip file, or a damaged one: {error}") from error
    if begun and not unpacker.eof:
        raise FormError(f"{name} ends in the middle: it was cut off while it was written or copied")


def _unzstd(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    import zstandard

    reader: Any = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    unpacker: Any = None
    try:
        for packed in pieces:
            for begin in range(0, len(packed), _ZSTD_AT_ONCE_BYTES):
                rest = packed[begin : begin + _ZSTD_AT_ONCE_BYTES]
                while rest:
                    if unpacker is None or unpacker.eof:
                        unpacker = reader.decompressobj()
                    yield unpacker.decompress(rest)
                    rest = unpacker.unused_data if unpacker.eof else b""
    except zstandard.ZstdError as error:
        raise FormError(f"{name} is no zstd file, or a damaged one: {error}") from error
    if unpacker is not None and not unpacker.eof:
        raise FormError(f"{name} ends in the middle: it was cut off while it was written or copied")
