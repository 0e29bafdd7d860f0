"""The query parameters of a route: known ones, each checked, each once."""

import re
from typing import Any

from starlette.requests import HTTPConnection

from tympan.api.fields.forms import Form
from tympan.errors import InvalidRequest

MAX_PAGE = 100
DEFAULT_PAGE = 20

_MAX_ID_CHARS = 64

PAGE_PARAMETERS: tuple[dict[str, Any], ...] = (
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
    },
    {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "`next` of the page before."},
)
"""What ``page_of`` reads, as /openapi.json describes it."""


def query_of(request: HTTPConnection, *known: str, repeatable: tuple[str, ...] = ()) -> Form:
    """Return the query of ``request``. Raises ``InvalidRequest`` for a parameter that is not ``known``."""
    names = dict.fromkeys(request.query_params.keys())
    raw = {name: request.query_params.getlist(name) for name in names}
    form = Form(raw, frozenset(known), repeatable)
    form.refuse_unknown()
    return form


def page_of(form: Form, kind: str = "") -> tuple[int, str | None]:
    """Return how many entries a page is to have, and the id it begins behind, one of ``kind`` if that is given.

    The entry itself may have gone. Raises ``InvalidRequest``.
    """
    after = form.text("after", max_chars=_MAX_ID_CHARS)
    if kind and after is not None and not re.fullmatch(rf"{kind}_[0-9a-f]{{12,}}", after, re.ASCII):
        raise InvalidRequest(
            f"after is not the id of a {kind}.", param="after", remedy="Send the `next` of the page before."
        )
    return form.integer("limit", 1, MAX_PAGE) or DEFAULT_PAGE, after
