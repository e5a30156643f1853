"""Send what Python programs address to Mixpanel to a Mixdown server instead, without changing the programs.

Python imports a module of this name by itself at every start, so this folder on PYTHONPATH is all it takes:

    MIXDOWN_BASE=http://127.0.0.1:6493 PYTHONPATH=/path/to/this/folder python your_program.py

Every request to mixpanel.com and its subdomains (api, api-eu, data, ...) that is sent with `requests` or with
`urllib.request` goes to MIXDOWN_BASE; path, query, body and credentials stay as they are. All other requests
are left alone, and without MIXDOWN_BASE nothing is changed. For an https address with a certificate of your
own, name it in REQUESTS_CA_BUNDLE (requests) and SSL_CERT_FILE (urllib).
"""

import os
import urllib.request
from typing import Any
from urllib.parse import urlsplit, urlunsplit


def target(base: str) -> tuple[str, str]:
    """Scheme and host:port of MIXDOWN_BASE; a wrong one ends the program, lest its data go to Mixpanel."""
    parts = urlsplit(base)
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or parts.path not in ("", "/")
        or parts.query
    ):
        raise SystemExit(f"MIXDOWN_BASE must look like http://127.0.0.1:6493, not {base!r}")
    return parts.scheme, parts.netloc


def redirected(url: str, base: str) -> str:
    """The address at `base` that an address at Mixpanel stands for; any other address unchanged."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("http", "https") or not (
        host == "mixpanel.com" or host.endswith(".mixpanel.com")
    ):
        return url
    return urlunsplit((*target(base), parts.path, parts.query, parts.fragment))


def redirect_requests(base: str) -> None:
    """Wrap the adapter, below the session, so that retries, hooks and credentials work as ever."""
    try:
        from requests.adapters import HTTPAdapter  # noqa: PLC0415 - programs without requests need it not
    except ImportError:
        return
    send = HTTPAdapter.send

    def send_to_mixdown(adapter: Any, request: Any, *args: Any, **options: Any) -> Any:
        request.url = redirected(request.url, base)
        return send(adapter, request, *args, **options)

    HTTPAdapter.send = send_to_mixdown


def redirect_urllib(base: str) -> None:
    """Wrap the opener that every request of `urllib.request` goes through."""
    open_url = urllib.request.OpenerDirector.open

    def open_at_mixdown(opener: Any, wanted: Any, *args: Any, **options: Any) -> Any:
        if isinstance(wanted, urllib.request.Request):
            wanted.full_url = redirected(wanted.full_url, base)
        else:
            wanted = redirected(wanted, base)
        return open_url(opener, wanted, *args, **options)

    urllib.request.OpenerDirector.open = open_at_mixdown


if os.environ.get("MIXDOWN_BASE"):
    target(os.environ["MIXDOWN_BASE"])  # a mistake shows now, not at the first request
    redirect_requests(os.environ["MIXDOWN_BASE"])
    redirect_urllib(os.environ["MIXDOWN_BASE"])
