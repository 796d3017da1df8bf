"""Flow runs started and watched through Prefect's API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from infra.environment import running_services
from infra.errors import GalaxyError
from infra.settings import Settings

ANSWER_SECONDS = 20
FAILURES = ("FAILED", "CRASHED")
LONGEST_REASON = 400
"""Characters."""


class UnknownToPrefectError(GalaxyError):
    """Prefect has not what it is asked for: it was deleted, or another server has it."""


@dataclass(frozen=True)
class FlowRuns:
    """The Prefect server that runs report to: that of `galaxy up`, or of PREFECT_API_URL."""

    settings: Settings

    @property
    def address(self) -> str:
        """Of the API; empty if there is no server."""
        running = running_services(self.settings).get("prefect", "")
        return f"{running}/api" if running else os.environ.get("PREFECT_API_URL", "")

    def start(self, deployment: str, parameters: Mapping[str, Any]) -> str:
        """Start a deployment with parameters; the flow run's id.

        Raises
        ------
        GalaxyError
            If no server answers, it does not know the deployment, or refuses the parameters.
        """
        found = self._ask("post", "deployments/filter", {"deployments": {"name": {"any_": [deployment]}}})
        if not found:
            raise GalaxyError(
                f"Prefect at {self.address} has no deployment {deployment!r}; `galaxy up` makes those of prefect.yaml"
            )
        made = self._ask("post", f"deployments/{found[0]['id']}/create_flow_run", {"parameters": dict(parameters)})
        return str(made["id"])

    def state(self, flow_run_id: str) -> str:
        """Name of a run's state, such as Running, and why if it failed; or why it is not known."""
        try:
            run = self._ask("get", f"flow_runs/{flow_run_id}")
        except UnknownToPrefectError:
            return f"not known: Prefect at {self.address} does not know this run (any more)"
        except GalaxyError as error:
            return f"not known: {error}"
        state = run.get("state") or {}
        why = str(state.get("message") or "") if state.get("type") in FAILURES else ""
        return f"{run['state_name']}: {why[:LONGEST_REASON]}" if why else str(run["state_name"])

    def page(self, flow_run_id: str) -> str:
        """Address of a run's page."""
        return f"{self.address.removesuffix('/api')}/runs/flow-run/{flow_run_id}"

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if not self.address:
            raise GalaxyError("no Prefect server runs for this home; start `galaxy up`, then try again")
        try:
            answer = requests.request(method, f"{self.address}/{path}", json=body, timeout=ANSWER_SECONDS)
        except requests.RequestException as error:
            raise GalaxyError(
                f"Prefect at {self.address} does not answer ({type(error).__name__}); start `galaxy up`"
            ) from error
        if not answer.ok:
            refusal = UnknownToPrefectError if answer.status_code == requests.codes.not_found else GalaxyError
            raise refusal(f"Prefect at {self.address} refused: {answer.status_code} {answer.text[:300]}")
        return answer.json()
