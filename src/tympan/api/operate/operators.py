"""Who administrates: a key with the scope ``admin``; where no keys are asked for, somebody at the machine itself."""

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request

from tympan.access.administration import Administration, Operator
from tympan.access.callers import Scope
from tympan.api.access.callers import caller_of
from tympan.api.access.deeds import deed_of
from tympan.api.access.keys_in import address_of
from tympan.api.deps import services_of
from tympan.errors import InsufficientScope, Unavailable

_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers that proxies add; who comes through one on this machine may be anybody."""

_REMEDY = f"Use a key with the scope {Scope.ADMIN.value!r}, or `tympan keys` and `tympan tenants` on the machine."


def administration_of(request: Request) -> Administration:
    """Return what does the work. Raises ``Unavailable`` where there is none."""
    found = services_of(request).desks.administration
    if found is None:
        raise Unavailable("Keys and tenants cannot be changed over HTTP here.", remedy="Use `tympan keys`.")
    return found


def check_operator(request: Request) -> None:
    """Raise ``InsufficientScope`` unless whoever asks may administrate; scopes of keys have been looked at before.

    Without a key it is whoever sits at this machine: the address is its own, nothing says that a proxy passed the
    request on, and the name that was asked for is the machine's, so that no page gets in under a name of its own.
    """
    if caller_of(request).key_id is not None:
        return
    address = address_of(request.scope, services_of(request).desks.doors.proxies)
    is_forwarded = any(name in request.headers for name in _FORWARDED)
    if is_forwarded or not (_is_this_machine(address) and _is_this_machine(_host(request))):
        raise InsufficientScope(
            "Without a key, administration works only from the server's own machine.", remedy=_REMEDY
        )


def operator_of(request: Request) -> Operator:
    """Return who changes something, and in which request, for the audit log."""
    address = address_of(request.scope, services_of(request).desks.doors.proxies)
    deed = deed_of(request.scope, address)
    if deed is None:
        raise LookupError(f"{request.method} {request.url.path} changes something and has no rule in deeds.RULES")
    return Operator(caller_of(request), deed)


def _host(request: Request) -> str:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _is_this_machine(name: str) -> bool:
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
