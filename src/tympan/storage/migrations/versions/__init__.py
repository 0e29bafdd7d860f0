"""Alembic's migrations, oldest first by number. Each keeps the version before it working."""
