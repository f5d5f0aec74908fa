"""Bias and variance over batches of the gradients that a rule gives, against the true ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from repsim.learning.checks import check_choice
from repsim.learning.diagnostics.flat_gradients import flat_gradient, rows_of
from repsim.learning.learner import Learner
from repsim.learning.networks import Chain
from repsim.learning.networks.true_gradient import check_no_equilibrium
from repsim.learning.recurrent import WindowTape
from repsim.learning.streams import drawing_again, drawn_so_far
from repsim.learning.tape import Tape

__all__ = ["BiasVariance", "bias_variances", "gradient_bias_variance"]


@dataclass(frozen=True)
class BiasVariance:
    """Bias and variance of a rule's gradient over batches, at fixed parameters.

    G_b and T_b are the rule's gradient and the true gradient of batch b, for B batches; ⟨·⟩ is a mean over batches.

    Attributes
    ----------
    bias : float
        ‖⟨G_b⟩ − ⟨T_b⟩‖, 0 or more. On average, its square exceeds that of the true bias by 1/B of
        ``error_variance``; ``squared_bias`` does not.
    variance, true_variance : float
        Σ_b ‖G_b − ⟨G_b⟩‖² / (B − 1), and likewise for T_b, 0 or more: the sum of the variances of all entries.
    error_variance : float
        The same of G_b − T_b.
    true_norm : float
        Root mean square of ‖T_b‖ over batches, 0 or more.
    n_batches : int
        Number B of batches, 2 or more.
    """

    bias: float
    variance: float
    true_variance: float
    error_variance: float
    true_norm: float
    n_batches: int

    @property
    def squared_bias(self) -> float:
        """Unbiased estimate of the squared bias, bias² − error_variance / B: below 0 by chance where the bias is 0."""
        return self.bias**2 - self.error_variance / self.n_batches

    @property
    def mean_squared_error(self) -> float:
        """⟨‖G_b − ⟨T_b⟩‖²⟩ = bias² + (1 − 1/B) · variance: error of one batch as an estimate of the true gradient."""
        return self.bias**2 + (1 - 1 / self.n_batches) * self.variance


def gradient_bias_variance(
    learner: Learner, batches: Iterable[tuple[Tensor, Tensor]], *, of: str = "weights"
) -> dict[int, BiasVariance]:
    """Return bias and variance over batches of the gradient that a rule gives at each boundary.

    As an estimate of the mean true gradient, a rule's gradient of one batch has a mean squared error of bias² plus
    variance. Backprop has no bias. A rule with a bias has the lower error if its squared bias is smaller than the
    variance that it saves.

    Nothing is trained: parameters, running statistics, gradients and random streams of the learner stay as they are. A
    rule that draws random numbers draws anew for each batch, so that its variance includes that of the draws.

    Parameters
    ----------
    learner : Learner
        One network, in the mode (training or evaluation) in which its gradients are meant.
    batches : iterable of (X, y)
        Two or more batches of equally many examples, as for ``compute_gradients``.
    of : str, default "weights"
        - ``"weights"``: at boundary k, the gradient with respect to all parameters of segment k, a mean over examples;
          of a recurrent network, those of the cell, which all time steps share.
        - ``"activations"``: at boundary k, the mean over examples of g_k; of a rule that is only observed, of the
          gradient that it would have chosen. For the true gradient this mean is 0 in every batch where segment k + 1 is
          a linear map followed by batch norm in training mode, because batch norm ignores a shift of all examples.

    Returns
    -------
    dict of int to BiasVariance
        By boundary.

    Raises
    ------
    ValueError
        If there are fewer than two batches, if they differ in their numbers of examples, if ``of`` is unknown, or if
        the activations of the network are an equilibrium.

    References
    ----------
    Zhang et al. (2026), arXiv 2605.27946, on mixtures of backprop and synthetic gradients that trade bias for variance
    (known from a summary only; the definitions here are the usual ones).

    Examples
    --------
    >>> import torch
    >>> from repsim.learning import TrainingConfig, build_learner
    >>> learner = build_learner(TrainingConfig(depth=2, width=8, rule="synthetic-gradient@1"), 6, 3)
    >>> X, y = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    >>> found = gradient_bias_variance(learner, [(rows, y) for rows in X])
    >>> found[1].variance, found[1].bias > 0  # the synthetic gradient starts at zero
    (0.0, True)
    """
    return {k: each for k, (each,) in bias_variances(learner, batches, of=of).items()}


def bias_variances(
    learner: Learner, batches: Iterable[tuple[Tensor, Tensor]], *, of: str = "weights", lead: int = 0
) -> dict[int, list[BiasVariance]]:
    """Return ``gradient_bias_variance`` of each network of a stack with ``lead`` leading axes, by boundary."""
    check_choice("of", of, _MEANS)
    check_no_equilibrium(learner.network)
    learner = copy.deepcopy(learner)
    backprop = Learner(learner.network, loss=learner.loss).train(learner.training)
    chosen: list[dict[int, Tensor]] = []
    true: list[dict[int, Tensor]] = []
    sizes = []
    for X, y in batches:
        sizes.append(y.shape[lead])
        drawn = drawn_so_far(X.device)
        chosen.append(_mean_gradients(learner, X, y, of, tuple(y.shape[:lead])))
        with drawing_again(drawn, X.device):
            true.append(_mean_gradients(backprop, X, y, of, tuple(y.shape[:lead])))
    if len(sizes) < 2:
        raise ValueError(f"The number of batches is {len(sizes)}; a variance over batches needs two or more.")
    if len(set(sizes)) > 1:
        raise ValueError(
            f"The batches have {min(sizes)} to {max(sizes)} examples; expected equally many, as the variance of a mean "
            "depends on their number. Leave out the incomplete batch."
        )
    return {
        k: _compare_each(torch.stack([g[k] for g in chosen]), torch.stack([t[k] for t in true]))
        for k in learner.network.boundaries
    }


def _mean_gradients(learner: Learner, X: Tensor, y: Tensor, of: str, lead: tuple[int, ...]) -> dict[int, Tensor]:
    """Return the gradient (*lead, entries) of one batch, by boundary, without teaching the estimators."""
    network = learner.network
    network.zero_grad(set_to_none=True)
    tape = learner.run_forward(X, y, watch=True)
    tape.descend_from_loss(y, learner.loss)
    return {k: each.double() for k, each in _MEANS[of](network, tape, lead).items()}


def _of_weights(network: Chain, tape: Tape | WindowTape, lead: tuple[int, ...]) -> dict[int, Tensor]:
    return {k: flat_gradient(network.learning_below(k), lead) for k in network.boundaries}


def _of_activations(network: Chain, tape: Tape | WindowTape, lead: tuple[int, ...]) -> dict[int, Tensor]:
    return {k: g.mean(dim=len(lead)).reshape(*lead, -1) for k, g in tape.gradients().items()}


_MEANS: dict[str, Callable[[Chain, Tape | WindowTape, tuple[int, ...]], dict[int, Tensor]]] = {
    "weights": _of_weights,
    "activations": _of_activations,
}


def _compare_each(g: Tensor, t: Tensor) -> list[BiasVariance]:
    """Compare the gradients (B, *lead, entries) of all batches for each network."""
    pairs = zip(*(rows_of(each.movedim(0, -2), 2) for each in (g, t)), strict=True)
    return [_compare_batches(*pair) for pair in pairs]


def _total_variance(g: Tensor) -> float:
    """Return the sum of the variances of all entries over batches; faster than ``var``, which goes entry by entry."""
    return float((g - g.mean(dim=0)).square().sum()) / (len(g) - 1)


def _compare_batches(g: Tensor, t: Tensor) -> BiasVariance:
    """Compare the gradients (B, entries) of all batches; those of no parameters have none."""
    if g.shape[1] == 0:
        return BiasVariance(0.0, 0.0, 0.0, 0.0, 0.0, len(g))
    return BiasVariance(
        bias=float((g.mean(dim=0) - t.mean(dim=0)).norm()),
        variance=_total_variance(g),
        true_variance=_total_variance(t),
        error_variance=_total_variance(g - t),
        true_norm=float(t.square().sum(dim=1).mean().sqrt()),
        n_batches=len(g),
    )
