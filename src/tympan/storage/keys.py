"""API keys as they are kept: a digest of each secret, never the secret.

A key is found by its id alone, because whose it is is what is asked. Listings name the tenant, or are for operators.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, func, insert, or_, select, update

from tympan.errors import Conflict, InvalidRequest, NotFound
from tympan.storage.audit import AuditEntry, add_entry
from tympan.storage.database import Database
from tympan.storage.tables import api_keys, tenants

ANY = ""
"""Asked for instead of an id: is there any key at all?"""

MAX_KEYS = 1_000
"""Most keys of one tenant that have not been revoked."""

_KEY = api_keys.c


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key without its secret; times are Unix seconds by the database's clock, ``usable`` is by that clock too."""

    id: str
    tenant: str
    name: str
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    rotated_from: str | None
    usable: bool

    @property
    def state(self) -> str:
        """What has become of it: one of ``KEY_STATES``."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.usable else "expired"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be kept: the id and digest of a fresh secret, whose it is, what it may do and for how long."""

    id: str
    secret_sha256: str
    tenant: str
    name: str
    scopes: tuple[str, ...]
    lifetime_s: float | None = None


KEY_STATES = ("active", "expired", "revoked")
"""What can have become of a key."""


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """Which keys: those of a ``tenant``, those in a ``state`` (one of ``KEY_STATES``); ``None`` for any."""

    tenant: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class KeyFact:
    """What has to be known to let a key in; ``left_s`` is how long it is good for, ``None`` for ever."""

    tenant: str
    secret_sha256: str
    scopes: frozenset[str]
    revoked: bool
    left_s: float | None


