"""What goes wrong on a page, in words for the person who sees it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

STORE_DOWN: Final = "The data cannot be read at the moment. The server's log says why."
INTERNAL: Final = "Something went wrong on the server. Its log says what."
NOT_FOUND: Final = "There is no such page, or it is not yours to see."
NOT_ALLOWED: Final = "Your role does not include this. It takes: {roles}."
FORM_EXPIRED: Final = "This form has expired. Please try again."
FORM_TOO_LARGE: Final = "This form is larger than 1 MB."


class Problem(Exception):  # noqa: N818 - it is what the reader of a page has, and most are no errors of ours
    """Raised by a page: rendered as an error page, as a fragment for htmx, or as `{"error": …}`."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


def title_of(status: int) -> str:
    """The heading of an error page."""
    titles = {
        400: "That did not work",
        401: "Please sign in",
        403: "Not allowed",
        404: "Not found",
        413: "Too large",
        429: "Too many requests",
        500: "Something went wrong",
        503: "Not available right now",
        504: "That took too long",
    }
    try:
        return titles.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return titles[400]
