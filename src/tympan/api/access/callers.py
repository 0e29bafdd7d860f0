"""Who calls: the tenant that a request speaks for, and what it may do."""

from starlette.requests import HTTPConnection

from tympan.access.callers import EVERYBODY, NOBODY, Caller

__all__ = ["EVERYBODY", "NOBODY", "Caller", "caller_of", "tenant_of"]


def caller_of(connection: HTTPConnection) -> Caller:
    """Return who calls, as it was found out before the route was chosen."""
    caller: Caller = connection.state.caller
    return caller


def tenant_of(connection: HTTPConnection) -> str:
    """Return whose jobs, uploads and webhooks a request is about."""
    return caller_of(connection).tenant
