"""Golden sets, their runs with every result, baselines, and alarms about the quality of transcripts."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add tables that the version before does not miss."""
    _alarms()
    _sets()
    _versions()
    _runs()
    _results()


def _alarms() -> None:
    op.create_table(
        "alarms",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=640), nullable=False),
        sa.Column("since", sa.Float(precision=53), nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_alarms_open",
        "alarms",
        ["kind", "subject"],
        unique=True,
        sqlite_where=sa.text("until is null"),
        postgresql_where=sa.text("until is null"),
    )
    op.create_table(
        "chores",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chores")),
    )


def _sets() -> None:
    op.create_table(
        "golden_sets",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version_id", sa.String(length=64), nullable=True),
        sa.Column("schedule", sa.String(length=255), nullable=True),
        sa.Column("sample", sa.Integer(), nullable=True),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("detects", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("next_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_golden_sets")),
    )


def _versions() -> None:
    op.create_table(
        "golden_versions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("set_name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("n_items", sa.Integer(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("has_audio", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["set_name"], ["golden_sets.name"], name=op.f("fk_golden_versions_set_name"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_golden_versions")),
        sa.UniqueConstraint("set_name", "version", name=op.f("uq_golden_versions_set_name_version")),
    )
    op.create_table(
        "golden_items",
        sa.Column("version_id", sa.String(length=64), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("item", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=True),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("speaker", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["golden_versions.id"], name=op.f("fk_golden_items_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "idx", name=op.f("pk_golden_items")),
    )


def _runs() -> None:
    op.create_table(
        "golden_runs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("set_name", sa.String(length=64), nullable=False),
        sa.Column("version_id", sa.String(length=64), nullable=False),
        sa.Column("asked_model", sa.String(length=512), nullable=False),
        sa.Column("model", sa.String(length=512), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("finished_at", sa.Float(precision=53), nullable=True),
        sa.Column("deadline", sa.Float(precision=53), nullable=False),
        sa.Column("n_items", sa.Integer(), nullable=False),
        sa.Column("n_failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("totals", sa.Text(), nullable=True),
        sa.Column("comparison", sa.Text(), nullable=True),
        sa.CheckConstraint("state in ('running', 'succeeded', 'failed')", name=op.f("ck_golden_runs_state")),
        sa.ForeignKeyConstraint(
            ["set_name"], ["golden_sets.name"], name=op.f("fk_golden_runs_set_name"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["golden_versions.id"], name=op.f("fk_golden_runs_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_golden_runs")),
    )
    op.create_index(
        "ix_golden_runs_running",
        "golden_runs",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(op.f("ix_golden_runs_set_name_id"), "golden_runs", ["set_name", "id"], unique=False)


def _results() -> None:
    op.create_table(
        "golden_baselines",
        sa.Column("version_id", sa.String(length=64), nullable=False),
        sa.Column("asked_model", sa.String(length=512), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["golden_runs.id"], name=op.f("fk_golden_baselines_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["golden_versions.id"], name=op.f("fk_golden_baselines_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "asked_model", name=op.f("pk_golden_baselines")),
    )
    op.create_table(
        "golden_results",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("language", sa.String(length=16), nullable=True),
        sa.Column("score", sa.Text(), nullable=True),
        sa.Column("error", sa.String(length=64), nullable=True),
        sa.CheckConstraint("state in ('waiting', 'handed', 'done', 'failed')", name=op.f("ck_golden_results_state")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["golden_runs.id"], name=op.f("fk_golden_results_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "idx", name=op.f("pk_golden_results")),
    )
