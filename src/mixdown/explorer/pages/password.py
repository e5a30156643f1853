"""Changing one's own password to one that one can remember: the only place where people choose one.

The old password is asked for, within the limits of signing in; the new one is kept as scrypt. Whoever had
signed in with the old one is signed out, but for the browser that sent the form. Nothing that was typed is
ever shown again.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.choosing import SHORTEST, weakness
from mixdown.explorer.frame import Frame, Problem, Visit, see_other
from mixdown.explorer.session import pause_after_failure, set_cookie
from mixdown.http.auth import READERS
from mixdown.http.client_ip import request_ip
from mixdown.http.cookies import cookie_key, sign
from mixdown.http.reading import in_thread, to_its_end
from mixdown.model.errors import AuthError
from mixdown.store.bounds import PRESET_ACCOUNT_FACT
from mixdown.store.credentials import chosen_hash
from mixdown.store.protocols import Account

TEMPLATE: Final = "password/page.html"
PRESET: Final = "The setting MIXDOWN_ACCOUNT says this account's password: change it there."
WRONG: Final = "The old password is not right."
TOO_OFTEN: Final = "Too many failed attempts. Wait a minute, then try again."
DIFFERENT: Final = "The two new passwords are not the same."
SAME: Final = "The new password is the old one."
CHANGED: Final = "Your password is changed. Every other browser was signed out."


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""

    async def change(visit: Visit) -> Response:
        try:
            return await _change(visit)
        except Problem as problem:
            values = {"title": "Change my password", "section": "", **await _page(visit)}
            return frame.render(
                visit, TEMPLATE, status=problem.status, **{**values, "problem_text": problem.text}
            )

    return [
        *frame.view(
            "/password", TEMPLATE, _page, roles=READERS, title="Change my password", section="", server=True
        ),
        frame.action("/password/change", change, roles=READERS, server=True),
    ]


async def _page(visit: Visit) -> Mapping[str, Any]:
    return {
        "username": visit.account.username,
        "shortest": SHORTEST,
        "preset": PRESET if await _is_preset(visit) else "",
        "problem_text": "",
    }


async def _is_preset(visit: Visit) -> bool:
    """Whether the next start would put the password back."""
    services = visit.services
    preset = await in_thread(services, services.store.catalog.fact, PRESET_ACCOUNT_FACT)
    return bool(preset) and preset == visit.account.username.encode()


async def _change(visit: Visit) -> Response:
    form = await visit.form()
    old, new = form.text("old"), form.text("new")
    if await _is_preset(visit):
        raise Problem(PRESET, status=403)
    if not hmac.compare_digest(new.encode(), form.text("again").encode()):
        raise Problem(DIFFERENT)
    weak = weakness(new, visit.account.username)
    if weak:
        raise Problem(weak)
    await _check(visit, old)
    if hmac.compare_digest(new.encode(), old.encode()):
        raise Problem(SAME)
    services, username = visit.services, visit.account.username

    def changed() -> tuple[Account, bytes]:
        catalog = services.store.catalog
        return catalog.change_password(username, chosen_hash(new)), cookie_key(catalog)

    account, key = await to_its_end(services, changed)
    response = see_other(visit.server_path("password"), CHANGED)
    set_cookie(response, sign(key, account, now_s=services.now_ms() // 1000))
    return response


async def _check(visit: Visit, old: str) -> None:
    """Raises `Problem` where the old password is wrong, or was wrong too often."""
    services, username = visit.services, visit.account.username
    address, now_ms = request_ip(visit.request, services.settings), services.now_ms()
    attempts, now_s = services.attempts, now_ms / 1000
    if not attempts.may_try(address, username, now_s=now_s):
        raise Problem(TOO_OFTEN, status=429)
    attempts.failed(address, username, now_s=now_s)

    def look() -> bool:
        view = services.catalog.current()
        found = view.account(username, old, now_ms=now_ms)
        return bool(found or services.passwords.account(view, username, old, now_ms=now_ms))

    try:
        is_right = await to_its_end(services, look)
    except AuthError as error:
        attempts.forgive(address, username, now_s=now_s)
        raise Problem(f"{error.message[:1].upper()}{error.message[1:]}.", status=429) from None
    if not is_right:
        await pause_after_failure()
        raise Problem(WRONG, status=403)
    attempts.forgive(address, username, now_s=now_s)
