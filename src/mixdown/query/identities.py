"""Whose an id is, now and at other times: for reads of profiles, and for people who look into links.

A state, a project and ids enter; canonical ids, and what links an id with others, leave. Groups have no
identities. It must never change anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from mixdown.model.identity import LEGACY, IdentityLink, resolved
from mixdown.model.times import iso_seconds
from mixdown.store import patience
from mixdown.store.identities import linked_by
from mixdown.store.protocols import State

SHOWN_LIMIT: Final = 1000
"""Ids and links that are shown of one person."""
_WALK_LIMIT: Final = 5000


class Identity(msgspec.Struct, frozen=True):
    """One person as an id leads to them: `ids` begins with the canonical one, `links` are in log order.

    `links` are those of these ids in force and those that were undone; `more` says that not all are here.
    `is_linked` says whether the id itself stands in a link that is in force.
    """

    distinct_id: str
    canonical: str
    ids: list[str]
    links: list[IdentityLink]
    more: bool
    is_linked: bool


def owners(state: State, project: int, group_key: str, ids: Iterable[str]) -> tuple[str, ...]:
    """The profiles that these ids mean: canonical ids, each once; of groups the ids themselves."""
    asked = tuple(ids)
    return asked if group_key else tuple(dict.fromkeys(state.canonical(project, asked).values()))


def owners_at(state: State, project: int, group_key: str, ids: Iterable[str], time_ms: int) -> set[str]:
    """The profiles that these ids meant when all records up to a chunk time were applied."""
    asked = set(ids)
    if group_key or project not in state.linked_projects():
        return asked
    return {_owner_at(state, project, one, time_ms) for one in asked}


def _owner_at(state: State, project: int, one: str, time_ms: int) -> str:
    patience.check()
    links = _around(state, project, one, undone=True)
    return resolved(one, [link for link in links if link.was_in_force(time_ms)])


def _around(state: State, project: int, one: str, *, undone: bool) -> list[IdentityLink]:
    """The links around an id, and around what it stands for as an alias of legacy mode."""
    links = state.links(project, [one], limit=_WALK_LIMIT, undone=undone)
    hops = {link.one for link in links if link.mode == LEGACY and link.other == one}
    if hops:
        links += state.links(project, sorted(hops), limit=_WALK_LIMIT, undone=undone)
    return links


def identity_of(state: State, project: int, one: str, *, limit: int = SHOWN_LIMIT) -> Identity:
    """All that is one with an id, and the links that made it so, with those that were undone."""
    links = {link.key: link for link in _around(state, project, one, undone=True)}
    ids = linked_by(one, [link for link in links.values() if link.in_force])
    known = set(ids)
    own = [links[key] for key in sorted(links) if links[key].one in known or links[key].other in known]
    more = len(links) >= _WALK_LIMIT or len(ids) > limit or len(own) > limit
    linked = any(link.in_force and one in (link.one, link.other) for link in own)
    return Identity(one, state.canonical(project, [one])[one], ids[:limit], own[:limit], more, linked)


def identity_view(found: Identity) -> dict[str, Any]:
    """A person's ids as they are shown; a link says which id was linked to which, when, and by what."""
    return {
        "distinct_id": found.distinct_id,
        "canonical": found.canonical,
        "ids": found.ids,
        "links": [link_view(link) for link in found.links],
        "more": found.more,
    }


def link_view(link: IdentityLink) -> dict[str, Any]:
    """A link as it is shown."""
    # the id that came to belong to the other one: of a device, that is the first
    one, other = (link.other, link.one) if link.verb == "device" else (link.one, link.other)
    return {
        "id": other,
        "linked_to": one,
        "verb": link.verb,
        "mode": link.mode,
        "time": iso_seconds(link.time_ms),
        "position": link.position,
        "unmerged": None if link.in_force else iso_seconds(link.undone_ms),
        "unmerged_position": None if link.in_force else link.undone_position,
    }
