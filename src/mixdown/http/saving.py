"""What saved reports and dashboards share over HTTP: who may change one, which one, and what is refused.

What errors call it enters ("report"); who asks, for which project and how, leaves, or an error of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from starlette.requests import Request

from mixdown.http.auth import ANALYSTS, Caller, refuse_other_sites
from mixdown.http.journeys import ID_LIMIT
from mixdown.http.parameters import Parameters
from mixdown.http.reading import admitted_caller, to_its_end
from mixdown.http.services import Services
from mixdown.model.errors import CatalogError, QueryError, RequestError
from mixdown.store.protocols import Project

_T = TypeVar("_T")


def missing(what: str) -> str:
    """What is said to who named none."""
    return f"id, missing: name the {what}"


class Saving(NamedTuple):
    """Changes of one kind of thing that is saved."""

    what: str
    services: Services

    async def admitted(self, request: Request) -> tuple[Caller, Project, Parameters]:
        """Who asks for a change, in which project, and how. Raises `AuthError`, `RequestError`."""
        refuse_other_sites(request)
        return await admitted_caller(request, self.services, roles=ANALYSTS, what=f"save {self.what}s")

    def number(self, parameters: Parameters) -> int:
        """Which is named. Raises `QueryError` (400)."""
        number = parameters.integer("id", 0, low=1, high=ID_LIMIT)
        if not number:
            raise QueryError(missing(self.what), status=400)
        return number

    async def changed(self, call: Callable[[], _T], *, status: int) -> _T:
        """Run a change of the catalog in a thread; what the catalog refuses is answered with `status`."""
        try:
            return await to_its_end(self.services, call)
        except CatalogError as error:
            raise RequestError(f"{self.what}, {error.message}", status=status) from None
