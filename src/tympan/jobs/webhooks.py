"""Webhooks as the routes use them, and what goes over the wire: bodies and signatures of Standard Webhooks 1.0."""

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from standardwebhooks import Webhook

from tympan.errors import Conflict
from tympan.jobs.sealing import Sealer
from tympan.storage.delivery_values import Event
from tympan.storage.webhooks import (
    DELIVERY_STATES,
    Attempt,
    Delivery,
    Endpoint,
    EndpointChange,
    WebhookStore,
)

__all__ = [
    "DELIVERY_STATES",
    "OVERLAP_S",
    "Attempt",
    "Delivery",
    "Endpoint",
    "EndpointChange",
    "EndpointSecret",
    "WebhookService",
    "message_body",
    "message_headers",
    "new_secret",
]

OVERLAP_S = 24 * 3600.0
"""How long the secret before the present one signs too."""

MAX_BODY_BYTES = 20_000

_SECRET_BYTES = 32


class AddressCheck(Protocol):
    """Knows which addresses may be reached."""

    def check(self, url: str, param: str | None = None) -> None:
        """Raise ``InvalidRequest`` or ``AddressRefused`` for an address that may not; ``param`` is its field."""


@dataclass(frozen=True, slots=True)
class EndpointSecret:
    """The secret that signs, and until when (Unix seconds) the one before it signs too."""

    secret: str
    previous_until: float | None


class WebhookService:
    """Endpoints and their deliveries for one tenant at a time; every call blocks for a query."""

    def __init__(self, store: WebhookStore, egress: AddressCheck, sealer: Sealer) -> None:
        """Keep endpoints in ``store``, their secrets sealed by ``sealer``; ``egress`` says which addresses will do."""
        self._store, self._egress, self._sealer = store, egress, sealer

    def create(self, tenant: str, url: str, description: str = "") -> tuple[Endpoint, EndpointSecret]:
        """Return a new endpoint and its secret. Raises ``InvalidRequest``, ``AddressRefused``, ``Conflict``."""
        self._egress.check(url, "url")
        secret = new_secret()
        return self._store.create(tenant, url, description, self._sealer.seal(secret)), EndpointSecret(secret, None)

    def ensure_endpoint(self, tenant: str, url: str) -> str:
        """Return the id of the endpoint for a job's ``webhook_url``: one for each tenant and address.

        Raises ``InvalidRequest``, ``AddressRefused``, and ``Conflict`` when it has been disabled.
        """
        self._egress.check(url, "webhook_url")
        endpoint = self._store.ensure(tenant, url, self._sealer.seal(new_secret()))
        return _enabled(endpoint, "webhook_url").id

    def require_endpoint(self, tenant: str, endpoint_id: str) -> Endpoint:
        """Return the endpoint that a job names. Raises ``NotFound``, and ``Conflict`` when it is disabled."""
        endpoint = self._store.get(tenant, endpoint_id)
        if endpoint.implicit:  # It is to stay until the job is there.
            endpoint = self._store.ensure(tenant, endpoint.url, self._sealer.seal(new_secret()))
        return _enabled(endpoint, "webhook_endpoint")

    def get(self, tenant: str, endpoint_id: str) -> Endpoint:
        """Return an endpoint. Raises ``NotFound``."""
        return self._store.get(tenant, endpoint_id)

    def page(self, tenant: str, limit: int, after: str | None) -> list[Endpoint]:
        """Return endpoints, newest first, from beyond the id ``after``."""
        return self._store.page(tenant, limit, after)

    def change(self, tenant: str, endpoint_id: str, change: EndpointChange) -> Endpoint:
        """Return the endpoint, changed. Raises ``NotFound``, ``InvalidRequest``, ``AddressRefused``, ``Conflict``."""
        if change.url is not None:
            self._egress.check(change.url, "url")
        return self._store.change(tenant, endpoint_id, change)

    def delete(self, tenant: str, endpoint_id: str) -> None:
        """Delete an endpoint; what waits for it is dropped. Raises ``NotFound``."""
        self._store.delete(tenant, endpoint_id)

    def secret(self, tenant: str, endpoint_id: str) -> EndpointSecret:
        """Return an endpoint's secret. Raises ``NotFound``, ``ConfigError``."""
        sealed = self._store.secrets(tenant, endpoint_id)
        return EndpointSecret(self._sealer.unseal(sealed.secret), sealed.old_until)

    def rotate(self, tenant: str, endpoint_id: str) -> EndpointSecret:
        """Return a new secret for an endpoint; the one before it signs too for a day. Raises ``NotFound``."""
        secret = new_secret()
        sealed = self._store.rotate(tenant, endpoint_id, self._sealer.seal(secret), OVERLAP_S)
        return EndpointSecret(secret, sealed.old_until)

    def deliveries(
        self, tenant: str, endpoint_id: str, limit: int, *, states: Sequence[str] = (), after: str | None = None
    ) -> list[Delivery]:
        """Return deliveries to an endpoint, newest first, with their attempts. Raises ``NotFound``."""
        return self._store.deliveries(tenant, endpoint_id, limit, states=states, after=after)

    def replay(self, tenant: str, endpoint_id: str, event_id: str) -> Delivery:
        """Return a delivery that is sent again. Raises ``NotFound``, ``Conflict`` when the endpoint is disabled."""
        return self._store.replay(tenant, endpoint_id, event_id)

    def replay_failed(self, tenant: str, endpoint_id: str, since: float) -> int:
        """Send again what failed or was dropped of events since then; return how many. Raises as ``replay``."""
        return self._store.replay_failed(tenant, endpoint_id, since)

    def ping(self, tenant: str, endpoint_id: str) -> Delivery:
        """Return the delivery of an event that only tries the endpoint. Raises as ``replay``."""
        return self._store.ping(tenant, endpoint_id)


def new_secret() -> str:
    """Return a secret that nobody has, in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def message_body(event: Event) -> bytes:
    """Return what is sent about an event: under 20 kB, else without metadata, and the same at each attempt."""
    data = json.loads(event.data)
    body = _json(event, data)
    return body if len(body) < MAX_BODY_BYTES else _json(event, data | {"metadata": None})


def message_headers(event_id: str, body: bytes, secrets_: Sequence[str], at: datetime) -> dict[str, str]:
    """Return the headers of one attempt at ``at`` (in UTC), signed with each secret."""
    signatures = [Webhook(secret).sign(event_id, at, body.decode()) for secret in secrets_]
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _json(event: Event, data: object) -> bytes:
    at = datetime.fromtimestamp(event.created_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = {"type": event.type, "timestamp": at, "seq": event.seq, "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _enabled(endpoint: Endpoint, param: str) -> Endpoint:
    if not endpoint.enabled:
        raise Conflict(
            f"The webhook endpoint {endpoint.id} is disabled: {endpoint.disabled_reason}",
            param=param,
            remedy="Enable it, or name another.",
        )
    return endpoint
