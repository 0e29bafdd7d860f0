"""Runs migrations on the connection it is given; ``tympan.storage.migrate`` is the only caller."""

from alembic import context

from tympan.storage.quality_tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