class KeyStore:
    """The table of API keys. Every change is in the audit log, in the same transaction."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._db = database

    def create(self, new: NewKey, entry: AuditEntry) -> StoredKey:
        """Keep a key and return it. Raises ``Conflict`` when its tenant has too many."""

        def work(tx: Connection) -> StoredKey:
            self._require_room(tx, new.tenant)
            return self._add(tx, new, None, entry)

        return self._db.write(work)

    def rotate(self, key_id: str, fresh: tuple[str, str], overlap_s: float, entry: AuditEntry) -> StoredKey:
        """Return a key that may do what ``key_id`` may, with a ``fresh`` id and digest; the old one ends later.

        It ends ``overlap_s`` from now, or when it would have anyway; the new one lives for as long as the old one was
        made for. Raises ``NotFound``, and ``Conflict`` when the old one has ended.
        """

        def work(tx: Connection) -> StoredKey:
            old = self._one(tx, key_id)
            if not old.usable:
                raise Conflict(
                    "This key has expired or was revoked.", remedy="Make a new one with `tympan keys create`."
                )
            self._require_room(tx, old.tenant)
            lifetime_s = None if old.expires_at is None else old.expires_at - old.created_at
            new = NewKey(*fresh, old.tenant, old.name, old.scopes, lifetime_s)
            ends = self._db.now() + overlap_s
            sooner = or_(_KEY.expires_at.is_(None), _KEY.expires_at > ends)
            tx.execute(update(api_keys).where(_KEY.id == key_id, sooner).values(expires_at=ends))
            return self._add(tx, new, key_id, entry)

        return self._db.write(work)

    def revoke(self, key_id: str, entry: AuditEntry, *, leaving: str | None = None) -> StoredKey:
        """End a key for good and return it; doing so twice changes nothing. Raises ``NotFound``.

        With ``leaving`` another key that allows that has to be left. Raises ``Conflict`` when there is none.
        """

        def work(tx: Connection) -> StoredKey:
            if leaving is not None:
                self._require_another(tx, key_id, leaving)
            alive = (_KEY.id == key_id, _KEY.revoked_at.is_(None))
            tx.execute(update(api_keys).where(*alive).values(revoked_at=self._db.now()))
            found = self._one(tx, key_id)
            add_entry(tx, self._db, entry.about(found.tenant, key_id))
            return found

        return self._db.write(work)

    def revoke_all(self, tenant: str) -> None:
        """End every key of a tenant that is about to be erased."""
        alive = (_KEY.tenant == tenant, _KEY.revoked_at.is_(None))
        self._db.write(lambda tx: tx.execute(update(api_keys).where(*alive).values(revoked_at=self._db.now())))

    def listing(self, tenant: str | None = None) -> list[StoredKey]:
        """Return the keys of ``tenant``, or of everybody, in the order of tenants and making."""
        query = self._query().order_by(_KEY.tenant, _KEY.created_at, _KEY.id)
        if tenant is not None:
            query = query.where(_KEY.tenant == tenant)
        return self._db.read(lambda tx: [_stored(row) for row in tx.execute(query).mappings()])

    def page(self, limit: int, after: str | None = None, which: "KeyChoice | None" = None) -> list[StoredKey]:
        """Return up to ``limit`` keys, the newest first, behind the one whose id is ``after``.

        Raises ``InvalidRequest`` when that one is not there.
        """
        which = which or KeyChoice()
        query = self._query().order_by(_KEY.created_at.desc(), _KEY.id.desc()).limit(limit)
        if which.tenant is not None:
            query = query.where(_KEY.tenant == which.tenant)
        if which.state is not None:
            query = query.where(self._in_state(which.state))

        def work(tx: Connection) -> list[StoredKey]:
            return [_stored(row) for row in tx.execute(query.where(*_behind(tx, after))).mappings()]

        return self._db.read(work)

    def any_allows(self, scope: str) -> bool:
        """Return whether there is a usable key that allows ``scope``."""
        query = select(_KEY.scopes).where(self._usable(), _KEY.scopes.contains(scope))
        return self._db.read(lambda tx: any(scope in found.split() for found in tx.scalars(query)))

    def get(self, key_id: str) -> StoredKey:
        """Return a key. Raises ``NotFound``."""
        return self._db.read(lambda tx: self._one(tx, key_id))

    def any_usable(self) -> bool:
        """Return whether anybody can be let in."""
        return self._db.read(lambda tx: tx.scalar(select(_KEY.id).where(self._usable()).limit(1)) is not None)

    def find(self, key_ids: Sequence[str]) -> dict[str, KeyFact]:
        """Return what is known of each key that there is, in one look; ``ANY`` has a fact when there is any key."""
        left_s = (_KEY.expires_at - self._db.now()).label("left_s")
        wanted = (_KEY.id, _KEY.tenant, _KEY.secret_sha256, _KEY.scopes, _KEY.revoked_at, left_s)

        def work(tx: Connection) -> dict[str, KeyFact]:
            rows = tx.execute(select(*wanted).where(_KEY.id.in_([each for each in key_ids if each != ANY])))
            found = {
                row.id: KeyFact(
                    row.tenant,
                    row.secret_sha256,
                    frozenset(row.scopes.split()),
                    row.revoked_at is not None,
                    row.left_s,
                )
                for row in rows
            }
            if ANY in key_ids and tx.scalar(select(_KEY.id).limit(1)) is not None:
                found[ANY] = _SOME
            return found

        return self._db.read(work)

    def touch(self, key_ids: Collection[str]) -> None:
        """Note that these keys have been used just now."""
        used = update(api_keys).where(_KEY.id.in_(key_ids)).values(last_used_at=self._db.now())
        self._db.write(lambda tx: tx.execute(used))

    def _add(self, tx: Connection, new: NewKey, rotated_from: str | None, entry: AuditEntry) -> StoredKey:
        now = self._db.now()
        tx.execute(self._db.insert(tenants).values(id=new.tenant).on_conflict_do_nothing())
        values = {
            "id": new.id,
            "tenant": new.tenant,
            "name": new.name,
            "secret_sha256": new.secret_sha256,
            "scopes": " ".join(new.scopes),
            "created_at": now,
            "expires_at": None if new.lifetime_s is None else now + new.lifetime_s,
            "rotated_from": rotated_from,
        }
        tx.execute(insert(api_keys).values(**values))
        add_entry(tx, self._db, entry.about(new.tenant, new.id))
        return self._one(tx, new.id)

    def _require_room(self, tx: Connection, tenant: str) -> None:
        mine = (_KEY.tenant == tenant, _KEY.revoked_at.is_(None))
        if (tx.scalar(select(func.count()).select_from(api_keys).where(*mine)) or 0) >= MAX_KEYS:
            raise Conflict(f"{tenant} has {MAX_KEYS} keys already.", remedy="Revoke those no longer used.")

    def _require_another(self, tx: Connection, key_id: str, scope: str) -> None:
        """Raise ``Conflict`` unless another usable key allows ``scope``; of two at once, the second waits and sees."""
        query = select(_KEY.id, _KEY.scopes).where(self._usable(), _KEY.scopes.contains(scope)).order_by(_KEY.id)
        found = tx.execute(query.with_for_update()).all()
        if not any(scope in row.scopes.split() for row in found if row.id != key_id):
            raise Conflict(
                f"This is the last key with the scope {scope!r}: without it nobody could make another one from here.",
                remedy=f"Make another key with {scope!r} first, or use `tympan keys revoke` on the server's machine.",
            )

    def _one(self, tx: Connection, key_id: str) -> StoredKey:
        row = tx.execute(self._query().where(_KEY.id == key_id)).mappings().first()
        if row is None:
            raise NotFound(f"There is no key {key_id!r}.", remedy="`tympan keys list` shows them.")
        return _stored(row)

    def _query(self) -> Select[*tuple[Any, ...]]:
        return select(api_keys, self._usable().label("usable"))

    def _in_state(self, state: str) -> ColumnElement[bool]:
        revoked = _KEY.revoked_at.is_not(None)
        return {
            "active": self._usable(),
            "revoked": revoked,
            "expired": and_(~revoked, _KEY.expires_at.is_not(None), _KEY.expires_at <= self._db.now()),
        }[state]

    def _usable(self) -> ColumnElement[bool]:
        return and_(_KEY.revoked_at.is_(None), or_(_KEY.expires_at.is_(None), _KEY.expires_at > self._db.now()))


_SOME = KeyFact("", "", frozenset(), revoked=True, left_s=None)


def _behind(tx: Connection, after: str | None) -> list[ColumnElement[bool]]:
    """Return what leaves out the keys up to ``after`` of a list, the newest first. Raises ``InvalidRequest``."""
    if after is None:
        return []
    made = tx.scalar(select(_KEY.created_at).where(_KEY.id == after))
    if made is None:
        raise InvalidRequest(
            "`after` is not the id of a key.", param="after", remedy="Begin with the first page again."
        )
    return [or_(_KEY.created_at < made, and_(_KEY.created_at == made, _KEY.id < after))]


def _stored(row: RowMapping) -> StoredKey:
    return StoredKey(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        scopes=tuple(row["scopes"].split()),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
        rotated_from=row["rotated_from"],
        usable=bool(row["usable"]),
    )
