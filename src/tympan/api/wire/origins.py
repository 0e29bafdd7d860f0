"""Which web pages may ask for something: browsers send requests that a page of another site has made up."""

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from tympan.errors import ForeignOrigin


def check_origin(headers: Mapping[str, str], allowed: Collection[str]) -> None:
    """Raise ``ForeignOrigin`` when a page of another site asks, unless its origin is among those ``allowed``.

    Programs send no ``Origin``. A page is of this site when it came from the host and port that are asked now.
    """
    origin = headers.get("origin")
    if origin is None or origin in allowed:
        return
    try:
        site = urlsplit(origin).netloc
    except ValueError:
        site = ""
    if not site or site.lower() != headers.get("host", "").lower():
        raise ForeignOrigin(
            f"Web pages from {origin[:80]!r} may not use this server.",
            remedy="The operator can allow them with ALLOWED_ORIGINS.",
        )
