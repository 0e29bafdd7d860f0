"""``GET /v1/usage``: what the caller's tenant has used, by day, kind of work and model."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan.access.callers import Scope
from tympan.access.usage import Period, UsageRow, csv_of, flat
from tympan.api.access.callers import caller_of
from tympan.api.access.permissions import check_scope
from tympan.api.deps import services_of
from tympan.api.fields.forms import Form
from tympan.api.fields.queries import query_of
from tympan.api.jobs.views import json_answer
from tympan.errors import InvalidRequest

router = APIRouter()

_DAYS, _MOST_DAYS = 30, 400
_NAME_CHARS = 64
_EVERYBODY = "*"
_FORMATS = ("json", "csv")


@dataclass(frozen=True, slots=True)
class UsageBody:
    """What was used on a day (UTC) in one kind of work by one model; times are in seconds."""

    day: str
    tenant: str
    kind: Literal["sync", "job", "live"]
    model: str
    requests: int
    failures: int
    audio_s: float
    processing_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageListBody:
    """Usage from the first day to the last, both included, oldest first."""

    object: Literal["list"] = "list"
    first: str
    last: str
    data: list[UsageBody]


_QUERY: dict[str, Any] = {
    "parameters": [
        {
            "name": "from",
            "in": "query",
            "schema": {"type": "string", "format": "date"},
            "description": f"First day in UTC; {_DAYS} days before the last unless said otherwise.",
        },
        {
            "name": "to",
            "in": "query",
            "schema": {"type": "string", "format": "date"},
            "description": "Last day in UTC; today unless said otherwise.",
        },
        {
            "name": "tenant",
            "in": "query",
            "schema": {"type": "string", "maxLength": _NAME_CHARS},
            "description": f"Another tenant than the caller's, {_EVERYBODY} for all; takes a key with the scope admin.",
        },
        {
            "name": "format",
            "in": "query",
            "schema": {"type": "string", "enum": list(_FORMATS), "default": "json"},
        },
    ],
    "responses": {"200": {"description": "The usage.", "content": {"text/csv": {"schema": {"type": "string"}}}}},
}


@router.get("/v1/usage", responses={200: {"model": UsageListBody}}, openapi_extra=_QUERY, response_class=Response)
async def get_usage(request: Request) -> Response:
    """Return what was used: a row for each day, kind of work and model.

    Jobs count on the day they end. Synchronous calls and live sessions are in it a few seconds after their end.
    """
    form = query_of(request, "from", "to", "tenant", "format")
    wanted = form.choice("format", _FORMATS, "json")
    period, tenant = _period(form), _tenant(request, form)
    services = services_of(request)
    whose = None if tenant == _EVERYBODY else tenant
    rows = await services.runner.query(lambda: services.desks.meter.books.between(period, whose))
    if wanted == "csv":
        return Response(csv_of(rows), media_type="text/csv; charset=utf-8")
    return json_answer(
        UsageListBody(first=period.first.isoformat(), last=period.last.isoformat(), data=[_body(row) for row in rows])
    )


def _tenant(request: Request, form: Form) -> str:
    """Return whose usage is asked for. Raises ``InsufficientScope`` for another tenant's without that right."""
    caller = caller_of(request)
    tenant = form.text("tenant", max_chars=_NAME_CHARS) or caller.tenant
    if tenant != caller.tenant:
        check_scope(caller, Scope.ADMIN)
    return tenant


def _period(form: Form) -> Period:
    last = _day(form, "to") or datetime.now(UTC).date()
    first = _day(form, "from") or max(date.min + timedelta(days=_DAYS), last) - timedelta(days=_DAYS)
    if not timedelta(0) <= last - first <= timedelta(days=_MOST_DAYS):
        raise InvalidRequest(
            "The first day is after the last, or the period is too long.",
            param="from",
            remedy=f"Ask for at most {_MOST_DAYS} days.",
        )
    return Period(first, last)


def _day(form: Form, name: str) -> date | None:
    text = form.text(name, max_chars=10)
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"{name} is not a day.", param=name, remedy="Send a day such as 2026-01-31.") from error


def _body(row: UsageRow) -> UsageBody:
    return UsageBody(**flat(row))  # type: ignore[arg-type]
