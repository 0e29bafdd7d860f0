"""Who calls, and what a key can allow."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Scope(StrEnum):
    """What a key can allow."""

    TRANSCRIBE = "transcribe"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    WEBHOOKS = "webhooks"
    MODELS_READ = "models:read"
    USAGE_READ = "usage:read"
    METRICS = "metrics"
    ADMIN = "admin"


MEANINGS: Mapping[Scope, str] = MappingProxyType(
    {
        Scope.TRANSCRIBE: "transcribe and translate files and live speech, detect languages",
        Scope.JOBS_READ: "see jobs, batches and uploads, with their results and audio",
        Scope.JOBS_WRITE: "make, cancel, correct and erase jobs, batches and uploads",
        Scope.WEBHOOKS: "see and change webhook endpoints, with their secrets",
        Scope.MODELS_READ: "list the models",
        Scope.USAGE_READ: "see what the tenant has used",
        Scope.METRICS: "read /metrics, quality and alarms of the whole server",
        Scope.ADMIN: "run the server: models, keys and tenants, golden sets, capacity",
    }
)
"""What each scope is for, in words for people."""

USUAL = (
    Scope.TRANSCRIBE,
    Scope.JOBS_READ,
    Scope.JOBS_WRITE,
    Scope.WEBHOOKS,
    Scope.MODELS_READ,
    Scope.USAGE_READ,
)
"""What a key allows unless something else is said: everything about its own tenant, nothing about the server."""

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant whose jobs, uploads, webhooks and limits a request is about, and what its key allows.

    ``key_id`` is ``None`` where no key is asked for.
    """

    tenant: str
    key_id: str | None = None
    scopes: frozenset[str] = frozenset()


EVERYBODY = Caller(DEFAULT_TENANT, scopes=frozenset(Scope))
"""Who calls where no keys are asked for: the one tenant, which may do everything."""

NOBODY = Caller("")
"""Who calls before that has been found out: somebody without a tenant, who may do nothing."""
