"""Which model a job is transcribed by, how often it was begun anew because that changed, and what workers have."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns that the version before does not miss. Jobs under way go on with the next model."""
    op.add_column("jobs", sa.Column("weights", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("restarts", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("workers", sa.Column("weights", sa.Text(), server_default=sa.text("''"), nullable=False))
