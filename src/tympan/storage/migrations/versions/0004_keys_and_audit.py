"""API keys, and the log of who did what, which the database itself keeps from being changed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_COLUMNS = ("id", "at", "tenant", "actor", "action", "target", "outcome", "request_id", "detail")
"""Every column but the address, which goes when its tenant is erased."""

_YOUNG_S = 30 * 86_400
_SQLITE_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
_POSTGRES_NOW = "extract(epoch from clock_timestamp())"
_REFUSAL = "the audit log is append-only"


def upgrade() -> None:
    """Make two tables that the version before does not miss."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=True),
        sa.Column("revoked_at", sa.Float(53), nullable=True),
        sa.Column("last_used_at", sa.Float(53), nullable=True),
        sa.Column("rotated_from", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_tenant_id"), "api_keys", ["tenant", "id"])
    op.create_table(
        "audit",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(255), nullable=True),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64), nullable=True),
        sa.Column("request_id", sa.String(64), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"])
    op.create_index(op.f("ix_audit_tenant_id"), "audit", ["tenant", "id"])
    _guard_sqlite() if op.get_bind().dialect.name == "sqlite" else _guard_postgres()


def _guard_sqlite() -> None:
    refuse = f"begin select raise(abort, '{_REFUSAL}'); end"
    same = " and ".join(f"new.{name} is old.{name}" for name in _COLUMNS)
    op.execute(f"create trigger audit_stays before update on audit when not (new.address is null and {same}) {refuse}")
    op.execute(f"create trigger audit_is_kept before delete on audit when old.at > {_SQLITE_NOW} - {_YOUNG_S} {refuse}")


def _guard_postgres() -> None:
    op.execute(
        "create function audit_refuse() returns trigger language plpgsql as "
        f"$body$ begin raise exception '{_REFUSAL}'; end $body$"
    )
    same = " and ".join(f"new.{name} is not distinct from old.{name}" for name in _COLUMNS)
    op.execute(
        "create trigger audit_stays before update on audit for each row "
        f"when (not (new.address is null and {same})) execute function audit_refuse()"
    )
    op.execute(
        "create trigger audit_is_kept before delete on audit for each row "
        f"when (old.at > {_POSTGRES_NOW} - {_YOUNG_S}) execute function audit_refuse()"
    )
    op.execute(
        "create trigger audit_is_not_emptied before truncate on audit "
        "for each statement execute function audit_refuse()"
    )
