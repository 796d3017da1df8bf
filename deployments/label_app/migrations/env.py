"""How Alembic reaches the database: by the connection that the service hands over, or not at all.

Without one it writes SQL for the dialect of the option `sqlalchemy.url`: for who may not let a service change tables.
"""

from __future__ import annotations

from alembic import context

from deployments.label_app.tables import Base

if context.is_offline_mode():
    url = context.config.get_main_option("sqlalchemy.url")
    context.configure(url=url, target_metadata=Base.metadata, literal_binds=True)
else:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        render_as_batch=True,  # SQLite changes a table by making it anew
    )
with context.begin_transaction():
    context.run_migrations()
