"""The query parameters of a route: known ones, each checked, each once."""

from starlette.requests import Request

from tympan.api.schemas import Form

MAX_PAGE = 100
DEFAULT_PAGE = 20

_MAX_ID_CHARS = 64


def query_of(request: Request, *known: str, repeatable: tuple[str, ...] = ()) -> Form:
    """Return the query of ``request``. Raises ``InvalidRequest`` for a parameter that is not ``known``."""
    names = dict.fromkeys(request.query_params.keys())
    raw = {name: request.query_params.getlist(name) for name in names}
    form = Form(raw, frozenset(known), repeatable)
    form.refuse_unknown()
    return form


def page_of(form: Form) -> tuple[int, str | None]:
    """Return how many entries a page is to have, and the id it begins behind. Raises ``InvalidRequest``."""
    return form.integer("limit", 1, MAX_PAGE) or DEFAULT_PAGE, form.text("after", max_chars=_MAX_ID_CHARS)
