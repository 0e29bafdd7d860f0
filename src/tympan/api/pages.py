"""``/`` and ``/ui``: the web UI, a client of the public API that needs no key itself."""

from functools import cache

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan.errors import NotFound
from tympan.web.assets import PAGE, Asset, load_assets

router = APIRouter(include_in_schema=False)

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cache-control": "no-cache",
}
"""What the page may do: load and ask for what is the server's own, and listen to the microphone. Nothing else runs."""

assets = cache(load_assets)


@router.get("/")
async def page(request: Request) -> Response:
    """Return the page of the web UI."""
    return _answer(request, PAGE)


@router.get("/favicon.ico")
async def icon(request: Request) -> Response:
    """Return the page's picture."""
    return _answer(request, "icon.svg")


@router.get("/ui/{path:path}")
async def asset(request: Request, path: str) -> Response:
    """Return a file of the web UI. Raises ``NotFound``."""
    return _answer(request, path)


def _answer(request: Request, path: str) -> Response:
    found: Asset | None = assets().get(path)
    if found is None:
        raise NotFound("The web UI has no such file.", remedy="Open / in a browser.")
    headers = {**HEADERS, "etag": found.etag}
    known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
    if known & {found.etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type=found.media_type, headers=headers)
