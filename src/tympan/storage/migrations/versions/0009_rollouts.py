"""New models that are tried on a share of the traffic."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what the version before does not miss."""
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("candidate", sa.String(length=512), nullable=False),
        sa.Column("incumbent", sa.String(length=512), nullable=False),
        sa.Column("share", sa.Float(precision=53), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("began_at", sa.Float(precision=53), nullable=False),
        sa.Column("ended_at", sa.Float(precision=53), nullable=True),
        sa.CheckConstraint(
            "state in ('running', 'promoted', 'replaced', 'rolled_back')", name=op.f("ck_rollouts_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollouts")),
    )
    for state in ("running", "promoted"):
        only = sa.text(f"state = '{state}'")
        name = f"uq_rollouts_{state}"
        op.create_index(name, "rollouts", ["state"], unique=True, sqlite_where=only, postgresql_where=only)
