"""Phases: which parameters train when, and at which learning rate.

One optimiser holds every parameter for the whole run. Its groups are cut so that within a group all parameters have the same
factor in every phase; a phase then sets one learning rate per group and switches frozen groups off (no gradient, no step, no
weight decay).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from lamella.core.errors import UserError
from lamella.train.task import Phase


def check_phases(phases: Sequence[Phase], net: nn.Module) -> None:
    """Refuse phases that do not begin at step 0, run backwards, or name modules that the net lacks."""
    starts = [phase.start for phase in phases]
    if not starts or starts[0] != 0 or any(b <= a for a, b in pairwise(starts)):
        raise UserError(f"phases start at steps {starts}; the first must start at 0 and each later than the one before")
    names = [name for name, _ in net.named_parameters()]
    for phase in phases:
        for prefix in phase.train:
            if not any(_below(name, prefix) for name in names):
                raise UserError(
                    f"phase {phase.name!r} trains {prefix!r}, which is no part of the net; its parts are "
                    f"{', '.join(name for name, _ in net.named_children())}"
                )
        if not any(factor(phase, name) for name in names):
            raise UserError(f"phase {phase.name!r} trains nothing: no parameter of the net has a factor above 0")


def phase_index(phases: Sequence[Phase], step: int) -> int:
    """Number of the phase that step ``step`` belongs to."""
    return sum(phase.start <= step for phase in phases) - 1


def factor(phase: Phase, name: str) -> float:
    """Learning-rate factor of the parameter ``name``; 0 for a frozen one.

    >>> factor(Phase(train={"": 0.2, "head": 1.0}), "head.weight")
    1.0
    """
    fitting = [prefix for prefix in phase.train if _below(name, prefix)]
    return phase.train[max(fitting, key=len)] if fitting else 0.0


def parameter_groups(net: nn.Module, phases: Sequence[Phase]) -> list[dict[str, object]]:
    """Optimiser groups of all parameters, each with ``factors``: its learning-rate factor in every phase."""
    groups: dict[tuple[float, ...], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in net.named_parameters():
        groups[tuple(factor(phase, name) for phase in phases)].append(parameter)
    return [{"params": parameters, "factors": factors} for factors, parameters in groups.items()]


def set_rates(optimiser: torch.optim.Optimizer, index: int, learning_rate: float) -> None:
    """Set the learning rate of every group for phase ``index``."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate * group["factors"][index]


def enter(net: nn.Module, optimiser: torch.optim.Optimizer, phases: Sequence[Phase], index: int) -> None:
    """Freeze what phase ``index`` does not train, running statistics included."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.requires_grad_(group["factors"][index] != 0)
    for name, module in net.named_modules():
        if isinstance(module, _NormBase):
            module.train(factor(phases[index], name) != 0)


def forget(optimiser: torch.optim.Optimizer) -> None:
    """Drop the moments of every parameter."""
    optimiser.state.clear()


def _below(name: str, prefix: str) -> bool:
    return prefix in ("", name) or name.startswith(prefix + ".")
