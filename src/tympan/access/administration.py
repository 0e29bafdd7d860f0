"""What the operator may do about keys and tenants over HTTP; the command line does the same on the stores."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tympan.access.callers import Caller, Scope
from tympan.access.key_rules import DAY_S
from tympan.access.tenant_limits import UNLIMITED, OwnLimits, TenantLimits
from tympan.access.tokens import Token, mint
from tympan.access.trail import Deed, entry_of
from tympan.errors import Conflict
from tympan.storage.audit import AuditEntry
from tympan.storage.keys import KEY_STATES, KeyChoice, KeyStore, NewKey, StoredKey
from tympan.storage.tenants import Tenant, TenantChange, TenantStore

__all__ = [
    "KEY_STATES", "Administration", "Deed", "KeyChoice", "KeyWish", "Operator", "StoredKey", "Tenant", "TenantChange",
    "TenantDefaults", "Token",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeyWish:
    """A key to be made: whose, what it is called, what it allows, and for how many days; ``None`` for ever."""

    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    days: float | None = None

    def new(self, token: Token) -> NewKey:
        """Return what is kept of it."""
        lifetime_s = None if self.days is None else self.days * DAY_S
        return NewKey(token.id, token.secret_sha256, self.tenant, self.name, tuple(self.scopes), lifetime_s)


@dataclass(frozen=True, slots=True)
class Operator:
    """Who administrates, and the request in which that is done: what the audit log has of it."""

    caller: Caller
    deed: Deed


@dataclass(frozen=True, slots=True)
class TenantDefaults:
    """What a tenant has that has nothing of its own."""

    limits: TenantLimits = field(default_factory=lambda: UNLIMITED)
    audio_days: float = 0.0
    text_days: float = 0.0


class Administration:
    """Keys and tenants of an installation. Every method waits for the database and raises ``StorageUnavailable``.

    Every change is in the audit log, in the same transaction.
    """

    def __init__(self, keys: KeyStore, tenants: TenantStore, defaults: TenantDefaults) -> None:
        """Work on these stores."""
        self._keys, self._tenants, self._defaults = keys, tenants, defaults

    def keys(self, limit: int, after: str | None, which: KeyChoice) -> Sequence[StoredKey]:
        """Return up to ``limit`` keys, the newest first. Raises ``InvalidRequest`` when ``after`` is no key's id."""
        return self._keys.page(limit, after, which)

    def key(self, key_id: str) -> StoredKey:
        """Return a key. Raises ``NotFound``."""
        return self._keys.get(key_id)

    def create_key(self, wish: KeyWish, by: Operator) -> tuple[Token, StoredKey]:
        """Return a new key and what is kept of it. Raises ``Conflict`` when its tenant has too many.

        So is one without the scope ``admin`` refused where the door stands open and nobody has such a key: the first
        key shuts the door.
        """
        if by.caller.key_id is None and Scope.ADMIN not in wish.scopes and not self._keys.any_allows(Scope.ADMIN):
            raise Conflict(
                f"The first key locks out callers without one, and no key has the scope {Scope.ADMIN.value!r} yet.",
                remedy=f"Make a key with {Scope.ADMIN.value!r} first, and keep it.",
            )
        token = mint()
        entry = entry_of(by.caller, by.deed, scopes=list(wish.scopes))
        return token, self._keys.create(wish.new(token), entry)

    def rotate_key(self, key_id: str, overlap_s: float, by: Operator) -> tuple[Token, StoredKey]:
        """Return a key in the place of ``key_id``, which works for ``overlap_s`` more.

        Raises ``NotFound``, ``Conflict`` for one that has ended.
        """
        token = mint()
        entry = entry_of(by.caller, by.deed, rotated_from=key_id, overlap_s=overlap_s)
        return token, self._keys.rotate(key_id, (token.id, token.secret_sha256), overlap_s, entry)

    def revoke_key(self, key_id: str, by: Operator) -> StoredKey:
        """End a key for good. Raises ``NotFound``; ``Conflict`` for one's own while nobody else could take over."""
        leaving = Scope.ADMIN.value if key_id == by.caller.key_id else None
        return self._keys.revoke(key_id, entry_of(by.caller, by.deed), leaving=leaving)

    def tenants(self, limit: int, after: str | None) -> Sequence[Tenant]:
        """Return up to ``limit`` tenants by name, those behind the name ``after``."""
        return self._tenants.page(limit, after)

    def tenant(self, name: str) -> Tenant:
        """Return a tenant. Raises ``NotFound``."""
        return self._tenants.get(name)

    def create_tenant(self, name: str, change: TenantChange, by: Operator) -> Tenant:
        """Make a tenant and return it. Raises ``Conflict`` when it is there."""
        return self._tenants.create(name, change, _entry(change, by))

    def change_tenant(self, name: str, change: TenantChange, by: Operator) -> Tenant:
        """Change a tenant and return it. Raises ``NotFound``."""
        return self._tenants.change(name, change, _entry(change, by))

    def limits_of(self, tenant: Tenant) -> TenantLimits:
        """Return what holds for a tenant: its own limits over the installation's."""
        return OwnLimits(tenant.limits, tenant.weight, tenant.text_days).over(self._defaults.limits)

    def days_of(self, tenant: Tenant) -> tuple[float, float]:
        """Return for how many days audio and text of a tenant are kept."""
        own, usual = tenant, self._defaults
        audio_days = usual.audio_days if own.audio_days is None else own.audio_days
        return audio_days, usual.text_days if own.text_days is None else own.text_days


def _entry(change: TenantChange, by: Operator) -> AuditEntry:
    said = {"changes": dict(change.limits), "weight": change.weight, **change.days}
    return entry_of(by.caller, by.deed, **said)
