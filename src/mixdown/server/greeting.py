"""What `mixdown serve` prints when it is ready: where it is, how to get in, and lines to paste.

An address and an `Access` enter, text leaves. A secret is in it only at the start that made it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from mixdown import __version__
from mixdown.server.first_start import Access
from mixdown.settings import Settings


def greeting(address: str, settings: Settings, access: Access, *, internal_address: str = "") -> str:
    """The whole block, with a line break at its end. `internal_address` is "" without an internal port."""
    lines = [f"Mixdown {__version__} is ready.", ""]
    lines += (f"  {name:<16} {value}" for name, value in _facts(address, settings, access, internal_address))
    if access.secret or access.password:
        lines += ["", "  Secret and password are shown this once: keep them."]
    if access.new and access.project is not None:
        lines += ["", *_snippets(address, internal_address or address, access)]
    return "\n".join([*lines, ""])


def _facts(
    address: str, settings: Settings, access: Access, internal_address: str
) -> Iterator[tuple[str, str]]:
    everywhere = settings.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    yield "Address", f"{address} (and every other address of this machine)" if everywhere else address
    if internal_address:
        yield "Explorer, API" if settings.explorer else "API", internal_address
    elif settings.explorer:
        yield "Explorer", f"{address}/"
    if settings.ephemeral:
        yield "Data", f"{settings.data_dir} (temporary: removed at the end)"
    else:
        yield "Data", str(settings.data_dir)
    project = access.project
    if project is not None:
        yield "Project", f"{project.name} (id {project.id})"
        yield "Token", project.token
        if access.secret or settings.secret:
            yield "Secret", access.secret or "as MIXDOWN_SECRET says"
    if access.user:
        yield "Service account", access.user
        yield "Password", access.password or "as MIXDOWN_ACCOUNT says"


def _snippets(address: str, api_address: str, access: Access) -> Iterator[str]:
    """Lines to paste. They stand at the margin, because Python minds."""
    project = access.project
    assert project is not None
    record = {"$token": project.token, "$distinct_id": "ada", "$set": {"$name": "Ada Lovelace"}}
    body = shlex.quote(json.dumps([record], separators=(",", ":")))
    yield "Send a profile, from a shell (it answers 1):"
    yield ""
    yield f"curl {address}/engage -H 'Content-Type: application/json' -d {body}"
    yield ""
    yield "or with the Python SDK (pip install mixpanel):"
    yield ""
    yield "from mixpanel import Consumer, Mixpanel"
    yield f'server = "{address}"'
    yield "consumer = Consumer("
    yield '    events_url=server + "/track", people_url=server + "/engage", groups_url=server + "/groups"'
    yield ")"
    yield f"mp = Mixpanel({json.dumps(project.token, ensure_ascii=False)}, consumer=consumer)"
    yield 'mp.people_set("ada", {"plan": "free"})'
    yield ""
    yield "Read it back:"
    yield ""
    credentials = shlex.quote(f"{access.user}:{access.password}") if access.password else '"$MIXDOWN_ACCOUNT"'
    yield f"curl -u {credentials} '{api_address}/api/query/engage?project_id={project.id}'"
