"""Which requests are written down in the audit log, and under which name."""

import re
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from tympan.access.trail import Deed

_ID = r"(?P<id>[^/]+)"
_NAME = re.compile(r"[\w.:/@+-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests by method and path, and what they do."""

    method: str
    path: re.Pattern[str]
    action: str


def _rule(method: str, path: str, action: str) -> Rule:
    return Rule(method, re.compile(path), action)


RULES: Final = (
    _rule("DELETE", f"/v1/jobs/{_ID}", "job.erase"),
    _rule("PUT", f"/v1/jobs/{_ID}/edited", "edit.save"),
    _rule("DELETE", f"/v1/jobs/{_ID}/edited", "edit.erase"),
    _rule("DELETE", f"/v1/batches/{_ID}", "batch.erase"),
    _rule("DELETE", f"/v1/uploads/{_ID}", "upload.erase"),
    _rule("POST", "/v1/webhook-endpoints", "webhook.create"),
    _rule("PATCH", f"/v1/webhook-endpoints/{_ID}", "webhook.change"),
    _rule("DELETE", f"/v1/webhook-endpoints/{_ID}", "webhook.erase"),
    _rule("GET", f"/v1/webhook-endpoints/{_ID}/secret", "webhook.show_secret"),
    _rule("POST", f"/v1/webhook-endpoints/{_ID}/secret/rotate", "webhook.rotate_secret"),
    _rule("POST", "/v1/models/(?P<id>.+)", "model.load"),
    _rule("DELETE", "/v1/models/(?P<id>.+)", "model.unload"),
    _rule("POST", "/load", "model.load"),
    _rule("POST", "/v1/admin/keys", "key.create"),
    _rule("POST", f"/v1/admin/keys/{_ID}/rotate", "key.rotate"),
    _rule("DELETE", f"/v1/admin/keys/{_ID}", "key.revoke"),
    _rule("POST", "/v1/admin/tenants", "tenant.create"),
    _rule("PATCH", f"/v1/admin/tenants/{_ID}", "tenant.change"),
)
"""Everything that erases, that is about secrets, or that changes the server for others."""


def deed_of(scope: Scope, address: str) -> Deed | None:
    """Return what a request does if that is to be written down."""
    method = _method(scope)
    for rule in RULES:
        found = rule.path.fullmatch(scope["path"]) if rule.method == method else None
        if found is not None:
            named = found.groupdict().get("id")
            target = named if named is not None and _NAME.fullmatch(named) else None
            return Deed(rule.action, target, address, scope["state"].get("request_id", ""))
    return None


def _method(scope: Scope) -> str:
    """Return the method that is meant: a tus client may have to say DELETE in a header of a POST."""
    method: str = scope["method"]
    if method == "POST" and scope["path"].startswith("/v1/uploads/"):
        return Headers(scope=scope).get("x-http-method-override", method).upper()
    return method
