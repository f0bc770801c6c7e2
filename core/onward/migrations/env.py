"""Run by Alembic: brings a database to a revision, on the connection it is given."""

from __future__ import annotations

from alembic import context

from onward.models import Contact

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Contact.metadata,
    # SQLite can alter little in place; Alembic copies the table instead.
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
