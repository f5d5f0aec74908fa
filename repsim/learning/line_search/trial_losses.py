"""Losses of one batch at trial parameters, for the line search of a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from repsim.learning.draws import Draws
from repsim.learning.estimators import Estimator
from repsim.learning.line_search.line_search import LineSearch, SearchedStep
from repsim.learning.losses import LOSSES
from repsim.learning.networks.chain import Chain
from repsim.learning.networks.equilibrium_network import EquilibriumNetwork
from repsim.learning.networks.recurrent_network import RecurrentNetwork
from repsim.learning.networks.true_gradient import apply_without_side_effects
from repsim.learning.streams import Drawn, drawing_again

__all__ = ["TrialLosses", "refuse_unsearchable"]


@dataclass(frozen=True)
class TrialLosses:
    """The losses of one batch at the present parameters of a network and of its estimators.

    The loss of the network is that of its true forward pass, without synthetic inputs.
    Running statistics do not change, and blocks of the user draw again what they drew in the forward pass of the batch.

    Attributes
    ----------
    network : Chain
    loss : str
        A key of ``LOSSES``.
    estimator_losses : callable
        Sum of the losses of the estimators and synthetic inputs, with their present parameters, on the signals and
        targets of the batch.
    X, y : Tensor
        The batch.
    drawn : Drawn
        State of the global generators before the forward pass of the batch.
    """

    network: Chain
    loss: str
    estimator_losses: Callable[[], Tensor]
    X: Tensor
    y: Tensor
    drawn: Drawn

    def search(self, optimizer: LineSearch) -> dict[str, SearchedStep]:
        """Make a step of each group of parameters, and return those of ``network`` and of the rule's ``estimators``."""
        of_network = {id(parameter) for parameter in self.network.parameters()}
        names = [
            "network" if id(group["params"][0]) in of_network else "estimators" for group in optimizer.param_groups
        ]
        losses = {"network": self.network_loss, "estimators": lambda: float(self.estimator_losses())}
        true = None
        if optimizer.largest_error_ratio is not None:
            groups = zip(names, optimizer.param_groups, strict=True)
            true = [self.true_gradients(group["params"]) if name == "network" else None for name, group in groups]
        return dict(zip(names, optimizer.search([losses[name] for name in names], true), strict=True))

    def network_loss(self) -> float:
        """Return the mean loss of the batch."""
        with torch.no_grad():
            return float(self._loss())

    def true_gradients(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Return the true gradients of the mean loss, zero for parameters that it does not depend on."""
        parameters = list(parameters)
        with torch.enable_grad():
            found = torch.autograd.grad(self._loss(), parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    def _loss(self) -> Tensor:
        with drawing_again(self.drawn, self.X.device):
            h = self.network.input(self.X)
            for segment in self.network.segments:
                h = apply_without_side_effects(segment, h)
        return LOSSES[self.loss](h, self.y).mean()


def refuse_unsearchable(network: Chain, estimators: Iterable[Estimator], name: str) -> None:
    """Raise ValueError if losses at trial steps cannot be compared.

    That is so if the network relaxes to an equilibrium or runs in windows, or if parameters of an estimator learn
    without a loss, or from a loss that draws random numbers.
    """
    if isinstance(network, EquilibriumNetwork):
        raise ValueError(
            f"Optimizer '{name}' compares the losses of trial steps after one forward pass each, but this network "
            "relaxes to an equilibrium. Use optimizer adam, sgd or momentum."
        )
    if isinstance(network, RecurrentNetwork):
        raise ValueError(
            f"Optimizer '{name}' compares the losses of trial steps after one forward pass each, but this network runs "
            "in windows. Use optimizer adam, sgd or momentum."
        )
    for estimator in estimators:
        if not any(parameter.requires_grad for parameter in estimator.parameters()):
            continue
        draws = any(isinstance(part, Draws) for part in estimator.modules())
        if draws or type(estimator).loss is Estimator.loss:
            reason = "draws random numbers" if draws else "changes its parameters without a loss"
            raise ValueError(
                f"Optimizer '{name}' compares the losses of trial steps, but {type(estimator).__name__} {reason}. "
                "Use optimizer adam, sgd or momentum."
            )
