"""From settings to who may come in, for servers; and what operators may ask about keys and the audit log."""

import getpass
import ipaddress
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tympan import telemetry
from tympan.access.administration import KeyWish
from tympan.access.gate import Asks, Gate
from tympan.access.ring import KeyRing
from tympan.access.tokens import Token, mint
from tympan.access.trail import Trail
from tympan.api.access.entrance import Doors
from tympan.bootstrap.jobs import open_database
from tympan.bootstrap.pipeline import make_data_dir
from tympan.bootstrap.results import make_sealer
from tympan.config import Settings, is_loopback
from tympan.errors import ConfigError, StorageUnavailable
from tympan.jobs.tickets import Tickets
from tympan.storage import migrate
from tympan.storage.audit import AuditEntry, AuditRow, AuditStore
from tympan.storage.database import Database
from tympan.storage.keys import KeyStore, StoredKey

__all__ = [
    "AuditRow",
    "KeyWish",
    "StoredKey",
    "Token",
    "audit_rows",
    "create",
    "listing",
    "open_doors",
    "revoke",
    "rotate",
]

_LOG = telemetry.get_logger(__name__)
_HOW = "Make one with: tympan keys create"


@contextmanager
def open_doors(settings: Settings, database: Database) -> Iterator[Doors]:
    """Yield who is let in.

    Raises ``ConfigError`` where other machines could come in and nobody has a key.
    """
    keys = KeyStore(database)
    ring = KeyRing(keys.find, keys.touch)
    asks = _asks(settings)
    if asks is Asks.ALWAYS:
        _require_keys(keys, settings)
    try:
        yield Doors(
            Gate(asks, ring),
            Trail(AuditStore(database).record),
            settings.allowed_origins,
            tuple(ipaddress.ip_network(each, strict=False) for each in settings.trusted_proxies),
            frozenset({"/metrics"} if settings.metrics_open else ()),
            settings.web_ui,
            Tickets(make_sealer(settings)),
        )
    finally:
        ring.close()


def create(settings: Settings, wish: KeyWish) -> tuple[Token, StoredKey]:
    """Return a new key, which is kept nowhere but as a digest, and what is kept of it.

    Raises ``Conflict``, ``StorageUnavailable``.
    """
    token = mint()
    with _database(settings) as database:
        return token, KeyStore(database).create(wish.new(token), operator_entry("key.create", scopes=list(wish.scopes)))


def rotate(settings: Settings, key_id: str, overlap_s: float) -> tuple[Token, StoredKey]:
    """Return a key in the place of ``key_id``, which works for ``overlap_s`` more.

    Raises ``NotFound``, ``Conflict``, ``StorageUnavailable``.
    """
    token = mint()
    entry = operator_entry("key.rotate", rotated_from=key_id, overlap_s=overlap_s)
    with _database(settings) as database:
        return token, KeyStore(database).rotate(key_id, (token.id, token.secret_sha256), overlap_s, entry)


def revoke(settings: Settings, key_id: str) -> StoredKey:
    """End a key for good. Raises ``NotFound``, ``StorageUnavailable``."""
    with _database(settings) as database:
        return KeyStore(database).revoke(key_id, operator_entry("key.revoke"))


def listing(settings: Settings, tenant: str | None) -> list[StoredKey]:
    """Return the keys of ``tenant``, or all. Raises ``StorageUnavailable``."""
    with _database(settings) as database:
        return KeyStore(database).listing(tenant)


def audit_rows(settings: Settings, tenant: str | None) -> Iterator[Sequence[AuditRow]]:
    """Yield the audit log in pages, oldest row first. Raises ``StorageUnavailable``."""
    with _database(settings) as database:
        store, after = AuditStore(database), 0
        while page := store.page(tenant, after):
            yield page
            after = page[-1].id


def operator_entry(action: str, **detail: object) -> AuditEntry:
    """Return what the log says of somebody at this machine's command line."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A user without a name, as in many containers.
        user = str(os.getuid())
    return AuditEntry(f"cli:{user}"[:128], action, detail=detail or None)


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    """Yield the database, the schema up to date (embedded) or as it is (cluster)."""
    make_data_dir(settings.data_dir)
    with open_database(settings) as database:
        if settings.mode == "embedded":
            migrate.upgrade(database)
        yield database


def _asks(settings: Settings) -> Asks:
    if settings.api_keys == "open":
        return Asks.NEVER
    open_by_default = settings.api_keys is None and is_loopback(settings.host)
    return Asks.ONCE_THERE_ARE_SOME if open_by_default else Asks.ALWAYS


def _require_keys(keys: KeyStore, settings: Settings) -> None:
    """Raise ``ConfigError`` where other machines reach a server that nobody could use."""
    try:
        if keys.any_usable():
            return
    except StorageUnavailable as error:
        # A database that comes later has to vouch for every key anyway.
        _LOG.warning("keys_are_not_known_yet", cause=error.message)
        return
    if is_loopback(settings.host):
        _LOG.warning("nobody_has_a_key", remedy=_HOW)
        return
    raise ConfigError(
        f"HOST {settings.host} can be reached by other machines, and nobody has an API key yet.",
        remedy=f"{_HOW}. Or set HOST to 127.0.0.1, or API_KEYS to 'open' to serve everybody who can reach it.",
    )
