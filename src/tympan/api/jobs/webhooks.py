"""``/v1/webhook-endpoints``: where events are sent, with which secret, and what came of each delivery."""

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, StrictBool, StrictStr
from starlette.requests import Request
from starlette.responses import Response

from tympan.api.access.callers import tenant_of
from tympan.api.deps import services_of
from tympan.api.fields.queries import PAGE_PARAMETERS, page_of, query_of
from tympan.api.intake.json_bodies import JsonBody, Page, json_body, takes, without_nul
from tympan.api.jobs.views import rfc3339
from tympan.errors import Unavailable
from tympan.jobs.webhooks import DELIVERY_STATES, Delivery, Endpoint, EndpointChange, EndpointSecret, WebhookService

router = APIRouter(prefix="/v1/webhook-endpoints")


Found = TypeVar("Found")
Url = Annotated[StrictStr, Field(min_length=1, max_length=8192, description="Where events are sent: an https address.")]
Description = Annotated[StrictStr, Field(max_length=1000), AfterValidator(without_nul)]


class EndpointBody(JsonBody):
    """A new endpoint."""

    url: Url
    description: Description = ""


class ChangeBody(JsonBody):
    """What to change of an endpoint; what is left out stays."""

    url: Url | None = None
    description: Description | None = None
    enabled: StrictBool | None = Field(None, description="false stops deliveries and drops what waits.")


class SinceBody(JsonBody):
    """Which lost deliveries to send again."""

    since: AwareDatetime = Field(description="A time with its zone, as in RFC 3339: events since then.")


class EndpointView(BaseModel):
    """A webhook endpoint. Times are RFC 3339 in UTC."""

    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    id: str
    url: str
    description: str
    enabled: bool
    disabled_reason: str | None = Field(description="Why it is disabled.")
    failing_since: str | None = Field(description="When the failures began that no success has ended.")
    implicit: bool = Field(description="Whether it was made for a job's webhook_url.")
    created_at: str


class SecretView(BaseModel):
    """The secret that signs messages."""

    secret: str
    previous_secret_until: str | None = Field(description="Until when the secret before it signs too.")


class CreatedView(EndpointView):
    """A new endpoint with its secret."""

    secret: str


class EndpointList(Page):
    """One page of endpoints, newest first."""

    data: list[EndpointView]


class AttemptView(BaseModel):
    """One try to deliver; ``status`` is null when no answer came."""

    number: int
    at: str
    status: int | None
    error: str | None
    duration_ms: int
    excerpt: str = Field(description="The beginning of the answer, 1 kB at most.")


class DeliveryView(BaseModel):
    """An event on its way to an endpoint."""

    object: Literal["webhook_delivery"] = "webhook_delivery"
    id: str = Field(description="The event's id, which the receiver gets as webhook-id.")
    type: str
    subject: str = Field(description="The job or batch that it is about.")
    seq: int
    state: Literal["pending", "delivered", "failed", "dropped"]
    attempts: int = Field(description="Attempts made since it was queued or replayed.")
    created_at: str
    next_attempt_at: str | None
    finished_at: str | None
    last_status: int | None
    last_error: str | None
    log: list[AttemptView] = Field(description="The attempts, oldest first; the last 20.")


class DeliveryList(Page):
    """One page of deliveries, newest first."""

    data: list[DeliveryView]


class ReplayedView(BaseModel):
    """How many deliveries are sent again; when it is 10000, ask again for the rest."""

    replayed: int


_STATE = {"name": "state", "in": "query", "schema": {"type": "array", "items": {"enum": list(DELIVERY_STATES)}}}


@router.post("", status_code=201, openapi_extra=takes(EndpointBody))
async def create_endpoint(request: Request, response: Response) -> CreatedView:
    """Make an endpoint; the answer holds its secret."""
    body = await json_body(request, EndpointBody)
    made, secret = await _ask(request, lambda hooks: hooks.create(tenant_of(request), body.url, body.description))
    response.headers["cache-control"] = "no-store"
    return CreatedView(**_endpoint(made).model_dump(), secret=secret.secret)


@router.get("", openapi_extra={"parameters": [*PAGE_PARAMETERS]})
async def list_endpoints(request: Request) -> EndpointList:
    """List endpoints, newest first."""
    limit, after = page_of(query_of(request, "limit", "after"), "whe")
    found = await _ask(request, lambda hooks: hooks.page(tenant_of(request), limit + 1, after))
    return EndpointList.of([_endpoint(one) for one in found], limit)


@router.get("/{endpoint_id}")
async def get_endpoint(request: Request, endpoint_id: str) -> EndpointView:
    """Return one endpoint."""
    return _endpoint(await _ask(request, lambda hooks: hooks.get(tenant_of(request), endpoint_id)))


@router.patch("/{endpoint_id}", openapi_extra=takes(ChangeBody))
async def change_endpoint(request: Request, endpoint_id: str) -> EndpointView:
    """Change address or description; disable, or enable again."""
    body = await json_body(request, ChangeBody)
    change = EndpointChange(body.url, body.description, body.enabled)
    return _endpoint(await _ask(request, lambda hooks: hooks.change(tenant_of(request), endpoint_id, change)))


