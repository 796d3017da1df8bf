"""Nothing that the app keeps or asks is SQLite's alone: tables, migrations and every statement are PostgreSQL's too."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from sqlalchemy import ClauseElement, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from deployments.label_app.accounts import Accounts
from deployments.label_app.database import MIGRATIONS, Database
from deployments.label_app.tables import Base
from infra.errors import GalaxyError
from infra.settings import Settings
from tests.deployments.label_app.conftest import Browser

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("table", Base.metadata.sorted_tables, ids=lambda table: str(table.name))
def test_tables_are_made_in_postgresql(table: Any) -> None:
    sql = str(CreateTable(table).compile(dialect=DIALECT))
    moments = [column.name for column in table.columns if column.name.endswith("_at")]
    assert sql.count("TIMESTAMP WITH TIME ZONE") == len(moments), "every moment has its zone"


def test_migrations_are_written_as_sql_for_postgresql() -> None:
    written = io.StringIO()
    configuration = Config(output_buffer=written)
    configuration.set_main_option("script_location", str(MIGRATIONS))
    configuration.set_main_option("sqlalchemy.url", "postgresql+psycopg://nowhere/label")
    command.upgrade(configuration, "head", sql=True)
    sql = written.getvalue()
    made = re.findall(r"CREATE TABLE (\w+)", sql)
    assert set(made) == {*Base.metadata.tables, "alembic_version"}
    assert "SERIAL" in sql and "BYTEA" in sql and sql.strip().endswith("COMMIT;")


@pytest.fixture
def asked(app_with_accounts: FastAPI) -> Iterator[list[ClauseElement]]:
    """Every statement that the app sends."""
    found: list[ClauseElement] = []
    engine = app_with_accounts.state.service.database.engine

    def listener(connection: Any, statement: ClauseElement, *rest: Any) -> None:
        found.append(statement)

    event.listen(engine, "before_execute", listener)
    yield found
    event.remove(engine, "before_execute", listener)


def test_every_statement_is_postgresql_s_too(
    asked: list[ClauseElement], signed_in: Callable[[str], Browser], settings: Settings
) -> None:
    one, other = signed_in("henrietta"), signed_in("cecilia")
    search = one.begin(unwanted="galaxy-001")
    number, _ = one.sheet(search)
    one.send(f"/rounds/{number}/votes", place=0, answer="yes", key="abcdefgh")
    one.send(f"/rounds/{number}/votes", place=0, answer="yes", key="abcdefgh")
    for _ in range(2):
        one.send(f"/rounds/{number}/undo", key="ijklmnop")
    one.send(f"/rounds/{number}/rest", answer="no", key="qrstuvwx")
    for browser, kind in ((other, "search"), (other, "review"), (other, "test")):
        browser.sheet(search, kind)
    for path in ("/", f"/searches/{search}", f"/searches/{search}/results.csv", f"/searches/{search}/runs", "/health"):
        assert one.get(path).status_code == 200
    one.submit("/sign-out")
    database = Database(settings.label_database_url)
    Accounts(database).end("vera")
    database.close()
    assert len(asked) > 40
    for statement in asked:
        assert str(statement.compile(dialect=DIALECT))


def test_a_password_comes_from_its_file_and_is_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("p@ss/word\n")
    settings = Settings(
        home=tmp_path, sky=tmp_path, mlflow_uri="", label_database="postgresql+nothing://label@database/label",
        label_password_file=secret,
    )  # fmt: skip
    assert settings.label_database_url == "postgresql+nothing://label:p%40ss%2Fword@database/label"
    with pytest.raises(GalaxyError, match="cannot be opened") as refused:
        Database(settings.label_database_url)
    assert "word" not in str(refused.value)
    with pytest.raises(GalaxyError, match=r"GALAXY_LABEL_PASSWORD_FILE.*cannot be read"):
        _ = settings.model_copy(update={"label_password_file": tmp_path / "none"}).label_database_url
