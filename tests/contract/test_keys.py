"""API keys and the audit log on SQLite and PostgreSQL."""

import hashlib
import re

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError

from tests.access_support import entry, new_key
from tympan.access.tokens import mint
from tympan.errors import Conflict, NotFound
from tympan.storage import keys as keys_module
from tympan.storage.audit import AuditEntry, AuditStore
from tympan.storage.database import Database
from tympan.storage.keys import ANY, KeyStore
from tympan.storage.tables import metadata
from tympan.storage.tenants import TenantStore, forget_tenant

HOUR_S = 3_600.0


@pytest.fixture
def keys(database: Database) -> KeyStore:
    """Return the keys in it."""
    return KeyStore(database)


def _changed(database: Database, sql: str) -> None:
    database.write(lambda tx: tx.execute(text(sql)))


def test_a_key_is_found_by_its_id_with_what_it_allows(keys: KeyStore) -> None:
    """What is not there has no fact; ``ANY`` has one as soon as there is a key, whatever has become of it."""
    assert keys.find([ANY, "nobody"]) == {}
    token, new = new_key(tenant="acme", scopes=("transcribe", "jobs:read"))
    keys.create(new, entry())
    found = keys.find([token.id, "nobody"])
    assert list(found) == [token.id]
    fact = found[token.id]
    assert (fact.tenant, fact.revoked, fact.left_s) == ("acme", False, None)
    assert fact.scopes == {"transcribe", "jobs:read"}
    assert fact.secret_sha256 == token.secret_sha256
    keys.revoke(token.id, entry())
    assert set(keys.find([ANY])) == {ANY}


def test_the_time_that_is_left_is_counted_by_the_database(keys: KeyStore) -> None:
    """So nobody's clock but its own decides."""
    token, new = new_key(lifetime_s=HOUR_S)
    stored = keys.create(new, entry())
    left_s = keys.find([token.id])[token.id].left_s
    assert left_s is not None
    assert HOUR_S - 60 < left_s <= HOUR_S
    assert stored.expires_at == pytest.approx(stored.created_at + HOUR_S, abs=1)
    assert stored.usable


def test_an_expired_key_opens_nothing_and_cannot_be_rotated(keys: KeyStore) -> None:
    """It is kept and shown as what it is."""
    token, new = new_key(lifetime_s=-1.0)
    assert keys.create(new, entry()).usable is False
    assert keys.any_usable() is False
    with pytest.raises(Conflict, match="has expired"):
        keys.rotate(token.id, (mint().id, "0" * 64), HOUR_S, entry())


def test_J8_a_rotated_key_works_for_the_overlap(keys: KeyStore) -> None:
    """Both are good meanwhile; the new one may do the same and lives as long as the old one was made for."""
    token, new = new_key(tenant="acme", scopes=("transcribe",), lifetime_s=240 * HOUR_S)
    keys.create(new, entry())
    fresh = mint()
    made = keys.rotate(token.id, (fresh.id, fresh.secret_sha256), HOUR_S, entry())
    old = keys.get(token.id)
    assert (made.tenant, made.scopes, made.rotated_from, made.usable) == ("acme", ("transcribe",), token.id, True)
    assert made.expires_at == pytest.approx(made.created_at + 240 * HOUR_S, abs=1)
    assert old.usable
    assert old.expires_at == pytest.approx(made.created_at + HOUR_S, abs=5)


def test_rotation_never_lengthens_a_life(keys: KeyStore) -> None:
    """A key that would end sooner than the overlap ends when it would have."""
    token, new = new_key(lifetime_s=60.0)
    before = keys.create(new, entry())
    keys.rotate(token.id, (mint().id, "0" * 64), HOUR_S, entry())
    assert keys.get(token.id).expires_at == before.expires_at


def test_revoking_is_for_good_and_can_be_repeated(keys: KeyStore) -> None:
    """The second time changes nothing; a key that is not there is said to be so."""
    token, new = new_key()
    keys.create(new, entry())
    first = keys.revoke(token.id, entry())
    assert first.revoked_at is not None
    assert keys.revoke(token.id, entry()).revoked_at == first.revoked_at
    with pytest.raises(NotFound):
        keys.revoke("0" * 16, entry())


