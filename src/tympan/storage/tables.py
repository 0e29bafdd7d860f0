"""Every table, as SQLAlchemy Core sees it. The migrations make the same schema; a test compares the two.

Times are Unix seconds by the database's own clock (``REAL``/``double precision``), so no client's clock and no time
zone matters. Documents (options, results) are JSON text; long ones are in parts, each written and read whole.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID = String(64)
_SERIAL = BigInteger().with_variant(Integer, "sqlite")
_TERMINAL = "('succeeded', 'failed', 'cancelled', 'expired')"

tenants = Table(
    "tenants",
    metadata,
    Column("id", _ID, primary_key=True),
    # Where this tenant's next job stands in the fair order; see ``jobs.submit``.
    Column("virtual_s", Float(53), nullable=False, server_default=text("0")),
    Column("weight", Float(53), nullable=False, server_default=text("1")),
    Column("audio_days", Float(53)),
    Column("text_days", Float(53)),
    Column("limits", Text),  # JSON: limits of its own by name, 0 for none; what is not in it is as for everybody.
)

usage = Table(
    "usage",
    metadata,
    Column("tenant", _ID, primary_key=True),
    Column("day", String(10), primary_key=True),  # In UTC, as 2026-01-31.
    Column("kind", String(16), primary_key=True),
    Column("model", String(255), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("audio_s", Float(53), nullable=False),
    Column("processing_s", Float(53), nullable=False),
    Index(None, "day"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant", _ID, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("finished_at", Float(53)),
    Column("total", Integer, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("webhook_endpoint", _ID),
    Column("metadata", Text, nullable=False),
    Index(None, "tenant", "id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant", _ID, nullable=False),
    Column("state", String(16), nullable=False),
    Column("lane", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("finished_at", Float(53)),
    Column("deadline", Float(53)),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("source_kind", String(16), nullable=False),
    Column("source_location", Text, nullable=False),
    Column("source_bytes", BigInteger),
    Column("source_sha256", String(64)),
    Column("options", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("model", Text),
    Column("metadata", Text, nullable=False),
    Column("webhook_endpoint", _ID),
    Column("batch_id", _ID),
    Column("trace", String(64)),  # A traceparent; where what is done for the job is recorded.
    Column("retry_of", _ID),
    # Digest of audio, options and model revision, set by ``prepare``: equal jobs have equal results.
    Column("fingerprint", String(64)),
    Column("language", String(8)),
    Column("sections_total", Integer),
    Column("sections_done", Integer, nullable=False, server_default=text("0")),
    Column("audio_s_total", Float(53)),
    Column("audio_s_done", Float(53), nullable=False, server_default=text("0")),
    Column("prepared", Text),
    # Digest of the model whose text the sections are; see ``storage.anew``.
    Column("weights", String(64)),
    Column("restarts", Integer, nullable=False, server_default=text("0")),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("error_remedy", Text),
    Column("event_seq", Integer, nullable=False, server_default=text("0")),
    # When the blobs and the text go; null while the job runs, and once they have gone.
    Column("audio_until", Float(53)),
    Column("text_until", Float(53)),
    CheckConstraint(f"state in ('queued', 'running') or state in {_TERMINAL}", name="state"),
    Index(None, "tenant", "id"),
    Index(None, "tenant", "state", "id"),
    Index(None, "batch_id"),
    Index("ix_jobs_fingerprint", "tenant", "fingerprint"),
    Index("ix_jobs_deadline", "deadline", sqlite_where=text("deadline is not null and finished_at is null"),
          postgresql_where=text("deadline is not null and finished_at is null")),
    Index("ix_jobs_audio_until", "audio_until"),
    Index("ix_jobs_text_until", "text_until"),
    Index("ix_jobs_webhook_endpoint", "webhook_endpoint", sqlite_where=text("webhook_endpoint is not null"),
          postgresql_where=text("webhook_endpoint is not null")),
)  # fmt: skip

_READY = text("state = 'ready'")
_RUNNING = text("state = 'running'")

steps = Table(
    "steps",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("job_id", _ID, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("idx", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("lane", Integer, nullable=False),
    Column("rank", Integer, nullable=False),  # The job's priority with its sign turned: lower goes first.
    Column("tag_s", Float(53), nullable=False),  # Place in the fair order, in audio-seconds of service.
    Column("run_at", Float(53), nullable=False),
    Column("lease_owner", _ID),
    Column("lease_until", Float(53)),
    Column("fence", Integer, nullable=False, server_default=text("0")),
    Column("retries", Integer, nullable=False, server_default=text("0")),
    Column("crashes", Integer, nullable=False, server_default=text("0")),
    Column("start_sample", BigInteger, nullable=False, server_default=text("0")),
    Column("end_sample", BigInteger, nullable=False, server_default=text("0")),
    Column("done_samples", BigInteger, nullable=False, server_default=text("0")),  # While it runs; a few seconds old.
    Column("result", Text),
    Column("text", Text),
    UniqueConstraint("job_id", "kind", "idx"),
    CheckConstraint("state in ('ready', 'running', 'done')", name="state"),
    Index("ix_steps_ready", "lane", "rank", "tag_s", "id", sqlite_where=_READY, postgresql_where=_READY),
    Index("ix_steps_running", "lease_until", sqlite_where=_RUNNING, postgresql_where=_RUNNING),
    sqlite_autoincrement=True,
)

results = Table(
    "results",
    metadata,
    Column("job_id", _ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("fence", Integer, nullable=False),
    Column("head", Text, nullable=False),  # The transcript without its text and segments.
    Column("n_parts", Integer, nullable=False),
    Column("created_at", Float(53), nullable=False),
)

result_parts = Table(
    "result_parts",
    metadata,
    Column("job_id", _ID, ForeignKey("results.job_id", ondelete="CASCADE"), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("text", Text, nullable=False),  # JSON as well, which can say a zero character.
    Column("segments", Text, nullable=False),
)

# What people have made of a transcript. Once there was a version its row stays as long as the job, without the texts
# when the version is erased: revisions are never given twice.
edits = Table(
    "edits",
    metadata,
    Column("job_id", _ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("edited_at", Float(53), nullable=False),
    Column("speakers", Text),  # JSON: names by label.
    Column("segments", Text),  # JSON.
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", _ID, primary_key=True),
    Column("route", String(32), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("subject_id", _ID, nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Index(None, "expires_at"),
    Index(None, "subject_id"),
)

bells = Table(
    "bells",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("lane", Integer, nullable=False),
    Column("created_at", Float(53), nullable=False),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant", _ID, nullable=False),
    Column("subject_id", _ID, nullable=False),  # The job's or the batch's id.
    Column("type", String(32), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("subject_id", "type"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant", _ID, nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("disabled_reason", Text),
    Column("secret", Text, nullable=False),  # Sealed.
    Column("old_secret", Text),  # Sealed; signs too until ``old_secret_until``.
    Column("old_secret_until", Float(53)),
    Column("failing_since", Float(53)),
    Column(
        "open_at", Float(53), nullable=False, server_default=text("0")
    ),  # Not before this: it failed; else its last success.
    Column("implicit", Boolean, nullable=False),  # Made for a job's ``webhook_url``.
    Column("created_at", Float(53), nullable=False),
    CheckConstraint("state in ('active', 'disabled')", name="state"),
    Index("ix_webhook_endpoints_tenant", "tenant", "id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("event_id", _ID, ForeignKey("events.id", ondelete="CASCADE"), nullable=False),
    Column("endpoint_id", _ID, ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("tenant", _ID, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("due_at", Float(53), nullable=False),
    Column("lease_owner", _ID),
    Column("lease_until", Float(53)),
    Column("fence", Integer, nullable=False, server_default=text("0")),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("created_at", Float(53), nullable=False),
    Column("finished_at", Float(53)),
    UniqueConstraint("event_id", "endpoint_id"),
    CheckConstraint("state in ('pending', 'delivered', 'failed', 'dropped')", name="state"),
    Index("ix_deliveries_due", "due_at", sqlite_where=text("state = 'pending'"),
          postgresql_where=text("state = 'pending'")),
    Index("ix_deliveries_state", "state", "endpoint_id", "due_at"),
    Index("ix_deliveries_endpoint", "endpoint_id", "id"),
    sqlite_autoincrement=True,
)  # fmt: skip

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("delivery_id", _SERIAL, ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("duration_ms", Integer, nullable=False),
    Column("excerpt", Text),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant", _ID, nullable=False),
    Column("n_bytes", BigInteger),  # Null while the length is deferred.
    Column("offset_bytes", BigInteger, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("lock_owner", _ID),
    Column("lock_until", Float(53)),
    Column("job_id", _ID),  # The job that took it.
    Index(None, "tenant", "id"),
    Index(None, "expires_at"),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload_id", _ID, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("offset_bytes", BigInteger, primary_key=True),
    Column("n_bytes", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("started_at", Float(53), nullable=False),
    Column("seen_at", Float(53), nullable=False),
    # Audio-seconds transcribed per second of work, measured; null before the first section.
    Column("rate", Float(53)),
    Column("slots", Integer, nullable=False),
    Column("busy", Integer, nullable=False),
    Column("weights", Text, nullable=False, server_default=text("''")),  # Digests, with spaces between them.
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("tenant", _ID, nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("scopes", Text, nullable=False),  # With spaces between them.
    Column("created_at", Float(53), nullable=False),
    Column("expires_at", Float(53)),
    Column("revoked_at", Float(53)),
    Column("last_used_at", Float(53)),  # To the minute.
    Column("rotated_from", _ID),  # The key that this one takes the place of.
    Index(None, "tenant", "id"),
)

# Triggers keep it: rows are added, and removed when they are older than 30 days; nothing is changed but that an erased
# tenant's addresses go.
audit = Table(
    "audit",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("at", Float(53), nullable=False),
    Column("tenant", _ID, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(255)),
    Column("outcome", String(64), nullable=False),
    Column("address", String(64)),
    Column("request_id", String(64)),
    Column("detail", Text),  # JSON: scopes, days and the like.
    Index(None, "at"),
    Index(None, "tenant", "id"),
    sqlite_autoincrement=True,
)

# What transcriptions were like, over all tenants; rows only grow.
traffic = Table(
    "traffic",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("model", String(255), primary_key=True),
    Column("feature", String(32), primary_key=True),
    Column("bin", String(16), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

# The days that traffic is compared with, while they are kept; one row at most.
traffic_baseline = Table(
    "traffic_baseline",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("first", String(10), nullable=False),
    Column("last", String(10), nullable=False),
)
