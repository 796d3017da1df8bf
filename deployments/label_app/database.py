"""The service's database: SQLite by default, any other that SQLAlchemy knows by its URL."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from deployments.label_app.tables import Secret
from infra.errors import GalaxyError

MIGRATIONS = Path(__file__).with_name("migrations")

LOCK_SECONDS = 20
"""How long a writer waits for another process on SQLite, which takes one at a time."""


class Database:
    """Sessions to read and to write, over tables that are brought up to date when it is opened.

    Parameters
    ----------
    url
        As SQLAlchemy takes it; the folder of a SQLite file is made.

    Raises
    ------
    GalaxyError
        If it cannot be opened or brought up to date.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        try:
            self.engine = _engine(url)
            with self.engine.execution_options(writes=True).begin() as connection:
                _migrate(connection)
        except (SQLAlchemyError, ImportError) as error:
            shown = self.url.render_as_string(hide_password=True)
            raise GalaxyError(f"the database {shown} of the label app cannot be opened: {error}") from error
        # SQLite's own waiting sleeps up to a tenth of a second between two looks; a lock is handed over at once.
        self._one_writer: AbstractContextManager[Any] = threading.Lock() if self.is_sqlite else nullcontext()
        self._readers = sessionmaker(self.engine, expire_on_commit=False)
        self._writers = sessionmaker(self.engine.execution_options(writes=True), expire_on_commit=False)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent view; nothing is written."""
        with self._readers() as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction, on the disk when the block has ended; none of it if the block fails."""
        with self._one_writer, self._writers() as session, session.begin():
            yield session

    def check(self) -> None:
        """Raise SQLAlchemyError if it does not answer."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def secret(self, name: str) -> bytes:
        """A random key of this installation, made at the first call."""
        with self.reading() as session:
            found = session.get(Secret, name)
        if found is None:
            try:
                with self.writing() as session:
                    session.add(Secret(name=name, value=secrets.token_hex(32)))
            except IntegrityError:
                pass  # another process was faster
            with self.reading() as session:
                found = session.scalars(select(Secret).where(Secret.name == name)).one()
        return bytes.fromhex(found.value)

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": LOCK_SECONDS})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # sqlite3's own BEGIN comes too late
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A reader that becomes a writer may find that another has written since, and fails at once instead of waiting.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _migrate(connection: Connection) -> None:
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")