@router.delete("/{endpoint_id}", status_code=204)
async def delete_endpoint(request: Request, endpoint_id: str) -> None:
    """Delete an endpoint, its address and its secret; what waits for it is dropped."""
    await _ask(request, lambda hooks: hooks.delete(tenant_of(request), endpoint_id))


@router.get("/{endpoint_id}/secret")
async def get_secret(request: Request, response: Response, endpoint_id: str) -> SecretView:
    """Return the secret that receivers check signatures with."""
    return _secret(await _ask(request, lambda hooks: hooks.secret(tenant_of(request), endpoint_id)), response)


@router.post("/{endpoint_id}/secret/rotate")
async def rotate_secret(request: Request, response: Response, endpoint_id: str) -> SecretView:
    """Return a new secret; for a day messages are signed with the one before it as well."""
    return _secret(await _ask(request, lambda hooks: hooks.rotate(tenant_of(request), endpoint_id)), response)


@router.get("/{endpoint_id}/deliveries", openapi_extra={"parameters": [_STATE, *PAGE_PARAMETERS]})
async def list_deliveries(request: Request, endpoint_id: str) -> DeliveryList:
    """List deliveries with their attempts, newest first, also those to an endpoint that was deleted."""
    query = query_of(request, "state", "limit", "after", repeatable=("state",))
    (limit, after), states = page_of(query), tuple(query.each("state", DELIVERY_STATES))
    found = await _ask(
        request, lambda hooks: hooks.deliveries(tenant_of(request), endpoint_id, limit + 1, states=states, after=after)
    )
    return DeliveryList.of([_delivery(one) for one in found], limit)


@router.post("/{endpoint_id}/deliveries/{delivery_id}/replay", status_code=202)
async def replay(request: Request, endpoint_id: str, delivery_id: str) -> DeliveryView:
    """Send one delivery again, whatever became of it."""
    return _delivery(await _ask(request, lambda hooks: hooks.replay(tenant_of(request), endpoint_id, delivery_id)))


@router.post("/{endpoint_id}/replay-failed", status_code=202, openapi_extra=takes(SinceBody))
async def replay_failed(request: Request, endpoint_id: str) -> ReplayedView:
    """Send again what failed or was dropped of the events since a time."""
    since = (await json_body(request, SinceBody)).since.timestamp()
    return ReplayedView(
        replayed=await _ask(request, lambda hooks: hooks.replay_failed(tenant_of(request), endpoint_id, since))
    )


@router.post("/{endpoint_id}/test", status_code=202)
async def test_endpoint(request: Request, endpoint_id: str) -> DeliveryView:
    """Send an event of the type ``test.ping``."""
    return _delivery(await _ask(request, lambda hooks: hooks.ping(tenant_of(request), endpoint_id)))


async def _ask(request: Request, question: Callable[[WebhookService], Found]) -> Found:
    """Return what the service answers. Raises what it raises, and ``Unavailable`` where there is none."""
    services = services_of(request)
    hooks = services.webhooks
    if not isinstance(hooks, WebhookService):
        raise Unavailable("Webhooks are not set up on this server.", remedy="Ask for the job's state instead.")
    return await services.runner.query(lambda: question(hooks))


def _secret(secret: EndpointSecret, response: Response) -> SecretView:
    response.headers["cache-control"] = "no-store"
    return SecretView(secret=secret.secret, previous_secret_until=rfc3339(secret.previous_until))


def _endpoint(endpoint: Endpoint) -> EndpointView:
    return EndpointView(
        id=endpoint.id,
        url=endpoint.url,
        description=endpoint.description,
        enabled=endpoint.enabled,
        disabled_reason=endpoint.disabled_reason,
        failing_since=rfc3339(endpoint.failing_since),
        implicit=endpoint.implicit,
        created_at=_moment(endpoint.created_at),
    )


def _delivery(delivery: Delivery) -> DeliveryView:
    return DeliveryView.model_validate(
        {
            "id": delivery.event_id,
            "type": delivery.type,
            "subject": delivery.subject_id,
            "seq": delivery.seq,
            "state": delivery.state,
            "attempts": delivery.attempts,
            "created_at": _moment(delivery.created_at),
            "next_attempt_at": rfc3339(delivery.due_at) if delivery.state == "pending" else None,
            "finished_at": rfc3339(delivery.finished_at),
            "last_status": delivery.last_status,
            "last_error": delivery.last_error,
            "log": [
                AttemptView(
                    number=attempt.number,
                    at=_moment(attempt.at),
                    status=attempt.status,
                    error=attempt.error,
                    duration_ms=attempt.duration_ms,
                    excerpt=attempt.excerpt,
                )
                for attempt in delivery.log
            ],
        }
    )


def _moment(unix_s: float) -> str:
    return rfc3339(unix_s) or ""
