"""Where what is done for a job is recorded."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column that the version before does not miss."""
    op.add_column("jobs", sa.Column("trace", sa.String(length=64), nullable=True))
