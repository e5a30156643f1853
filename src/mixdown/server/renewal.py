"""Renewed certificates: taken into use when their files change, without a restart.

Settings enter; a TLS context leaves that always shows the newest certificate that is whole. It never gives
up a certificate that works for one that does not.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable

from mixdown.model.errors import SettingsError
from mixdown.server import logs
from mixdown.server.listening import certificate_end, tls_context
from mixdown.settings import Settings

_Files = tuple[tuple[int, int, int], ...]


class Renewal:
    """The TLS context of a worker: `look` once in a while, on the event loop.

    Handshakes begin with `context` and go on with the newest one: a context that is in use is never changed,
    since one whose key does not fit its certificate would answer nobody.
    """

    def __init__(
        self,
        settings: Settings,
        context: ssl.SSLContext,
        *,
        renewed: Callable[[float], None],
        seen: _Files,
    ) -> None:
        self._settings = settings
        self._renewed = renewed
        self._newest = context
        self._seen = seen  # as they were before `context` was made: a renewal since then is noticed
        self._refused = ""
        self.context = context
        context.sni_callback = self._choose  # OpenSSL calls it for clients that name no server as well

    @classmethod
    def of(cls, settings: Settings, *, renewed: Callable[[float], None]) -> Renewal | None:
        """For a server with TLS; `renewed` is told when the new certificate ends. Raises `SettingsError`."""
        seen = _files(settings)
        context = tls_context(settings)
        return None if context is None else cls(settings, context, renewed=renewed, seen=seen)

    def look(self) -> None:
        """Take the files into use if they have changed and fit each other; else try again next time."""
        files = _files(self._settings)
        if files == self._seen:
            return
        try:
            context = tls_context(self._settings)
            ends = certificate_end(self._settings)
        except SettingsError as error:
            # half of a renewal is there, or a file is away for a moment
            if error.message != self._refused:
                self._refused = error.message
                logs.warning("the changed certificate is not used", reason=error.message)
            return
        assert context is not None
        self._newest, self._seen, self._refused = context, files, ""
        self._renewed(ends)
        logs.info("the renewed certificate is in use")

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        del name, context
        connection.context = self._newest
        return None


def _files(settings: Settings) -> _Files:
    """What tells that a file was replaced or written; links are followed. Empty while one is missing."""
    try:
        found = [os.stat(path) for path in (settings.tls_cert, settings.tls_key)]  # noqa: PTH116
    except OSError:
        return ()
    return tuple((file.st_ino, file.st_mtime_ns, file.st_size) for file in found)
