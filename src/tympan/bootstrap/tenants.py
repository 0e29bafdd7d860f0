"""What operators may ask about tenants, for the command line; a server may be running on the same stores."""

from tympan.bootstrap.jobs import Stores, WorkerPost, make_service, open_stores
from tympan.bootstrap.pipeline import make_data_dir
from tympan.config import Settings
from tympan.storage.tenants import Tenant, TenantStore

__all__ = ["Tenant", "erase", "listing", "retain"]


def listing(settings: Settings) -> list[Tenant]:
    """Return every tenant, by name. Raises ``StorageUnavailable``."""
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        return _tenants(settings, stores).all()


def retain(settings: Settings, tenant: str, audio_days: float | None, text_days: float | None) -> int:
    """Keep a tenant's audio and text for so many days, ``None`` for as long as the settings say.

    Return how many ended jobs that changes. Raises ``StorageUnavailable``.
    """
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        return _tenants(settings, stores).retain(tenant, audio_days, text_days)


def erase(settings: Settings, tenant: str) -> int:
    """Remove everything about a tenant, running jobs included; return how many jobs that were.

    Raises ``NotFound`` when nothing is kept of it, ``StorageUnavailable``.
    """
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        _tenants(settings, stores).require(tenant)
        count = make_service(settings, stores, WorkerPost(0.0)).erase_tenant(tenant)
        stores.upkeep.scrub()
        return count


def _tenants(settings: Settings, stores: Stores) -> TenantStore:
    return TenantStore(stores.database, audio_days=settings.retain_audio_days, text_days=settings.retain_text_days)
