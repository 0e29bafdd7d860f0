"""From settings to who administrates keys and tenants over HTTP."""

from tympan.access.administration import Administration, TenantDefaults
from tympan.config import Settings
from tympan.storage.database import Database
from tympan.storage.keys import KeyStore
from tympan.storage.tenants import TenantStore


def make_administration(settings: Settings, database: Database) -> Administration:
    """Return what may be done about keys and tenants."""
    days = {"audio_days": settings.retain_audio_days, "text_days": settings.retain_text_days}
    tenants = TenantStore(database, **days)
    return Administration(KeyStore(database), tenants, TenantDefaults(settings.tenant_limits, **days))