def test_a_tenant_has_so_many_keys_at_most(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revoked ones do not count, other tenants' neither."""
    monkeypatch.setattr(keys_module, "MAX_KEYS", 2)
    (first, new), (_, other) = new_key(), new_key()
    keys.create(new, entry())
    keys.create(other, entry())
    with pytest.raises(Conflict, match="2 keys"):
        keys.create(new_key()[1], entry())
    keys.create(new_key(tenant="other")[1], entry())
    keys.revoke(first.id, entry())
    keys.create(new_key()[1], entry())


def test_last_use_is_kept(keys: KeyStore) -> None:
    """Of the keys that were used, and of no other."""
    (used, new), (_, idle) = new_key(), new_key()
    keys.create(new, entry())
    keys.create(idle, entry())
    keys.touch({used.id})
    assert {key.id for key in keys.listing() if key.last_used_at is not None} == {used.id}


def test_K7_erasing_a_tenant_takes_its_keys(database: Database, keys: KeyStore) -> None:
    """Of the log ids remain: no address from which it called. The neighbour's stay as they are."""
    for tenant in ("acme", "other"):
        keys.create(new_key(tenant=tenant)[1], AuditEntry("cli:root", "key.create", address="192.0.2.1"))
    TenantStore(database, audio_days=1, text_days=1).require("acme")
    forget_tenant(database, "acme")
    assert [key.tenant for key in keys.listing()] == ["other"]
    assert [(row.tenant, row.address) for row in AuditStore(database).page()] == [
        ("acme", None),
        ("other", "192.0.2.1"),
    ]


def test_J2_nothing_in_the_database_is_a_key(database: Database, keys: KeyStore) -> None:
    """No word of a dump is a secret or has the digest of one, whoever made and rotated the key."""
    token, new = new_key(tenant="acme")
    keys.create(new, entry())
    fresh = mint()
    keys.rotate(token.id, (fresh.id, fresh.secret_sha256), HOUR_S, entry("key.rotate"))

    def dumped(tx: Connection) -> str:
        return "\n".join(str(tuple(row)) for table in metadata.sorted_tables for row in tx.execute(select(table)))

    words = set(re.findall(r"[\w-]{6,}", database.read(dumped)))
    digests = {hashlib.sha256(word.encode()).hexdigest() for word in words}
    assert {token.id, fresh.id, token.secret_sha256, fresh.secret_sha256} <= words
    assert not {token.secret_sha256, fresh.secret_sha256} & digests
    assert not {token.secret, token.text, fresh.secret, fresh.text} & words


def test_S3_every_change_of_a_key_is_in_the_log(database: Database, keys: KeyStore) -> None:
    """In the same transaction: who, what, about whom; never a secret or a name."""
    token, new = new_key(tenant="acme", name="canary-name")
    keys.create(new, entry("key.create", detail={"scopes": ["transcribe"]}))
    fresh = mint()
    keys.rotate(token.id, (fresh.id, fresh.secret_sha256), HOUR_S, entry("key.rotate"))
    keys.revoke(token.id, entry("key.revoke"))
    rows = AuditStore(database).page("acme")
    assert [(row.action, row.target, row.actor) for row in rows] == [
        ("key.create", token.id, "cli:test"),
        ("key.rotate", fresh.id, "cli:test"),
        ("key.revoke", token.id, "cli:test"),
    ]
    assert rows[0].detail == {"scopes": ["transcribe"]}
    assert [row.id for row in AuditStore(database).page(after=rows[0].id, limit=1)] == [rows[1].id]
    said = str(rows)
    assert not any(secret in said for secret in (token.secret, token.secret_sha256, "canary-name"))


@pytest.mark.parametrize(
    "sql",
    [
        "delete from audit",
        "update audit set actor = 'somebody else'",
        "update audit set action = 'nothing', address = null",
        "update audit set at = 0",
        "update audit set address = '192.0.2.9'",
    ],
)
def test_S3_the_database_refuses_to_change_the_log(database: Database, sql: str) -> None:
    """Whoever asks, with whatever program."""
    store = AuditStore(database)
    store.record(entry("job.erase").about("acme", "job_1"))
    before = store.page()
    with pytest.raises(DBAPIError, match="append-only"):
        _changed(database, sql)
    assert store.page() == before


def test_S3_the_log_cannot_be_emptied_at_once(database: Database) -> None:
    """PostgreSQL has a statement for that; SQLite has none, and its DELETE without a condition asks the trigger."""
    AuditStore(database).record(entry("job.erase").about("acme", "job_1"))
    with pytest.raises(DBAPIError, match="append-only"):
        _changed(database, "delete from audit" if database.is_sqlite else "truncate audit")


def test_old_rows_of_the_log_go_and_young_ones_stay(database: Database) -> None:
    """However few days are asked for, a month is kept."""
    store = AuditStore(database)
    for days in (400, 40, 20):
        store.record(entry("job.erase").about("acme", f"job_{days}"))
    # Rows cannot be made older once they are there.
    _changed(
        database,
        "insert into audit (at, tenant, actor, action, target, outcome) "
        "select at - 86400 * cast(substr(target, 5) as integer), tenant, actor, action, 'old_' || target, outcome "
        "from audit",
    )
    assert store.forget(365) == 1
    assert store.forget(0) == 1
    assert [row.target for row in store.page()] == ["job_400", "job_40", "job_20", "old_job_20"]
