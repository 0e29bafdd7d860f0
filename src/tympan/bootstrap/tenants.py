"""What operators may ask about tenants, for the command line; a server may be running on the same stores."""

from collections.abc import Mapping

from tympan.bootstrap.access import operator_entry
from tympan.bootstrap.jobs import Stores, WorkerPost, make_service, open_stores
from tympan.bootstrap.pipeline import make_data_dir
from tympan.config import Settings
from tympan.errors import InvalidRequest
from tympan.storage.audit import AuditStore
from tympan.storage.ids import MEASURING_TENANT
from tympan.storage.keys import KeyStore
from tympan.storage.tenants import Tenant, TenantStore

__all__ = ["Tenant", "erase", "limit", "listing", "retain"]


def listing(settings: Settings) -> list[Tenant]:
    """Return every tenant, by name. Raises ``StorageUnavailable``."""
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        return _tenants(settings, stores).all()


def retain(settings: Settings, tenant: str, audio_days: float | None, text_days: float | None) -> int:
    """Keep a tenant's audio and text for so many days, ``None`` for as long as the settings say.

    Return how many ended jobs that changes. Raises ``InvalidRequest`` for a reserved name, ``StorageUnavailable``.
    """
    _require_ordinary(tenant)
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        entry = operator_entry("tenant.retain", audio_days=audio_days, text_days=text_days)
        AuditStore(stores.database).record(entry.about(tenant, tenant))
        return _tenants(settings, stores).retain(tenant, audio_days, text_days)


def limit(settings: Settings, tenant: str, changes: Mapping[str, float | None], weight: float | None) -> None:
    """Change limits of a tenant's own, ``None`` for those of the settings again, and its weight if one is given.

    Raises ``InvalidRequest`` for a reserved name, ``StorageUnavailable``.
    """
    _require_ordinary(tenant)
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        entry = operator_entry("tenant.limit", changes=dict(changes), weight=weight)
        AuditStore(stores.database).record(entry.about(tenant, tenant))
        _tenants(settings, stores).limit(tenant, changes, weight)


def erase(settings: Settings, tenant: str) -> int:
    """Remove everything about a tenant, running jobs included; return how many jobs that were.

    Raises ``NotFound`` when nothing is kept of it, ``InvalidRequest`` for a reserved name, ``StorageUnavailable``.
    """
    _require_ordinary(tenant)
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        _tenants(settings, stores).require(tenant)
        AuditStore(stores.database).record(operator_entry("tenant.erase").about(tenant, tenant))
        KeyStore(stores.database).revoke_all(tenant)  # Nothing more is to come in meanwhile.
        count = make_service(settings, stores, WorkerPost(0.0)).erase_tenant(tenant)
        stores.upkeep.scrub()
        return count


def _require_ordinary(tenant: str) -> None:
    """Raise ``InvalidRequest`` for the one whose jobs are clips of golden sets: the server keeps and ends them."""
    if tenant == MEASURING_TENANT:
        raise InvalidRequest(
            f"The name {tenant} is reserved: clips of golden sets are kept under it while they are measured.",
            remedy="`tympan quality` is for golden sets.",
        )


def _tenants(settings: Settings, stores: Stores) -> TenantStore:
    return TenantStore(stores.database, audio_days=settings.retain_audio_days, text_days=settings.retain_text_days)
