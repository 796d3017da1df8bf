"""The label app put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse

from deployments.label_app import found, galaxies, handing_on, rounds, searches, sign_in, symbols
from deployments.label_app.accounts import Accounts
from deployments.label_app.addresses import LOOPBACK_HOSTS
from deployments.label_app.catalogues import Library
from deployments.label_app.database import Database
from deployments.label_app.learning import Learners
from deployments.label_app.models import Models
from deployments.label_app.pages import STATIC, StaticParts, add_error_pages
from deployments.label_app.people import local_person
from deployments.label_app.security import Doorkeeper, guard
from deployments.label_app.service import Service, service_of
from infra.settings import Settings


def create_app(settings: Settings, *, accounts_demanded: bool = False, hosts: Iterable[str] = ()) -> FastAPI:
    """The app over a home folder.

    Parameters
    ----------
    accounts_demanded
        Whether people must sign in. Without, whoever reaches it may do everything: only for loopback.
    hosts
        Further names that it is asked by, as behind a proxy.

    Raises
    ------
    GalaxyError
        If accounts are demanded and there are none, or the database cannot be opened.
    """
    database = Database(settings.label_database_url)
    accounts = Accounts(database)
    if accounts_demanded:
        accounts.demand()
    service = Service(
        settings,
        database,
        accounts,
        Library(settings),
        Learners(),
        Models(settings),
        database.secret("csrf"),
        None if accounts_demanded else local_person(),
    )

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="galaxy-lvm labels",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(guard)],
        lifespan=life,
    )
    app.state.service = service
    # Behind accounts any name may lead here: cookies belong to one name, so that another one has none.
    names = frozenset(name.lower() for name in hosts)
    app.add_middleware(Doorkeeper, hosts=names | (frozenset() if accounts_demanded and not names else LOOPBACK_HOSTS))
    for part in (sign_in, searches, rounds, galaxies, symbols, found, handing_on):
        app.include_router(part.router)
    app.add_api_route("/health", health)
    app.mount("/static", StaticParts(directory=STATIC))
    add_error_pages(app)
    return app


def health(request: Request) -> Response:
    """Whether the database answers, and how many catalogues there are."""
    service = service_of(request)
    try:
        service.database.check()
    except SQLAlchemyError:
        return JSONResponse({"status": "the database does not answer"}, 503)
    return JSONResponse({"status": "ok", "catalogues": len(service.library.folders())})
