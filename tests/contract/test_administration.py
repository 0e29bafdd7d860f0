"""Keys and tenants as the operator pages through and changes them, on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import text

from tests.access_support import entry, new_key
from tympan.errors import Conflict, InvalidRequest, NotFound
from tympan.storage.audit import AuditStore
from tympan.storage.database import Database
from tympan.storage.ids import MEASURING_TENANT
from tympan.storage.keys import KeyChoice, KeyStore
from tympan.storage.tenants import TenantChange, TenantStore

ADMIN = ("admin",)


@pytest.fixture
def keys(database: Database) -> KeyStore:
    """Return the keys in it."""
    return KeyStore(database)


@pytest.fixture
def tenants(database: Database) -> TenantStore:
    """Return the tenants in it."""
    return TenantStore(database, audio_days=1, text_days=30)


def _add(keys: KeyStore, tenant: str = "acme", scopes: tuple[str, ...] = ADMIN, life_s: float | None = None) -> str:
    return keys.create(new_key(tenant, scopes, life_s)[1], entry()).id


def test_pages_hold_every_key_once_also_those_of_one_moment(keys: KeyStore, database: Database) -> None:
    """The newest first; keys that were made in the same moment have an order too."""
    made = [_add(keys, "ab"[n % 2]) for n in range(6)]
    database.write(lambda tx: tx.execute(text("update api_keys set created_at = 1000")))
    newest = _add(keys)
    seen, after = list[str](), None
    while page := keys.page(2, after):
        seen += [key.id for key in page]
        after = seen[-1]
    assert seen == [newest, *sorted(made, reverse=True)]
    assert {key.id for key in keys.page(10, None, KeyChoice("a"))} == set(made[::2])
    with pytest.raises(InvalidRequest, match="after"):
        keys.page(2, "nobodys")


def test_keys_are_told_apart_by_what_became_of_them(keys: KeyStore) -> None:
    """Active, expired or revoked: each is in one of the three."""
    active, expired, revoked = _add(keys), _add(keys, life_s=-1.0), _add(keys, life_s=-1.0)
    keys.revoke(revoked, entry())
    for state, key_id in (("active", active), ("expired", expired), ("revoked", revoked)):
        (found,) = keys.page(10, None, KeyChoice(state=state))
        assert (found.id, found.state) == (key_id, state)


def test_a_key_is_left_that_allows_it(keys: KeyStore, database: Database) -> None:
    """Only a usable one counts, and only one with that very scope; what is refused leaves no row."""
    last = _add(keys)
    _add(keys, scopes=("transcribe", "administer"))
    _add(keys, life_s=-1.0)
    before = AuditStore(database).page()
    assert keys.any_allows("admin")
    with pytest.raises(Conflict, match="last key"):
        keys.revoke(last, entry(), leaving="admin")
    assert AuditStore(database).page() == before
    other = _add(keys, "others", ("jobs:read", "admin"))
    assert keys.revoke(last, entry(), leaving="admin").state == "revoked"
    with pytest.raises(Conflict):
        keys.revoke(other, entry(), leaving="admin")
    keys.revoke(other, entry())
    assert not keys.any_allows("admin")


def test_two_who_end_their_own_keys_at_once_leave_one(keys: KeyStore) -> None:
    """The second waits for the first and sees that it is the last."""
    for _ in range(5):
        pair, start = [_add(keys), _add(keys)], Barrier(2)

        def end(key_id: str, start: Barrier = start) -> bool:
            start.wait(30)
            try:
                keys.revoke(key_id, entry(), leaving="admin")
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(end, pair)) == [False, True]
        (left,) = keys.page(10, None, KeyChoice(state="active"))
        keys.revoke(left.id, entry())


def test_a_tenant_is_made_once_and_changed_in_one_go(tenants: TenantStore, database: Database) -> None:
    """Limits, weight and days with their row in the log, or nothing at all."""
    change = TenantChange({"storage_mb": 5, "upload_mb": None}, 2.0, {"audio_days": 3.0})
    made = tenants.create("acme", change, entry("tenant.create"))
    assert (made.limits, made.weight, made.audio_days, made.text_days) == ({"storage_mb": 5}, 2.0, 3.0, None)
    with pytest.raises(Conflict, match="already"):
        tenants.create("acme", TenantChange(weight=9.0), entry("tenant.create"))
    changed = tenants.change(
        "acme", TenantChange({"storage_mb": None}, days={"text_days": 7.0}), entry("tenant.change")
    )
    assert (changed.limits, changed.weight, changed.audio_days, changed.text_days) == ({}, 2.0, 3.0, 7.0)
    assert tenants.get("acme") == changed
    rows = AuditStore(database).page("acme")
    assert [(row.action, row.target) for row in rows] == [("tenant.create", "acme"), ("tenant.change", "acme")]
    with pytest.raises(NotFound):
        tenants.change("nobody", TenantChange(weight=9.0), entry("tenant.change"))
    assert len(AuditStore(database).page()) == 2


def test_tenants_come_in_pages_without_the_one_that_measures(tenants: TenantStore, database: Database) -> None:
    """By name."""
    for name in ("carol", "alice", "bob"):
        tenants.create(name, TenantChange(), entry("tenant.create"))
    database.write(lambda tx: tx.execute(text(f"insert into tenants (id) values ('{MEASURING_TENANT}')")))  # noqa: S608
    assert [each.id for each in tenants.page(2)] == ["alice", "bob"]
    assert [each.id for each in tenants.page(2, "bob")] == ["carol"]
    with pytest.raises(NotFound):
        tenants.get(MEASURING_TENANT)
