"""AdamW over an objective's groups: what decays, and what learns how fast."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..checkpoint import CheckpointError
from ..encoder import STRIDES
from ..lvm import GalaxyLVM
from .objective import Objective
from .plan import Plan


def make_optimiser(objective: Objective, plan: Plan, state: dict[str, Any] | None = None) -> torch.optim.AdamW:
    """AdamW without decay of biases, norms and other vectors, in the `state` of a checkpoint if there is one.

    Raises
    ------
    CheckpointError
        If the checkpoint's groups learn at other rates than the objective's.
    """
    groups = _groups(objective, plan)
    on_gpu = all(parameter.is_cuda for group in groups for parameter in group["params"])
    # one kernel, twice as fast there; a CPU keeps to the one whose every bit is known from earlier runs
    optimiser = torch.optim.AdamW(groups, lr=plan.learning_rate, fused=on_gpu or None)
    if state is not None:
        theirs, ours = (
            [group["scale"] for group in groups] for groups in (state["param_groups"], optimiser.param_groups)
        )
        if theirs != ours:
            raise CheckpointError(
                f"the checkpoint is of another run (learning-rate scales of its groups {theirs}, now {ours}); "
                "delete it or use another folder"
            )
        kept = [{**group, "fused": on_gpu or None} for group in state["param_groups"]]  # this device's, not that one's
        optimiser.load_state_dict({**state, "param_groups": kept})
    return optimiser


def encoder_groups(network: GalaxyLVM, rate: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Groups of a pre-trained network, for `Objective.parameter_groups`: the earlier a stage, the slower it learns.

    What is early in a network is general and should move little (Clark et al. 2020; BEiT and Swin fine-tune so). The
    last of the four stages and the decoder learn at `rate`, each stage before at `layer_decay` of the next, and the
    patch embedding at `layer_decay` of the first stage. What the stages are, the encoder says.

    Parameters
    ----------
    rate
        Learning-rate scale of the last stage.
    layer_decay
        Factor a stage; 1 makes one group of the whole network.
    """
    if layer_decay == 1:
        return [{"module": network, "learning_rate_scale": rate}]
    stages = {f"encoder.{name}": number for name, number in network.encoder.stage_numbers().items()}
    members: dict[int, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        members.setdefault(stages.get(name, len(STRIDES)), []).append(parameter)
    return [
        {
            "module": nn.ParameterList(members[stage]),
            "learning_rate_scale": rate * layer_decay ** (len(STRIDES) - stage),
        }
        for stage in sorted(members)
    ]


def _groups(objective: Objective, plan: Plan) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    for group in objective.parameter_groups():
        scale = float(group.get("learning_rate_scale", 1.0))
        parameters = [p for p in group["module"].parameters() if p.requires_grad]
        for decays in (True, False):
            # biases, norms, tokens and scales are vectors
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            if chosen:
                decay = plan.weight_decay if decays else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "scale": scale})
    return groups
