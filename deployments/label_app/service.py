"""What all routes share: the database, the catalogues, the learners, and how people are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Path, Request

from deployments.label_app.accounts import Accounts
from deployments.label_app.catalogues import Library
from deployments.label_app.database import Database
from deployments.label_app.learning import Learners
from deployments.label_app.models import Models
from deployments.label_app.pace import SignInPace
from deployments.label_app.people import Person
from deployments.label_app.stamps import Kept, Pictures
from infra.settings import Settings

KEPT = 64
LARGEST_ID = 2**31 - 1
Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
"""A number in an address, as large as databases keep them."""


@dataclass(frozen=True)
class Service:
    """One running label app.

    Attributes
    ----------
    local_person
        Who does everything, where nobody signs in; None where accounts are demanded.
    csrf_key
        Makes the pages' tokens.
    held_back
        Search to the rows of its test sample, which follow from the search and never change.
    remaining
        Search, teaching and answered rows to how many wanted ones are left.
    """

    settings: Settings
    database: Database
    accounts: Accounts
    library: Library
    learners: Learners
    models: Models
    csrf_key: bytes
    local_person: Person | None = None
    pictures: Pictures = field(default_factory=Pictures)
    held_back: Kept = field(default_factory=lambda: Kept(KEPT))
    remaining: Kept = field(default_factory=lambda: Kept(KEPT))
    pace: SignInPace = field(default_factory=SignInPace)

    def close(self) -> None:
        """End the workers and let go of the database."""
        self.learners.close()
        self.database.close()


def service_of(request: Request) -> Service:
    """The service that answers a request."""
    service: Service = request.app.state.service
    return service
