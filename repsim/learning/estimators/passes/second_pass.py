"""Second forward passes of rules whose segments learn in one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from repsim.learning.estimators.estimator import Estimator
from repsim.learning.networks.true_gradient import apply_without_side_effects

__all__ = ["run_second_passes"]


def run_second_passes(
    estimators: Mapping[int, Estimator],
    segments: Mapping[int, nn.Module],
    X: Tensor,
    y: Tensor | None,
    error: Tensor | None,
) -> dict[int, Tensor]:
    """Return h'_k at the boundary of each estimator, with its graph to the parameters of segment k alone.

    Estimators of one rule share a pass, whose input the lowest of them gives. Running statistics stay as they are.
    """
    outputs: dict[int, Tensor] = {}
    for rule in dict.fromkeys(map(type, estimators.values())):
        mine = {k: each for k, each in estimators.items() if type(each) is rule}
        h = mine[min(mine)].inputs_again(X, y, error)
        for k in range(1, max(mine) + 1):
            run = mine[k].run_again if k in mine else apply_without_side_effects
            h = run(segments[k], h.detach())
            if k in mine:
                outputs[k] = h
    return outputs
