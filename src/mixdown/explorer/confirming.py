"""What the pages of administration ask before they change something for good, or make a secret.

A visit and its form enter; `Problem` leaves where the form is not what it should be. A page that made a
secret is the answer to the form itself: sent again, by a reload, the form is of an older catalog and does
nothing.
"""

from __future__ import annotations

from typing import Final

from mixdown.explorer.frame import Form, Problem, Visit

SEEN: Final = "seen"
STALE: Final = (
    "Something was changed since this form was shown, by you or by somebody else. Look again, then repeat."
)
NOT_CONFIRMED: Final = "Type “{name}” to confirm. Nothing was changed."


def confirmed(form: Form, name: str) -> None:
    """Raises `Problem` unless the name was typed."""
    if form.text("confirm").strip() != name:
        raise Problem(NOT_CONFIRMED.format(name=name))


def still_seen(visit: Visit, form: Form) -> None:
    """Raises `Problem` (409) where the catalog is not the one that the form was made of."""
    if form.text(SEEN) != str(visit.view.version):
        raise Problem(STALE, status=409)
