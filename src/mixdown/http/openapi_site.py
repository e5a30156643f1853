"""Health, metrics, descriptions and the page for browsers, as OpenAPI has them.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixdown.http.openapi_pieces import (
    FORM,
    JSON,
    READERS,
    Operation,
    connection,
    content,
    operation,
    read_errors,
    ref,
    request_body,
    response,
)
from mixdown.http.reply import WELCOME
from mixdown.model import texts
from mixdown.settings import Settings


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return _health() | _page()


# --- health, metrics, descriptions


def _health() -> dict[str, dict[str, Operation]]:
    def get(
        identity: str, summary: str, text: str, responses: Mapping[str, Any], **more: Any
    ) -> dict[str, Operation]:
        return {"get": operation(identity, "Operations", summary, text, responses, **more)}

    ready = {"status": "unavailable", "reasons": [texts.OVERLOADED_DISK]}
    metrics = read_errors("/metrics")
    for status in ("403", "413"):
        del metrics[status]
    return {
        "/livez": get(
            "livez",
            "Whether the process answers",
            "For a supervisor that restarts what hangs.",
            connection() | {"200": response("It does.", content(ref("Alive"), {"status": "ok"}))},
        ),
        "/readyz": get(
            "readyz",
            "Whether records can be appended",
            "For a load balancer.",
            connection()
            | {
                "200": response("They can.", content(ref("Ready"), {"status": "ok", "reasons": []})),
                "503": response(
                    "They cannot, and why. Or too many connections are open.",
                    content({"anyOf": [ref("Ready"), ref("Error")]}, ready),
                ),
            },
        ),
        "/metrics": get(
            "metrics",
            "Prometheus metrics",
            "Without credentials where it is asked from the machine itself and through no proxy.",
            metrics
            | {"200": response("Prometheus' text format.", content({"type": "string"}, media="text/plain"))},
            security=[{}, *READERS],
        ),
        "/openapi.json": get(
            "openapi",
            "This document",
            "Built from the server's own declarations and settings.",
            connection() | {"200": response("OpenAPI 3.1.", content({"type": "object"}))},
        ),
        "/docs": get(
            "docs",
            "This document as a page",
            "It loads nothing from elsewhere and needs no JavaScript.",
            connection() | {"200": response("HTML.", content({"type": "string"}, media="text/html"))},
        ),
    }


# --- the page


def _static_file() -> Operation:
    files = {
        media: {"schema": {"type": "string"}} for media in ("text/css", "text/javascript", "image/svg+xml")
    }
    return operation(
        "staticFile",
        "Page",
        "Style sheet, script and icon of the page",
        "Nothing is loaded from elsewhere.",
        connection()
        | {
            "200": response("The file.", files),
            "304": response("The file is the one that `If-None-Match` names."),
            "404": response("There is none of that name.", content({"type": "string"}, media="text/plain")),
        },
    )


def _page() -> dict[str, dict[str, Operation]]:
    html = content({"type": "string"}, media="text/html")
    down = {JSON: {"schema": ref("Error")}, **html}
    went = response("To the page.", Location="A path of this server.", Set_Cookie="The page's cookie.")
    page = connection() | {"503": response("The data cannot be read, or too many connections.", down)}

    def post(
        identity: str, summary: str, text: str, form: str, responses: Mapping[str, Any], **more: Any
    ) -> Operation:
        body = content(ref(form), media=FORM)
        return operation(
            identity, "Page", summary, text, {**page, **responses}, body=request_body(body), **more
        )

    signed = {
        "303": went,
        "401": response("Wrong name or password.", html),
        "403": response("The form came from elsewhere, is too large, or the account may not read.", html),
        "429": response("Too many failed attempts from this address.", html),
    }
    return {
        "/": {
            "get": operation(
                "root",
                "Page",
                "The page, or Mixpanel's welcome object",
                "A browser, whose `Accept` names `text/html`, gets the page; everyone else the object.",
                page
                | {"200": response("By `Accept`.", {**content(ref("Welcome"), {"error": WELCOME}), **html})},
            )
        },
        "/explorer/sign-in": {
            "get": operation(
                "signInPage",
                "Page",
                "The form to sign in with",
                "Who has signed in already is sent on.",
                page | {"200": response("The form.", html), "303": went},
            ),
            "post": post(
                "signIn",
                "Sign in to the page",
                "With a service account's name and password.",
                "SignInForm",
                signed,
            ),
        },
        "/explorer/sign-out": {
            "post": post(
                "signOut",
                "Sign out",
                "With the token that the page's form has.",
                "SignOutForm",
                {"303": went, "403": response("The form was not the page's own.", html)},
                security=[{}, {"cookie": []}],
            )
        },
        "/static/{name}": {"get": _static_file()},
    }
