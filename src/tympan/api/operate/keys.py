"""``/v1/admin/keys``: API keys of every tenant, for the operator. A secret is shown once, by what made it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, BaseModel, Field, StrictFloat, StrictStr
from starlette.requests import Request
from starlette.responses import Response

from tympan.access import key_rules
from tympan.access.administration import KEY_STATES, KeyChoice, KeyWish, StoredKey, Token
from tympan.access.callers import DEFAULT_TENANT, USUAL
from tympan.api.deps import services_of
from tympan.api.errors import blaming
from tympan.api.fields.forms import one_of
from tympan.api.fields.queries import PAGE_PARAMETERS, page_of, query_of
from tympan.api.intake.json_bodies import JsonBody, Page, json_body, takes, without_nul
from tympan.api.jobs.views import rfc3339
from tympan.api.operate.operators import administration_of, check_operator, operator_of
from tympan.errors import InvalidRequest

router = APIRouter(prefix="/v1/admin/keys", dependencies=[Depends(check_operator)])

_TENANT_CHARS = 64
_OVERLAP_HOURS = 24.0

Number = StrictFloat
Text = Annotated[StrictStr, Field(max_length=1000), AfterValidator(without_nul)]


class KeyBody(JsonBody):
    """A new key."""

    tenant: Text = Field(DEFAULT_TENANT, description="Whose jobs, uploads and webhooks it opens.")
    name: Text = Field("", description="What it is for, to know it by; 100 printable characters at most.")
    scopes: list[Text] = Field([*USUAL], max_length=64, description="What it allows.")
    expires_in_days: Number | None = Field(
        None, description="Days until it ends, up to 36500; without, it lasts until it is revoked."
    )


class RotateBody(JsonBody):
    """How long the old key goes on working."""

    overlap_hours: Number = Field(_OVERLAP_HOURS, description="0 ends the old key at once; up to 2160.")


class KeyView(BaseModel):
    """A key without its secret, which is kept nowhere. Times are RFC 3339 in UTC."""

    object: Literal["api_key"] = "api_key"
    id: str = Field(description="What stands behind `tym_` in the key.")
    tenant: str
    name: str
    scopes: list[str]
    state: Literal["active", "expired", "revoked"]
    created_at: str
    expires_at: str | None = Field(description="When it ends, or ended, by itself.")
    revoked_at: str | None
    last_used_at: str | None = Field(description="Right to about a minute.")
    rotated_from: str | None = Field(description="The key in whose place it is.")


class NewKeyView(KeyView):
    """A new key with its secret."""

    key: str = Field(description="The key itself, shown this once.")


class KeyList(Page):
    """One page of keys, the newest first."""

    data: list[KeyView]


_LIST: dict[str, Any] = {
    "parameters": [
        {"name": "tenant", "in": "query", "schema": {"type": "string"}, "description": "Only this tenant's."},
        {"name": "state", "in": "query", "schema": {"type": "string", "enum": list(KEY_STATES)}},
        *PAGE_PARAMETERS,
    ]
}


@router.get("", openapi_extra=_LIST)
async def list_keys(request: Request) -> KeyList:
    """List keys of all tenants, the newest first, with those that have ended."""
    query = query_of(request, "tenant", "state", "limit", "after")
    limit, after = page_of(query)
    state = query.text("state", max_chars=_TENANT_CHARS)
    tenant = query.text("tenant", max_chars=_TENANT_CHARS)
    which = KeyChoice(tenant, None if state is None else one_of("state", state, KEY_STATES))
    admin, runner = administration_of(request), services_of(request).runner
    found = await runner.query(lambda: admin.keys(limit + 1, after, which))
    return KeyList.of([_view(key) for key in found], limit)


@router.post("", status_code=201, openapi_extra=takes(KeyBody))
async def create_key(request: Request, response: Response) -> NewKeyView:
    """Make a key; the answer holds it, this once. Every process takes it at once."""
    body = await json_body(request, KeyBody)
    wish, by = _wish(body), operator_of(request)
    admin, runner = administration_of(request), services_of(request).runner
    return _new(response, *await runner.query(lambda: admin.create_key(wish, by)))


@router.get("/{key_id}")
async def get_key(request: Request, key_id: str) -> KeyView:
    """Return one key without its secret."""
    admin, runner = administration_of(request), services_of(request).runner
    return _view(await runner.query(lambda: admin.key(key_id)))


@router.post("/{key_id}/rotate", status_code=201, openapi_extra=takes(RotateBody))
async def rotate_key(request: Request, response: Response, key_id: str) -> NewKeyView:
    """Make a key in the place of another, which goes on working for a while; the answer holds the new one, this once.

    The new key has the same tenant, scopes and lifetime.
    """
    hours = float((await json_body(request, RotateBody)).overlap_hours)
    if not key_rules.is_overlap(hours):
        raise InvalidRequest(
            f"overlap_hours cannot be {hours:g}.",
            param="overlap_hours",
            remedy=f"Give 0 to {key_rules.MAX_OVERLAP_HOURS:g}.",
        )
    by = operator_of(request)
    admin, runner = administration_of(request), services_of(request).runner
    made = await runner.query(lambda: admin.rotate_key(key_id, hours * key_rules.HOUR_S, by))
    return _new(response, *made)


@router.delete("/{key_id}")
async def revoke_key(request: Request, key_id: str) -> KeyView:
    """End a key for good; every process refuses it within five seconds. It stays in the list.

    The key that asks may be ended only while another one has the scope ``admin``.
    """
    by = operator_of(request)
    admin, runner = administration_of(request), services_of(request).runner
    return _view(await runner.query(lambda: admin.revoke_key(key_id, by)))


def _wish(body: KeyBody) -> KeyWish:
    """Return what is asked for. Raises ``InvalidRequest`` naming the field."""
    with blaming("tenant"):
        tenant = key_rules.tenant_name(body.tenant)
    with blaming("scopes"):
        scopes = key_rules.scopes_named(body.scopes)
    if not key_rules.is_key_name(body.name):
        raise InvalidRequest(
            "name is too long or not printable.",
            param="name",
            remedy=f"Use up to {key_rules.MAX_NAME_CHARS} printable characters.",
        )
    days = None if body.expires_in_days is None else float(body.expires_in_days)
    if days is not None and not key_rules.is_lifetime(days):
        raise InvalidRequest(
            f"expires_in_days cannot be {days:g}.",
            param="expires_in_days",
            remedy=f"Give a number of days above 0, up to {key_rules.MAX_DAYS}, or leave it out.",
        )
    return KeyWish(tenant, body.name, scopes, days)


def _new(response: Response, token: Token, stored: StoredKey) -> NewKeyView:
    response.headers["cache-control"] = "no-store"
    return NewKeyView(**_view(stored).model_dump(), key=token.text)


def _view(key: StoredKey) -> KeyView:
    return KeyView.model_validate(
        {
            "id": key.id,
            "tenant": key.tenant,
            "name": key.name,
            "scopes": list(key.scopes),
            "state": key.state,
            "created_at": rfc3339(key.created_at),
            "expires_at": rfc3339(key.expires_at),
            "revoked_at": rfc3339(key.revoked_at),
            "last_used_at": rfc3339(key.last_used_at),
            "rotated_from": key.rotated_from,
        }
    )
