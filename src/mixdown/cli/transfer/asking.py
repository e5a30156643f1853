"""Requests to Mixpanel's own API: one at a time, as slow as it asks, and again where that can help.

Enters: an address, credentials and a question. Leaves: what a function makes of the answer. It waits as long
as it is told to (`Retry-After`), follows no redirect, and never writes a credential anywhere.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import msgspec

from mixdown import __version__
from mixdown.model.errors import MixdownError

TIMEOUT_S: Final = 120.0
TRIES: Final = 8
WAIT_LIMIT_S: Final = 3 * 3600.0
_LONGEST_PAUSE_S: Final = 60.0
LONGEST_ASKED_S: Final = 3600.0
GOES_ON: Final = "The same command goes on from what was read last."
T = TypeVar("T")


class MixpanelError(MixdownError):
    """Mixpanel refuses, or cannot be reached."""


class CutOffError(OSError):
    """An answer that ends before its end."""


class Asker:
    """Asks one Mixpanel project. `tell` gets a line for people whenever it waits."""

    def __init__(
        self,
        base_url: str,
        authorization: str,
        *,
        tell: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base_url = base_url
        self._authorization = authorization
        self._tell = tell
        self._sleep = sleep
        self._opener = urllib.request.build_opener(_NoRedirects)

    def ask(
        self,
        path: str,
        query: Mapping[str, str],
        form: Mapping[str, str] | None,
        take: Callable[[IO[bytes]], T],
        *,
        accept: str = "application/json",
    ) -> T:
        """What `take` makes of the answer: a POST with `form`, a GET without. Raises `MixpanelError`.

        Asked again after 429, 5xx and a lost connection; `take` then begins anew.
        """
        marks = f"?{urllib.parse.urlencode(query)}" if query else ""
        request = urllib.request.Request(  # noqa: S310 - the address was checked to be HTTP
            f"{self._base_url}{path}{marks}",
            data=None if form is None else urllib.parse.urlencode(form).encode(),
            headers={
                "Authorization": self._authorization,
                "Accept": accept,
                "User-Agent": f"mixdown/{__version__}",
            },
        )
        return self._insist(request, take)

    def _insist(self, request: urllib.request.Request, take: Callable[[IO[bytes]], T]) -> T:
        """The answer to a request, asked again where that can help: after 429, 5xx and a lost connection."""
        failures = waited_s = 0.0
        pause_s = 0.5
        while True:
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                with self._opener.open(request, timeout=TIMEOUT_S) as reply:
                    return take(reply)
            except urllib.error.HTTPError as error:
                text = _error_text(error)
                asked_s = _retry_after_s(error.headers.get("Retry-After"))
                if error.code == 429 and waited_s < WAIT_LIMIT_S:
                    wait_s = pause_s if asked_s is None else asked_s
                    self._tell(f"Mixpanel's rate limit: waiting {wait_s:.0f} s ({text})")
                elif error.code >= 500 and failures < TRIES:
                    failures += 1
                    wait_s = pause_s if asked_s is None else asked_s
                    self._tell(f"Mixpanel answered {error.code}: waiting {wait_s:.0f} s ({text})")
                else:
                    raise _refused(error.code, text) from None
            except (OSError, http.client.HTTPException) as error:
                failures += 1
                if failures >= TRIES:
                    raise MixpanelError(
                        f"{self._base_url} cannot be read: {error}",
                        hint=GOES_ON,
                    ) from error
                wait_s = pause_s
                self._tell(f"{self._base_url}: {error}; trying again in {wait_s:.0f} s")
            self._sleep(wait_s)
            waited_s += wait_s


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the credentials to another host."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none: the reply is an error."""


def authorization(account: str, secret: str) -> str:
    """The header of a service account (`user:secret`) or of a project secret (contract query §1.4)."""
    credentials = account or f"{secret}:"
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def keep_place(file: Path, place: msgspec.Struct) -> None:
    """Write down how far a reading is, on disk when it returns."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    new = file.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as written:
        written.write(msgspec.json.encode(place))
        written.flush()
        os.fsync(written.fileno())
    new.replace(file)


def _retry_after_s(value: str | None) -> float | None:
    """Seconds that a `Retry-After` asks to wait: a number, or a date; None where it says nothing usable."""
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return min(max(float(value), 0.0), LONGEST_ASKED_S)
    with contextlib.suppress(TypeError, ValueError):
        until = email.utils.parsedate_to_datetime(value).timestamp()
        return min(max(until - time.time(), 0.0), LONGEST_ASKED_S)
    return None


def _error_text(error: urllib.error.HTTPError) -> str:
    """What Mixpanel says about an error."""
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        body = error.read(65536)
        with contextlib.suppress(ValueError):
            found = json.loads(body)
            if type(found) is dict and (found.get("error") or found.get("message")):
                return str(found.get("error") or found.get("message"))[:500]
        return body[:200].decode("utf-8", "replace").strip() or str(error.reason)
    return str(error.reason)


def _refused(status: int, text: str) -> MixpanelError:
    hint = GOES_ON
    if status in (401, 403):
        hint = "Check MIXPANEL_ACCOUNT or MIXPANEL_SECRET, the project's id and its region."
    elif 300 <= status < 400:
        hint = (
            "Redirects are not followed, so that credentials stay where they belong: name the final address."
        )
    return MixpanelError(f"Mixpanel answered {status}: {text}", hint=hint)
