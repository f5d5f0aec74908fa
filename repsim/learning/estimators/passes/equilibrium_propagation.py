"""Equilibrium propagation: weights learn from the difference of two equilibria of a network that relaxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals
from repsim.learning.losses import LOSSES, count_examples
from repsim.learning.networks.chain import Chain
from repsim.learning.networks.equilibrium_network import EquilibriumNetwork, Pull
from repsim.settings import setting

__all__ = ["EquilibriumPropagation", "EquilibriumPropagationOptions", "learn_from_equilibria"]


@dataclass(frozen=True, kw_only=True)
class EquilibriumPropagationOptions(RuleOptions):
    """The nudge of the output."""

    beta: float = setting(0.1, help="strength β of the nudge, above 0 and at most 0.4", positive=True, highest=0.4)
    symmetric: bool = setting(True, help="whether the equilibria at β and −β are compared, or those at β and 0")
    sweeps: int = setting(20, help="updates of every layer on the way to an equilibrium", lowest=1)


class EquilibriumPropagation(Estimator):
    """g_k = (s_k⁻ − s_k⁺) / span, where s⁺ is the equilibrium of a nudged network, and s⁻ one nudged the other way.

    The network is an ``EquilibriumNetwork`` with the energy E. With the nudge β ℓ added to E its equilibrium is s(β).
    Weights follow ΔW = −η / span · (∂E/∂W at s⁺ − ∂E/∂W at s⁻), averaged over examples, where ∂E/∂W_k = −s_k s_{k−1}ᵀ.
    With ``symmetric``, s⁺ = s(β), s⁻ = s(−β) and span = 2 β; without, s⁻ = s(0) and span = β. As β → 0 this tends to
    the gradient of ℓ at the free equilibrium s(0), which backprop through the relaxation gives, with an error that
    falls in proportion to β² or β. The output layer learns in the same way.

    g_k estimates the gradient of the loss with respect to what is added to the input of layer k. The rule trains all
    layers together, of a perceptron without norms with tanh or sigmoid units, and with the squared error.

    References
    ----------
    Scellier, Bengio (2017), Equilibrium propagation: bridging the gap between energy-based models and backpropagation.
    Laborieux et al. (2021), Scaling equilibrium propagation to deep ConvNets, for the symmetric form.
    """

    formula = "(s_k(−β) − s_k(β)) / (2 β), s equilibria of the network with the nudge ± β ℓ"
    reference = "Scellier, Bengio (2017), Equilibrium propagation"
    Options = EquilibriumPropagationOptions
    needs = frozenset({"activation", "error", "again"})
    learns_again = True
    options: EquilibriumPropagationOptions

    @property
    def span(self) -> float:
        """The difference of the two nudges."""
        return self.options.beta * (1 + self.options.symmetric)

    def gradient(self, signals: Signals) -> Tensor:
        """Return the difference of the equilibria s⁻ (``activation``) and s⁺ (``again``), divided by the span."""
        assert signals.again is not None
        return (signals.activation - signals.again) / self.span


def network_for(network: Chain, estimators: Mapping[int, Estimator]) -> Chain:
    """Return the network that the estimators train: one that relaxes, if their rule is equilibrium propagation.

    Raises
    ------
    ValueError
        If equilibrium propagation is mixed with other rules, or cannot train the network.
    """
    mine = {k: each for k, each in estimators.items() if isinstance(each, EquilibriumPropagation)}
    if not mine or isinstance(network, EquilibriumNetwork):
        return network
    if missing := [k for k in network.boundaries if k not in mine]:
        raise ValueError(
            f"Equilibrium propagation trains all layers together, but boundary {missing[0]} has another rule. Use "
            "equilibrium-propagation at all boundaries."
        )
    if len({each.options for each in mine.values()}) > 1:
        raise ValueError(
            "Equilibrium propagation trains all layers together; give its options once, for all boundaries."
        )
    first = mine[1]
    if first.site.loss != "mse":
        raise ValueError(
            f"Equilibrium propagation needs the squared error, but the loss is {first.site.loss}, which drives the "
            "output, and with it the feedback, to values at which no equilibrium is reached. Use "
            "--network mlp --norm none --activation sigmoid --loss mse."
        )
    return EquilibriumNetwork(network, first.options.sweeps)


def learn_from_equilibria(
    network: EquilibriumNetwork, estimators: Mapping[int, Estimator], X: Tensor, y: Tensor, loss: str
) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
    """Add the gradients of one batch to ``.grad``, and return loss and output of the free equilibrium, and g_k.

    The loss has shape (*lead), the output (*lead, N, n_outputs).
    """
    rule = next(iter(estimators.values()), None)
    if not isinstance(rule, EquilibriumPropagation):
        raise ValueError(
            "A network that relaxes to an equilibrium learns by equilibrium-propagation only. Use this rule at all "
            "boundaries."
        )

    beta = rule.options.beta
    with torch.no_grad():
        free = network.relax(X)
        plus = network.relax(X, _nudge(beta, y, loss), start=free)
        minus = network.relax(X, _nudge(-beta, y, loss), start=free) if rule.options.symmetric else free
    change = _energy(network, X, plus) - _energy(network, X, minus)
    (change / (rule.span * count_examples(y))).backward()
    value = LOSSES[loss](free[-1], y).mean(dim=-1)
    chosen = {k: each.gradient(Signals(minus[k - 1], y, again=plus[k - 1])) for k, each in sorted(estimators.items())}
    return value, free[-1], chosen


def _nudge(beta: float, y: Tensor, loss: str) -> Pull:
    """Return β ∂ℓ/∂o as a function of the output o of each example."""

    def pull(output: Tensor) -> Tensor:
        with torch.enable_grad():
            o = output.detach().requires_grad_()
            (slope,) = torch.autograd.grad(LOSSES[loss](o, y).sum(), o)
        return beta * slope

    return pull


def _energy(network: EquilibriumNetwork, X: Tensor, states: list[Tensor]) -> Tensor:
    """Return the part of the energy that depends on the weights, summed over examples, with its graph to them."""
    below = [network.input(X), *states[:-1]]
    parts = zip(network.affines(), below, states, strict=True)
    return -torch.stack([(state * affine(s)).sum() for affine, s, state in parts]).sum()
