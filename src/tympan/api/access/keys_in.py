"""Where the key of a request is looked for, and from which address the request came."""

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import unquote_plus

from starlette.datastructures import Headers
from starlette.types import Scope as AsgiScope

from tympan.access.tokens import is_like_a_key
from tympan.errors import Unauthenticated

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SUBPROTOCOL = "openai-insecure-api-key."
"""What browsers put before a key that they send as a name of a WebSocket's protocol: they can send no headers."""

_BEARER = "bearer "
_PARAMETERS = frozenset({"api_key", "api-key", "apikey", "access_token", "authorization", "key", "token"})
_IN_THE_ADDRESS = "A key does not belong in an address: addresses are logged and remembered."
_REMEDY = "Send it as Authorization: Bearer tym_..., and revoke this one."


def key_of(scope: AsgiScope) -> str | None:
    """Return the key that came with a request, ``None`` where there was none.

    What came in another shape than ours is returned as it is, for it is no key. Raises ``Unauthenticated`` for a key in
    the address.
    """
    query = unquote_plus(scope["query_string"].decode("latin-1"))
    if is_like_a_key(query) or is_like_a_key(scope["path"]):
        raise Unauthenticated(_IN_THE_ADDRESS, remedy=_REMEDY)
    given = Headers(scope=scope).getlist("authorization")
    if given:
        return _bearer(given[0] if len(given) == 1 else " ")
    return _offered(scope)


def has_key_parameter(scope: AsgiScope) -> bool:
    """Return whether the query has a parameter by which other servers take a key."""
    names = {part.partition("=")[0].lower() for part in scope["query_string"].decode("latin-1").split("&")}
    return bool(names & _PARAMETERS)


def address_of(scope: AsgiScope, proxies: Sequence[Network]) -> str:
    """Return the address that a request came from: the last one that is no proxy of ours."""
    client = scope.get("client")
    address = str(client[0]) if client else ""
    hops = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
    while hops and _is_within(address, proxies):
        hop = hops.pop().strip()
        if not _parsed(hop):
            break
        address = hop
    return address


def _bearer(value: str) -> str | None:
    if value.lower().startswith(_BEARER):
        return value[len(_BEARER) :].strip() or None
    return None if value.strip().lower() == _BEARER.strip() else value


def _offered(scope: AsgiScope) -> str | None:
    """Return the key among the protocols that a WebSocket offers, and take it out: nobody is to send it back."""
    offered: list[str] = list(scope.get("subprotocols", ()))
    keys = [name for name in offered if name.startswith(SUBPROTOCOL)]
    if not keys:
        return None
    scope["subprotocols"] = [name for name in offered if name not in keys]
    return keys[0].removeprefix(SUBPROTOCOL)


def _is_within(address: str, networks: Sequence[Network]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None
