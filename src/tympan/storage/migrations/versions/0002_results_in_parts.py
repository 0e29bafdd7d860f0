"""Results in parts, so that a long one is never held whole; jobs found by their webhook's endpoint."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_PART = 250
"""Segments and words in a part, about."""


def upgrade() -> None:
    """Keep every result there is, in its new place."""
    _put_old_results_aside()
    _results()
    _result_parts()
    _carry_over()
    op.drop_table("old_results")
    op.create_index(
        "ix_jobs_webhook_endpoint",
        "jobs",
        ["webhook_endpoint"],
        unique=False,
        sqlite_where=sa.text("webhook_endpoint is not null"),
        postgresql_where=sa.text("webhook_endpoint is not null"),
    )


def _put_old_results_aside() -> None:
    # The table is made anew: SQLite changes one by copying and dropping it, which would cascade to the parts.
    op.rename_table("results", "old_results")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("alter table old_results rename constraint pk_results to pk_old_results")


def _results() -> None:
    op.create_table(
        "results",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("n_parts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_results_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_results")),
    )


def _result_parts() -> None:
    op.create_table(
        "result_parts",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("segments", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["results.job_id"], name=op.f("fk_result_parts_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "part", name=op.f("pk_result_parts")),
    )


def _carry_over() -> None:
    """Cut every result into parts, one at a time: all of them together may be larger than memory."""
    there = op.get_bind()
    named = there.execute(sa.text("select job_id from old_results")).scalars().all()
    for job_id in named:
        row = there.execute(sa.text("select * from old_results where job_id = :id"), {"id": job_id}).one()
        head, parts = _cut(json.loads(row.transcript))
        there.execute(
            sa.text("insert into results values (:job_id, :fence, :head, :n_parts, :created_at)"),
            {"job_id": job_id, "fence": row.fence, "head": head, "n_parts": len(parts), "created_at": row.created_at},
        )
        for place, (text, segments) in enumerate(parts):
            there.execute(
                sa.text("insert into result_parts values (:job_id, :part, :text, :segments)"),
                {"job_id": job_id, "part": place, "text": text, "segments": segments},
            )


def _cut(transcript: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    groups = list(_groups(transcript["segments"])) or [[]]
    text = transcript["text"]
    size = -(-len(text) // len(groups))
    parts = [(_dump(text[n * size : (n + 1) * size]), _dump(group)) for n, group in enumerate(groups)]
    return _dump({**transcript, "text": "", "segments": []}), parts


def _groups(segments: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    size = 0
    for segment in segments:
        group.append(segment)
        size += 1 + len(segment["words"])
        if size >= _PART:
            yield group
            group, size = [], 0
    if group:
        yield group


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
