"""Accounts and sign-ins: passwords hashed by argon2id, random tokens of which only the hash is kept."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deployments.label_app.database import Database
from deployments.label_app.people import ROLES, Person
from deployments.label_app.tables import NAME_LENGTH, Account, SignIn, now
from infra.errors import GalaxyError

SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 1000
SIGN_IN_HOURS = 12
LEGAL_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._@-]{{0,{NAME_LENGTH - 1}}}")


class Accounts:
    """Who may sign in, and which browsers have."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hasher = PasswordHasher()

    def count(self) -> int:
        """Accounts that have not been ended."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).where(Account.ended_at.is_(None))) or 0

    def demand(self) -> None:
        """Raise GalaxyError if nobody could sign in."""
        if not self.count():
            raise GalaxyError(
                "beyond this machine's loopback the label app demands accounts, and there are none; make one with "
                "`galaxy label add-user NAME --role admin`"
            )

    def add(self, name: str, role: str, password: str) -> None:
        """Make an account.

        Raises
        ------
        GalaxyError
            If the name is taken or not legal, there is no such role, or the password is too short.
        """
        if not LEGAL_NAME.fullmatch(name):
            raise GalaxyError(
                f"user name {name!r}: use 1 to {NAME_LENGTH} letters, digits and . _ @ -, a letter or digit first"
            )
        if role not in ROLES:
            raise GalaxyError(f"role {role!r}: roles are {', '.join(ROLES)}")
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise GalaxyError(
                f"the password has {len(password)} characters; take {SHORTEST_PASSWORD} to {LONGEST_PASSWORD}"
            )
        try:
            with self._database.writing() as session:
                session.add(Account(name=name, role=role, password_hash=self._hasher.hash(password)))
        except IntegrityError:
            raise GalaxyError(
                f"there is, or was, a user {name!r}; names are not given twice, since votes carry them: choose another"
            ) from None

    def end(self, name: str) -> None:
        """End an account and all its sign-ins; what the person has said stays.

        Raises
        ------
        GalaxyError
            If there is no such account.
        """
        with self._database.writing() as session:
            account = _living(session, name)
            if account is None:
                raise GalaxyError(f"there is no user {name!r}")
            account.ended_at = now()
            ended = update(SignIn).where(SignIn.account_id == account.id, SignIn.ended_at.is_(None))
            session.execute(ended.values(ended_at=now()))

    def sign_in(self, name: str, password: str) -> str | None:
        """A new token if name and password are right, else None, after as long a time."""
        with self._database.reading() as session:
            account = _living(session, name) if LEGAL_NAME.fullmatch(name) else None
        if not self._is_right(account.password_hash if account else self._nobodys_hash, password) or account is None:
            return None
        token = secrets.token_urlsafe(32)
        expires = now() + timedelta(hours=SIGN_IN_HOURS)
        with self._database.writing() as session:
            session.add(SignIn(token_hash=_hash(token), account_id=account.id, expires_at=expires))
        return token

    def sign_out(self, token: str) -> None:
        """End the sign-in of a token, if there is one."""
        with self._database.writing() as session:
            found = session.get(SignIn, _hash(token))
            if found is not None and found.ended_at is None:
                found.ended_at = now()

    def person(self, token: str) -> Person | None:
        """Whose token this is, while it counts."""
        chosen = select(Account).join(SignIn, SignIn.account_id == Account.id)
        chosen = chosen.where(SignIn.token_hash == _hash(token), SignIn.ended_at.is_(None), SignIn.expires_at > now())
        with self._database.reading() as session:
            account = session.scalar(chosen.where(Account.ended_at.is_(None)))
        return None if account is None else Person(account.name, account.role)

    def _is_right(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password[: LONGEST_PASSWORD + 1])
        except (VerificationError, InvalidHashError):
            return False

    @cached_property
    def _nobodys_hash(self) -> str:
        """Of no password: so that an unknown name takes as long to refuse as a wrong password."""
        return self._hasher.hash(secrets.token_urlsafe(32))


def _living(session: Session, name: str) -> Account | None:
    return session.scalar(select(Account).where(Account.name == name, Account.ended_at.is_(None)))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
