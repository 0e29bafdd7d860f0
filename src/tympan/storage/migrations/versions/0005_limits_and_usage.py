"""Limits of a tenant's own, and what every tenant has used, by day."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what the version before does not miss. Jobs that have ended already are not counted."""
    op.add_column("tenants", sa.Column("limits", sa.Text(), nullable=True))
    op.create_table(
        "usage",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("audio_s", sa.Float(precision=53), nullable=False),
        sa.Column("processing_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day", "kind", "model", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_day", "usage", ["day"], unique=False)
