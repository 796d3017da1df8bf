"""`galaxy label`: the service, and who may use it."""

from __future__ import annotations

import getpass
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deployments.label_app.addresses import is_loopback, trusted_proxies
from infra.environment import prepare_environment, refuse_full_disk
from infra.errors import GalaxyError
from infra.settings import Settings

if TYPE_CHECKING:
    from deployments.label_app.accounts import Accounts

label = typer.Typer(help="Find galaxies by example, in the browser.", invoke_without_command=True)

PORT = 4300
KEEP_ALIVE_SECONDS = 120
"""People think between two answers: a connection that is closed meanwhile costs the next one time, or a retry."""


@label.callback()
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on; any but a loopback one demands accounts.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = PORT,
    sign_in: Annotated[
        bool, typer.Option("--sign-in", help="Demand accounts on loopback too, as behind a proxy that brings TLS.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name that the service is asked by, such as that of the proxy.")
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="Address of a proxy that says by X-Forwarded-For and -Proto who asks; loopback, if none is."),
    ] = None,
) -> None:
    """Serve the pages on this machine until Ctrl-C."""
    if context.invoked_subcommand is None:
        run_service(host, port, sign_in, allowed_host or [], proxy or [])


@label.command("add-user")
def add_user(
    name: str,
    role: Annotated[Literal["viewer", "labeller", "admin"], typer.Option(help="What they may do.")] = "labeller",
) -> None:
    """Let somebody sign in; the password comes from a prompt, or from the first line of standard input."""
    with _accounts() as accounts:
        accounts.add(name, role, _new_password())
    typer.echo(f"{name} may sign in as {role}")


@label.command("remove-user")
def remove_user(name: str) -> None:
    """End an account and its sign-ins; votes stay."""
    with _accounts() as accounts:
        accounts.end(name)
    typer.echo(f"{name} may not sign in any more")


def run_service(host: str, port: int, sign_in: bool, allowed_hosts: Sequence[str], proxies: Sequence[str]) -> None:
    """Serve until a signal ends it.

    Raises
    ------
    GalaxyError
        If accounts are demanded and there are none, a proxy is no address, or the port is taken.
    """
    trusted = trusted_proxies(proxies)
    settings = Settings.from_environment()
    prepare_environment(settings)
    refuse_full_disk(settings)
    accounts_demanded = sign_in or not is_loopback(host)
    if accounts_demanded:
        with _accounts() as accounts:
            accounts.demand()
    import uvicorn  # late, as the app brings torch

    from deployments.label_app.app import create_app

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    app = create_app(settings, accounts_demanded=accounts_demanded, hosts=allowed_hosts)
    typer.echo(
        f"labels  http://{f'[{host}]' if ':' in host else host}:{port}   find galaxies by example; Ctrl-C stops it"
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            forwarded_allow_ips=trusted,
        )
    )
    try:
        server.run()
    except SystemExit:  # how uvicorn tells that it cannot listen; it has said why
        raise GalaxyError(f"cannot listen on {host} port {port}; choose another with --port") from None


@contextmanager
def _accounts() -> Iterator[Accounts]:
    """The accounts of this home, while a command changes them."""
    from deployments.label_app.accounts import Accounts
    from deployments.label_app.database import Database

    database = Database(Settings.from_environment().label_database_url)
    try:
        yield Accounts(database)
    finally:
        database.close()


def _new_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise GalaxyError("the two passwords differ; nothing was changed")
    return password
