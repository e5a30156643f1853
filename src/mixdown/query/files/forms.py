"""What form a file has. Texts and flags are made a `Form` by whoever asks for one."""

from __future__ import annotations

import msgspec

from mixdown.model.errors import MixdownError


class Form(msgspec.Struct, frozen=True):
    """`format` is ndjson, csv or parquet; `compression` none, gz or zst: for Parquet that of its pages."""

    format: str
    compression: str


class FormError(MixdownError):
    """A file that is not what its name or a flag says."""
