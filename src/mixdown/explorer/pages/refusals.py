"""Refusals: what was not stored, why, what to do about it; mended and sent again.

What the API answers enters; pages leave. Tokens are hidden by the API from those who manage no keys.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.docs import prose
from mixdown.explorer.frame import Frame, Problem, Visit, see_other
from mixdown.http.advice import text_of
from mixdown.http.auth import ADMINS
from mixdown.http.own import RESEND_LIMIT
from mixdown.model.values import clean_text

_OWN: Final = "/api/mixdown/refusals"
PAGE: Final = 25
SHOWN_CHARS: Final = 20_000
"""Of a longer record the start is shown, and all of it is one download away."""
ENDPOINTS: Final = ("engage", "groups", "track", "import")
FILTERS: Final = ("reason", "endpoint", "field", "text", "since", "until")


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""

    async def resend(visit: Visit) -> Response:
        return await _resend(frame, visit)

    return [
        *frame.view("/refusals", "refusals/page.html", _page, title="Refusals", section="refusals"),
        frame.fragment("/refusals/list", "refusals/list.html", _list),
        frame.fragment("/refusals/reasons", "refusals/reasons.html", _reasons),
        frame.raw("/refusals/record", _record),
        frame.action("/refusals/resend", resend, roles=ADMINS),
    ]


def _filters(visit: Visit) -> dict[str, str]:
    """What narrows the list, those that say something."""
    found = {name: visit.text(name).strip() for name in FILTERS}
    if visit.caller.is_owner and visit.text("unknown"):
        found["unknown"] = "1"
    return {name: text for name, text in found.items() if text}


def _asked(filters: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """The parameters for the API: an owner may mean the records whose token no project has."""
    asked = {name: text for name, text in filters.items() if name != "unknown"}
    return {**asked, "unknown_token": True if filters.get("unknown") else None, **more}


async def _page(visit: Visit) -> Mapping[str, Any]:
    filters = _filters(visit)
    # a text is looked for in up to 64 MB of records: in a page that comes first, so that it comes at once
    is_slow = bool(filters.get("text")) and not visit.request.url.path.endswith(".json")
    listed = {} if is_slow else await _list(visit)
    return {
        "filters": filters,
        "endpoints": ENDPOINTS,
        "reason_text": text_of(filters.get("reason", "")) or filters.get("reason", ""),
        "is_slow": is_slow,
        "is_owner": visit.caller.is_owner,
        "may_send": visit.may(ADMINS),
        "list_url": visit.path("refusals/list", **filters),
        **listed,
    }


async def _list(visit: Visit) -> Mapping[str, Any]:
    filters = _filters(visit)
    before = visit.integer("before_id", 0, low=1, high=2**53) or None
    answer = (await visit.ask("GET", _OWN, params=_asked(filters, limit=PAGE, before_id=before))).good()
    found = answer["results"]
    may_have_more = len(found) == PAGE or bool(answer.get("more"))
    more = visit.path("refusals", **filters, before_id=found[-1]["id"]) if found and may_have_more else ""
    more_part = visit.path("refusals/list", **filters, before_id=found[-1]["id"]) if more else ""
    return {
        "filters": filters,
        "refusals": [_shown(visit, refusal) for refusal in found],
        "more": more,
        "more_part": more_part,
        "back": urlencode(filters),
        "before_id": before,
        "may_send": visit.may(ADMINS),
    }


def _shown(visit: Visit, refusal: Mapping[str, Any]) -> dict[str, Any]:
    """A refusal with its record as people read it, and as a command that sends it again."""
    record = refusal["record"]
    is_long = len(record) > SHOWN_CHARS
    return {
        **refusal,
        "record": record[:SHOWN_CHARS],
        "pretty": _pretty(record) if not is_long else record[:SHOWN_CHARS],
        "is_long": is_long,
        "download": visit.path("refusals/record", id=refusal["id"], unknown=_of_nobody(refusal)),
        "curl": "" if is_long or not refusal["whole"] else curl(visit, refusal["endpoint"], record),
    }


def _of_nobody(refusal: Mapping[str, Any]) -> str | None:
    return "1" if refusal["project_id"] is None else None


def _pretty(text: str) -> str:
    """JSON indented as it is, numbers and all; what is no JSON stays as it came."""
    try:
        return clean_text(json.dumps(json.loads(text), indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return text


def curl(visit: Visit, endpoint: str, record: str) -> str:
    """The command that sends a record to this server, for a POSIX shell."""
    path = f"/{endpoint}?verbose=1&strict=1"
    account = ""
    if endpoint == "import":
        path = f"/import?strict=1&project_id={visit.project.id}"
        account = " -u USER:PASSWORD"
    return (
        f"curl{account} {shlex.quote(visit.address + path)} -H 'Content-Type: application/json'"
        f" --data-raw {shlex.quote(f'[{record}]')}"
    )


async def _reasons(visit: Visit) -> Mapping[str, Any]:
    """How many there are for each reason, and what to do."""
    filters = _filters(visit)
    asked = _asked({name: text for name, text in filters.items() if name == "unknown"})
    found = (await visit.ask("GET", f"{_OWN}/reasons", params=asked)).good()["results"]
    others = {name: text for name, text in filters.items() if name != "reason"}
    return {
        "reasons": [
            {
                **each,
                "advice_html": prose(_sentence(each["advice"])),
                "url": visit.path("refusals", **others, reason=each["reason"]),
                "is_current": each["reason"] == filters.get("reason"),
            }
            for each in found
        ],
        "total": sum(each["count"] for each in found),
        "all_url": visit.path("refusals", **others),
        "filters": filters,
    }


def _sentence(advice: str) -> str:
    return f"{advice[:1].upper()}{advice[1:]}." if advice else ""


async def _record(visit: Visit) -> Response:
    """One record as it arrived, whole as far as it was kept."""
    number = visit.integer("id", 0, low=1, high=2**53)
    asked = _asked(_filters(visit), limit=1, before_id=number + 1)
    asked = {name: asked[name] for name in ("limit", "before_id", "unknown_token")}
    found = (await visit.ask("GET", _OWN, params=asked)).good()["results"]
    if not found or found[0]["id"] != number:
        raise Problem("This refusal is gone: it was sent again, or dropped for newer ones.", status=404)
    headers = {
        "Content-Disposition": f'attachment; filename="refusal-{number}.json"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(found[0]["record"], media_type="application/json", headers=headers)


# --- sending again --------------------------------------------------------------------------------


async def _resend(frame: Frame, visit: Visit) -> Response:
    """Send the chosen refusals again, or one that was mended."""
    form = await visit.form()
    ids = list(dict.fromkeys(form.texts("ids")))
    back = visit.path("refusals", **_back(form.text("back")))
    if not ids:
        return see_other(back, problem="Choose at least one refusal to send again.")
    told: dict[str, Any] = {"ids": ids}
    if form.text("unknown"):
        told |= {"unknown_token": True, "to_project": visit.project.id}
    problem = _mend(told, form.text("record"))
    if not problem:
        answer = await visit.ask("POST", f"{_OWN}/resend", body=told)
        results = answer.good()["results"]
        stored = sum(each["stored"] for each in results)
        refused = [each for each in results if not each["stored"]]
        problem = _still(refused) if refused else ""
        if not problem or stored:
            return see_other(back, _done(stored) if stored else "", problem=problem)
    if visit.is_htmx:
        return frame.render(visit, "refusals/outcome.html", problem=problem)
    return see_other(back, problem=problem)


def _mend(told: dict[str, Any], edited: str) -> str:
    """Put the mended record into what is sent; what is wrong with it, else ""."""
    if not edited.strip():
        return ""
    if len(edited) > SHOWN_CHARS * 60:
        return "The record is longer than a record may be."
    try:
        told["record"] = json.loads(edited)
    except ValueError as error:
        return f"This is no JSON yet: {error}"
    except RecursionError:
        return "The record is nested too deeply."
    if type(told["record"]) is not dict:
        return "A record is one JSON object."
    return ""


def _done(stored: int) -> str:
    return "1 record was stored." if stored == 1 else f"{stored} records were stored."


def _still(refused: list[dict[str, Any]]) -> str:
    reasons = list(dict.fromkeys(str(each["error"]) for each in refused))
    count = "1 record is" if len(refused) == 1 else f"{len(refused)} records are"
    return f"{count} still refused: {'; '.join(reasons[:3])}"


def _back(text: str) -> dict[str, str]:
    """The filters that a form came from, as far as they are ones."""
    try:
        pairs = parse_qsl(text, max_num_fields=20)
    except ValueError:
        return {}
    return {name: value for name, value in pairs if name in (*FILTERS, "unknown")}


assert PAGE <= RESEND_LIMIT  # all that a page shows can be chosen
