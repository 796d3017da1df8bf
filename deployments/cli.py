"""The `galaxy` command."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from deployments.label_app.command import PORT, label
from infra.environment import prepare_environment, refuse_full_disk, running_services
from infra.errors import GalaxyError
from infra.leftovers import mark_run, stop_leftovers
from infra.settings import Settings

app = typer.Typer(
    help="From a sky survey to science.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
app.add_typer(label, name="label")

Survey = Annotated[str, typer.Option(help="Name of a shipped survey, or the path of a survey definition in TOML.")]
ProfileOption = Annotated[str, typer.Option(help="Name of a shipped profile, or the path of a profile in TOML.")]


@app.command()
def run(
    survey: Survey = "embedded",
    profile: ProfileOption = "laptop",
    stages: Annotated[str, typer.Option(help="`all`, or stages separated by commas.")] = "all",
) -> None:
    """Run a survey through its stages. What is done is skipped, what was stopped is carried on."""
    console = plain_console()
    settings = Settings.from_environment()
    # The terminal shows bars, and an error once; the run's log is in the Prefect UI.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    prepare_environment(settings)
    refuse_full_disk(settings)
    mark_run(settings)
    signal.signal(signal.SIGTERM, _end_in_order)
    from tasks.chain import chosen_stages, open_chain

    # What is wrong with the definition, or missing before the first stage, is said before anything starts.
    open_chain(survey, profile).folder(chosen_stages(stages)[0])
    # Flows bring Prefect, torch and MLflow: imported late, since the environment must say where they live.
    console.print(f"survey {survey}, profile {profile}, everything goes to {settings.home}", highlight=False)
    if stop_leftovers(settings):
        console.print("a run before this one was killed; what it had left running is stopped", highlight=False)
    if not running_services(settings):
        console.print("starting Prefect for this run (`galaxy up` keeps it running) ...", highlight=False)
    from deployments.console import print_summary, stages_shown, stop_told
    from flows.survey_run import survey_run

    started = time.monotonic()
    with stop_told(console), stages_shown(console):
        results = survey_run(survey=survey, profile=profile, stages=stages)
    print_summary(console, results, time.monotonic() - started)


@app.command()
def up(
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect server and UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow server and UI.")] = 5000,
    label_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the label app.")] = PORT,
) -> None:
    """Run Prefect server, worker, MLflow server and label app on this machine, on loopback, until Ctrl-C."""
    from infra.stack import LocalStack

    settings = Settings.from_environment()
    prepare_environment(settings)
    refuse_full_disk(settings)
    mark_run(settings)
    console = plain_console()
    if not running_services(settings):
        stop_leftovers(settings)
    console.print("starting; the first time takes about half a minute ...")
    LocalStack(
        settings,
        prefect_port,
        mlflow_port,
        label_port,
        _prefect_file(),
        lambda line: console.print(line, highlight=False),
    ).run()


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False) -> None:
    """Show datasets, stages, models and catalogues, and where they are."""
    settings = Settings.from_environment()
    prepare_environment(settings)
    from deployments.status import collect_status, print_status

    content = collect_status(settings)
    if as_json:
        typer.echo(json.dumps(content, indent=2))
    else:
        print_status(plain_console(), content)


@app.command()
def check(survey: Survey = "embedded", profile: ProfileOption = "laptop") -> None:
    """Say whether this machine is ready, and what a run will take: time, memory, bytes."""
    settings = Settings.from_environment()
    prepare_environment(settings)
    from deployments.readiness import check_machine, expect_run

    console = plain_console()
    ready = check_machine(console, settings)
    if not expect_run(console, settings, survey, profile) or not ready:
        raise typer.Exit(1)


def plain_console(stderr: bool = False) -> Console:
    """A console that shows brackets in paths and messages as they are, and does not take them for markup."""
    return Console(stderr=stderr, markup=False)


def _end_in_order(number: int, frame: object) -> None:
    """End as after an error, so that Prefect stops the server that it started for the run."""
    sys.exit(128 + number)


def _prefect_file() -> Path:
    """`prefect.yaml` of the folder that the command is given in, else of the checkout that this package lies in."""
    for folder in (Path.cwd(), Path(__file__).resolve().parents[1]):
        if (folder / "prefect.yaml").is_file():
            return folder / "prefect.yaml"
    raise GalaxyError(f"no prefect.yaml in {Path.cwd()}; run `galaxy up` in the project's folder")


def main() -> None:
    """Run the command; what a user can mend is printed as one message, with exit status 1."""
    try:
        app()
    except GalaxyError as error:
        plain_console(stderr=True).print(Text.assemble(("error ", "red"), str(error)), soft_wrap=True)
        sys.exit(1)  # and not faster: Prefect stops the server that it started for the run as the interpreter ends


if __name__ == "__main__":
    main()
