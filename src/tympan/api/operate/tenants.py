"""``/v1/admin/tenants``: whose jobs there are, what each may do, and how long what is theirs is kept."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, BaseModel, Field, StrictFloat, StrictInt, StrictStr
from starlette.requests import Request

from tympan.access import key_rules
from tympan.access.administration import Administration, Tenant, TenantChange
from tympan.access.tenant_limits import LIMITS, MAX_WEIGHT, MIN_WEIGHT, MOST
from tympan.api.deps import services_of
from tympan.api.errors import blaming
from tympan.api.fields.queries import PAGE_PARAMETERS, page_of, query_of
from tympan.api.intake.json_bodies import JsonBody, Page, json_body, takes, without_nul
from tympan.api.operate.operators import administration_of, check_operator, operator_of
from tympan.errors import InvalidRequest

router = APIRouter(prefix="/v1/admin/tenants", dependencies=[Depends(check_operator)])

_CHANGE_S = 30.0
"""Longest wait for a change: new days go to every ended job of the tenant."""

Whole = Annotated[StrictInt, Field(ge=0, le=MOST)] | None
Number = Annotated[StrictFloat, Field(ge=0, le=MOST, allow_inf_nan=False)] | None
Weight = Annotated[StrictFloat, Field(ge=MIN_WEIGHT, le=MAX_WEIGHT, allow_inf_nan=False)]
Days = Annotated[StrictFloat, Field(ge=0, le=key_rules.MAX_DAYS, allow_inf_nan=False)] | None


class LimitsBody(JsonBody):
    """Limits of a tenant's own: a number, 0 for no limit, null for what the settings say. What is left out stays."""

    requests_per_min: Whole = Field(None, description="Requests in a minute.")
    audio_minutes_per_min: Number = Field(None, description="Minutes of audio in a minute.")
    audio_minutes_per_day: Number = Field(None, description="Minutes of audio in 24 hours.")
    requests_at_once: Whole = Field(None, description="Requests at a time.")
    jobs_at_once: Whole = Field(None, description="Jobs queued or running at a time.")
    live_at_once: Whole = Field(None, description="Live sessions at a time.")
    storage_mb: Whole = Field(None, description="Uploads and audio kept here, in megabytes.")
    upload_mb: Whole = Field(None, description="Largest body or upload, in megabytes.")
    audio_minutes: Number = Field(None, description="Longest recording, in minutes.")


class TenantChangeBody(JsonBody):
    """What to change of a tenant; what is left out stays."""

    limits: LimitsBody = Field(
        default_factory=lambda: LimitsBody.model_validate({}), description="Limits of its own, by name."
    )
    weight: Weight | None = Field(None, description="Its share beside others: 2 gets twice as much as 1.")
    audio_days: Days = Field(None, description="Days to keep audio once a job has ended; null: as the settings say.")
    text_days: Days = Field(None, description="Days to keep jobs and their text; null: as the settings say.")


class TenantBody(TenantChangeBody):
    """A new tenant, and what it has of its own."""

    id: Annotated[StrictStr, Field(max_length=1000), AfterValidator(without_nul)] = Field(
        description="Its name: letters, digits, '.', '_', '-'; 64 at most."
    )


class LimitsView(BaseModel):
    """Limits by name."""

    requests_per_min: int | None
    audio_minutes_per_min: float | None
    audio_minutes_per_day: float | None
    requests_at_once: int | None
    jobs_at_once: int | None
    live_at_once: int | None
    storage_mb: int | None
    upload_mb: int | None
    audio_minutes: float | None


class EffectiveView(BaseModel):
    """What holds for a tenant: its own over the installation's."""

    limits: LimitsView
    audio_days: float
    text_days: float


class TenantView(BaseModel):
    """A tenant. ``effective`` is what holds for it; null elsewhere is what the settings say, 0 is no limit."""

    object: Literal["tenant"] = "tenant"
    id: str
    jobs: int = Field(description="How many of its jobs are kept.")
    weight: float
    audio_days: float | None
    text_days: float | None
    limits: LimitsView = Field(description="Limits of its own.")
    effective: EffectiveView


class TenantList(Page):
    """One page of tenants, by name."""

    data: list[TenantView]


@router.get("", openapi_extra={"parameters": [*PAGE_PARAMETERS]})
async def list_tenants(request: Request) -> TenantList:
    """List tenants by name: there is one from its first job, its first key or its first limit on."""
    limit, after = page_of(query_of(request, "limit", "after"))
    admin, runner = administration_of(request), services_of(request).runner
    found = await runner.query(lambda: admin.tenants(limit + 1, after))
    return TenantList.of([_view(admin, tenant) for tenant in found], limit)


@router.post("", status_code=201, openapi_extra=takes(TenantBody))
async def create_tenant(request: Request) -> TenantView:
    """Make a tenant, before it has any key or job."""
    body = await json_body(request, TenantBody)
    with blaming("id"):
        name = key_rules.tenant_name(body.id)
    by, change = operator_of(request), _change(body)
    admin, runner = administration_of(request), services_of(request).runner
    return _view(admin, await runner.chore(lambda: admin.create_tenant(name, change, by), _CHANGE_S))


@router.get("/{tenant_id}")
async def get_tenant(request: Request, tenant_id: str) -> TenantView:
    """Return one tenant."""
    admin, runner = administration_of(request), services_of(request).runner
    return _view(admin, await runner.query(lambda: admin.tenant(tenant_id)))


@router.patch("/{tenant_id}", openapi_extra=takes(TenantChangeBody))
async def change_tenant(request: Request, tenant_id: str) -> TenantView:
    """Change limits, weight and days; servers follow within five seconds, ended jobs with the next sweep."""
    body = await json_body(request, TenantChangeBody)
    if not body.model_fields_set:
        raise InvalidRequest("There is nothing to change.", remedy="Send a limit, the weight or a number of days.")
    change, by = _change(body), operator_of(request)
    admin, runner = administration_of(request), services_of(request).runner
    return _view(admin, await runner.chore(lambda: admin.change_tenant(tenant_id, change, by), _CHANGE_S))


def _change(body: TenantChangeBody) -> TenantChange:
    """Return what was said: null is the installation's, and what was left out is not in it."""
    days: dict[str, float | None] = {
        name: getattr(body, name) for name in ("audio_days", "text_days") if name in body.model_fields_set
    }
    weight = None if body.weight is None else float(body.weight)
    return TenantChange(body.limits.model_dump(exclude_unset=True), weight, days)


def _view(admin: Administration, tenant: Tenant) -> TenantView:
    holds, (audio_days, text_days) = admin.limits_of(tenant), admin.days_of(tenant)
    own: dict[str, Any] = {name: tenant.limits.get(name) for name in LIMITS}
    limits = LimitsView(**{name: getattr(holds, name) for name in LIMITS})
    return TenantView(
        id=tenant.id,
        jobs=tenant.n_jobs,
        weight=tenant.weight,
        audio_days=tenant.audio_days,
        text_days=tenant.text_days,
        limits=LimitsView(**own),
        effective=EffectiveView(limits=limits, audio_days=audio_days, text_days=text_days),
    )
