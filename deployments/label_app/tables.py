"""What the service keeps. Rows are events: they are added and never changed; what holds now is derived from them.

Only an account and a sign-in end, by a time that is set once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Float, ForeignKey, Integer, LargeBinary, String, TypeDecorator, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAME_LENGTH, WORDS_LENGTH = 60, 200
"""Most characters in the name of a search or a person, and in the words of a description."""


class UtcTime(TypeDecorator[datetime]):
    """A moment, in UTC; SQLite keeps no zone, and gives it back with one all the same."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    """This moment, with its zone."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """All tables."""


class Search(Base):
    """What somebody looks for, in one catalogue.

    Attributes
    ----------
    catalogue
        Name of the catalogue's folder.
    model, model_version
        What made the embeddings.
    seed
        Of the random sheets, and of the stamps that are held back for the test.
    """

    __tablename__ = "searches"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    owner: Mapped[str] = mapped_column(String(NAME_LENGTH))
    made_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    survey: Mapped[str] = mapped_column(String(200))
    catalogue: Mapped[str] = mapped_column(String(200))
    dataset_digest: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(200))
    model_version: Mapped[str] = mapped_column(String(40))
    seed: Mapped[int] = mapped_column(Integer)


class Round(Base):
    """One sheet that was shown to one person.

    Attributes
    ----------
    kind
        `search`; `best` (the top of the ranked list); `check` (what the person has said and other answers speak
        against); `review` (what others have labelled); or `test` (random ones, kept apart from training).
    learner
        Digest of the labels, catalogue and model that the learner learnt from; null for random sheets.
    left, left_low, left_high
        How many wanted ones were left to find then, with a 95 % interval.
    """

    __tablename__ = "rounds"
    __table_args__ = (UniqueConstraint("search_id", "person", "kind", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"))
    person: Mapped[str] = mapped_column(String(NAME_LENGTH))
    made_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    kind: Mapped[str] = mapped_column(String(10))
    number: Mapped[int] = mapped_column(Integer)
    learner: Mapped[str | None] = mapped_column(String(64))
    left: Mapped[float | None] = mapped_column(Float)
    left_low: Mapped[float | None] = mapped_column(Float)
    left_high: Mapped[float | None] = mapped_column(Float)


class Shown(Base):
    """One stamp of a sheet, and why it is there."""

    __tablename__ = "shown"

    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    place: Mapped[int] = mapped_column(Integer, primary_key=True)
    row: Mapped[int] = mapped_column(Integer)
    object_id: Mapped[str] = mapped_column(String(400))
    stamp_digest: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(String(10))
    probability: Mapped[float | None] = mapped_column(Float)


class Vote(Base):
    """What somebody said of a stamp, or that they took back what they had said.

    Attributes
    ----------
    round_id
        Null for the examples that a search starts from.
    kind
        As in Round; `example` without one.
    answer
        `yes`, `no`, `unsure` or `skip`; null if the event takes another one back.
    undoes
        The vote that is taken back; at most once.
    request_key
        Chosen by the page, so that a vote that is sent twice counts once.
    """

    __tablename__ = "votes"
    __table_args__ = (UniqueConstraint("person", "request_key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"), index=True)
    round_id: Mapped[int | None] = mapped_column(ForeignKey("rounds.id"))
    person: Mapped[str] = mapped_column(String(NAME_LENGTH))
    made_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    kind: Mapped[str] = mapped_column(String(10))
    row: Mapped[int] = mapped_column(Integer)
    object_id: Mapped[str] = mapped_column(String(400))
    stamp_digest: Mapped[str] = mapped_column(String(32))
    answer: Mapped[str | None] = mapped_column(String(10))
    undoes: Mapped[int | None] = mapped_column(ForeignKey("votes.id"), unique=True)
    model: Mapped[str] = mapped_column(String(200))
    model_version: Mapped[str] = mapped_column(String(40))
    request_key: Mapped[str] = mapped_column(String(64))


class Upload(Base):
    """A picture that somebody brought as an example, cut to the stamps' size: its neighbours begin the search."""

    __tablename__ = "uploads"

    id: Mapped[int] = mapped_column(primary_key=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"), index=True)
    person: Mapped[str] = mapped_column(String(NAME_LENGTH))
    made_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    picture: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[str] = mapped_column(String(64))


class Description(Base):
    """What somebody said of the galaxies they look for, in words, by a symbol or both: what fits begins the search.

    Attributes
    ----------
    words, symbol
        Empty if not given.
    model, model_version
        What compared them with the galaxies.
    """

    __tablename__ = "descriptions"

    id: Mapped[int] = mapped_column(primary_key=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"), index=True)
    person: Mapped[str] = mapped_column(String(NAME_LENGTH))
    made_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    words: Mapped[str] = mapped_column(String(WORDS_LENGTH))
    symbol: Mapped[str] = mapped_column(String(NAME_LENGTH))
    model: Mapped[str] = mapped_column(String(200))
    model_version: Mapped[str] = mapped_column(String(40))


class StartedRun(Base):
    """A flow run that was started from the page."""

    __tablename__ = "started_runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"), index=True)
    person: Mapped[str] = mapped_column(String(NAME_LENGTH))
    made_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    flow: Mapped[str] = mapped_column(String(60))
    flow_run_id: Mapped[str] = mapped_column(String(64))


class Account(Base):
    """A person who may sign in, until the account is ended."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    role: Mapped[str] = mapped_column(String(10))
    password_hash: Mapped[str] = mapped_column(String(200))
    made_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)


class SignIn(Base):
    """A browser that an account has signed in with. Of its token only the hash is kept."""

    __tablename__ = "sign_ins"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    made_at: Mapped[datetime] = mapped_column(UtcTime, default=now)
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)


class Secret(Base):
    """A random key of this installation, in hex."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    value: Mapped[str] = mapped_column(String(64))
