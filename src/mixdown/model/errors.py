"""Every error that Mixdown raises on purpose, in one tree.

::

    MixdownError                  message (what was wrong), hint (what to do next)
    ├── SettingsError             a setting has a value that cannot be used
    ├── StoreError                the data folder cannot be used as it is
    │   ├── FolderBusyError       another server holds the folder
    │   ├── SchemaTooNewError     the folder was written by a newer Mixdown
    │   ├── ReadTimeoutError      a read that took longer than it may (503)
    │   ├── StoreDownError        the database cannot be reached, or cannot take this now: it passes by itself
    │   │   └── NodeDownError     likewise one node of a cluster; what lies on others can be asked
    │   ├── LeaseLostError        another process reads this partition of the log now
    │   ├── PartedError           ids were parted while an append was prepared: prepare it anew
    │   └── CorruptStoreError     a file or chunk is damaged, or a watermark is above the log's head
    ├── CatalogError              a project, account or token that cannot be made, found or changed
    ├── RequestError              a request that is answered with an HTTP error status
    │   ├── BodyError             the body cannot be read (400, 413)
    │   ├── AuthError             401 or 403
    │   ├── LookupTableError      a lookup table's CSV with rows that are wrong, and which (400)
    │   └── QueryError            a read that cannot be answered (400)
    │       └── ExpressionError   an expression that cannot be read, and where (400)
    ├── OverloadedError           503: come back after retry_after_s seconds
    └── RateLimitedError          429: a project's limit was reached; likewise
"""

from __future__ import annotations


class MixdownError(Exception):
    """Base of all: `message` says what was wrong and where, `hint` what to do next (may be empty)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class SettingsError(MixdownError):
    """A setting has a value that cannot be used."""


class StoreError(MixdownError):
    """The data folder cannot be used as it is."""


class FolderBusyError(StoreError):
    """Another server holds the data folder."""


class SchemaTooNewError(StoreError):
    """The data folder was written by a newer Mixdown."""


class CorruptStoreError(StoreError):
    """A file or chunk is damaged, or a watermark stands above the log's head."""


class ReadTimeoutError(StoreError):
    """A read took longer than it may (`read_timeout_s`): 503, without Retry-After."""

    @classmethod
    def after(cls, limit_s: float) -> ReadTimeoutError:
        """The error of a read that was ended after `limit_s` seconds."""
        return cls(f"this read took longer than {limit_s:g} s: ask for less, or for smaller pages")


class StoreDownError(StoreError):
    """The database cannot be reached, or cannot take this now: what was asked can be asked again."""


class NodeDownError(StoreDownError):
    """A node of the database's cluster cannot be reached: partitions on other nodes are none the worse."""


class LeaseLostError(StoreError):
    """Another process reads this partition of the log now: what this one wanted to write was not written."""


class PartedError(StoreError):
    """Ids were parted, by another process, while an append was prepared: prepare it anew and append that."""


class TooMuchAtOnceError(StoreError):
    """The documents asked for are more than may be held in memory at once: ask for fewer."""


class CatalogError(MixdownError):
    """A project, account or token that cannot be made, found or changed."""


class RequestError(MixdownError):
    """A request that is answered with the HTTP status `status`."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class BodyError(RequestError):
    """The body of a write cannot be read: 400 (broken gzip) or 413 (too large)."""


class AuthError(RequestError):
    """Missing or wrong credentials (401), or credentials without this right (403)."""


class LookupTableError(RequestError):
    """The CSV of a lookup table cannot be used: `failed` says of up to ten rows (index, message)."""

    def __init__(self, failed: tuple[tuple[int, str], ...]) -> None:
        super().__init__(
            "Some data points in the request failed validation.",
            status=400,
            hint="\n".join(f"row {index}: {message}" for index, message in failed),
        )
        self.failed = failed


class QueryError(RequestError):
    """A read that cannot be answered as asked: 400."""


class ExpressionError(QueryError):
    """An expression that cannot be read: `reason`, and `position`, in characters from its start (from 0)."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason}, at position {position}", status=400)
        self.reason = reason
        self.position = position


class OverloadedError(MixdownError):
    """The server cannot take more now; `retry_after_s` is in whole seconds (503)."""

    def __init__(self, message: str, *, retry_after_s: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class RateLimitedError(MixdownError):
    """A project has reached its `limit` ("records", "requests" or "queries"); seconds as above (429)."""

    def __init__(self, message: str, *, retry_after_s: int, limit: str, project: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.limit = limit
        self.project = project
