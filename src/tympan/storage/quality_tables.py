"""Tables about the quality of transcripts: golden sets, their runs, and alarms. As those in ``tables``."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from tympan.storage.tables import metadata

_ID = String(64)
_SERIAL = BigInteger().with_variant(Integer, "sqlite")
_OPEN = text("until is null")
_MODEL = String(512)

golden_sets = Table(
    "golden_sets",
    metadata,
    Column("name", _ID, primary_key=True),
    Column("version_id", _ID),  # The version that is run from now on; null once the starter set has been removed.
    Column("schedule", String(255)),  # Five fields as cron has them, in UTC.
    Column("sample", Integer),  # How many clips of speech a scheduled run takes; null for all.
    Column("model", _MODEL, nullable=False),  # Empty for the default model, whichever that is.
    Column("detects", Boolean, nullable=False),  # Languages are detected, not named.
    Column("created_at", Float(53), nullable=False),
    Column("next_at", Float(53)),
)

golden_versions = Table(
    "golden_versions",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("set_name", _ID, ForeignKey("golden_sets.name", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("n_items", Integer, nullable=False),
    Column("n_bytes", BigInteger, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("has_audio", Boolean, nullable=False),
    UniqueConstraint("set_name", "version"),
)

golden_items = Table(
    "golden_items",
    metadata,
    Column("version_id", _ID, ForeignKey("golden_versions.id", ondelete="CASCADE"), primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("item", String(255), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("language", String(16)),
    Column("reference", Text, nullable=False),
    Column("speaker", Text),
    Column("tags", Text, nullable=False),  # JSON: a list.
    Column("sha256", String(64), nullable=False),
    Column("n_bytes", BigInteger, nullable=False),
)

golden_runs = Table(
    "golden_runs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("set_name", _ID, ForeignKey("golden_sets.name", ondelete="CASCADE"), nullable=False),
    Column("version_id", _ID, ForeignKey("golden_versions.id", ondelete="CASCADE"), nullable=False),
    Column("asked_model", _MODEL, nullable=False),  # Empty for the default model.
    Column("model", _MODEL),  # Which one it was.
    Column("state", String(16), nullable=False),
    Column("cause", String(16), nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("finished_at", Float(53)),
    Column("deadline", Float(53), nullable=False),
    Column("n_items", Integer, nullable=False),
    Column("n_failed", Integer, nullable=False, server_default=text("0")),
    Column("totals", Text),  # JSON: what all clips come to.
    Column("comparison", Text),  # JSON: against the baseline.
    CheckConstraint("state in ('running', 'succeeded', 'failed')", name="state"),
    Index(None, "set_name", "id"),
    Index("ix_golden_runs_running", "id", sqlite_where=text("state = 'running'"),
          postgresql_where=text("state = 'running'")),
)  # fmt: skip

golden_results = Table(
    "golden_results",
    metadata,
    Column("run_id", _ID, ForeignKey("golden_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("job_id", _ID),  # Until the job is removed.
    Column("text", Text),
    Column("language", String(16)),
    Column("score", Text),  # JSON: edit operations in words and in characters.
    Column("error", String(64)),
    CheckConstraint("state in ('waiting', 'handed', 'done', 'failed')", name="state"),
)

golden_baselines = Table(
    "golden_baselines",
    metadata,
    Column("version_id", _ID, ForeignKey("golden_versions.id", ondelete="CASCADE"), primary_key=True),
    Column("asked_model", _MODEL, primary_key=True),
    Column("run_id", _ID, ForeignKey("golden_runs.id", ondelete="CASCADE"), nullable=False),
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("kind", String(64), nullable=False),
    Column("subject", String(640), nullable=False),
    Column("since", Float(53), nullable=False),
    Column("until", Float(53)),
    Column("detail", Text, nullable=False),  # JSON: the figures it rests on.
    Index("uq_alarms_open", "kind", "subject", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
    sqlite_autoincrement=True,
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("candidate", _MODEL, nullable=False),
    Column("incumbent", _MODEL, nullable=False),
    Column("share", Float(53), nullable=False),
    Column("state", String(16), nullable=False),
    Column("began_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),  # When it was promoted or rolled back.
    CheckConstraint("state in ('running', 'promoted', 'replaced', 'rolled_back')", name="state"),
    Index("uq_rollouts_running", "state", unique=True, sqlite_where=text("state = 'running'"),
          postgresql_where=text("state = 'running'")),
    Index("uq_rollouts_promoted", "state", unique=True, sqlite_where=text("state = 'promoted'"),
          postgresql_where=text("state = 'promoted'")),
)  # fmt: skip

# Who does a chore that one process at a time should do; it only saves double work.
chores = Table(
    "chores",
    metadata,
    Column("name", _ID, primary_key=True),
    Column("owner", _ID, nullable=False),
    Column("until", Float(53), nullable=False),
)

__all__ = [
    "alarms",
    "chores",
    "golden_baselines",
    "golden_items",
    "golden_results",
    "golden_runs",
    "golden_sets",
    "golden_versions",
    "metadata",
    "rollouts",
]
