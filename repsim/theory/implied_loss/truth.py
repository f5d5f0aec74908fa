"""The true loss of activations, and how far an implied one agrees with it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repsim.learning.chain import Chain
from repsim.learning.checks import check_choice
from repsim.learning.losses import LOSSES
from repsim.theory.implied_loss.module_field import check_points, rows_of
from repsim.theory.implied_loss.values import about_means, check_values

__all__ = ["Agreement", "agreement", "true_loss_at"]


@torch.no_grad()
def true_loss_at(network: Chain, k: int, h: Tensor, y: Tensor, *, loss: str = "log_loss") -> Tensor:
    """Return the true loss of each example as a function of the activation at boundary k.

    ℓ(f_K ∘ … ∘ f_{k+1}(h), y), in evaluation mode, so that examples do not mix; every module's mode is put back and no
    running statistics change. In training mode a batch norm above the boundary uses the batch's statistics: the target
    that a synthetic gradient learns from is then not quite the gradient of this. Per example, as synthetic gradients
    are, so that both losses have one scale.

    Parameters
    ----------
    network : Chain
    k : int
        A boundary of the network.
    h : Tensor, shape (N, d)
        Or (N, *shape_k).
    y : Tensor, shape (N,)
        Classes, or regression targets (N, n_outputs).
    loss : str, default "log_loss"
        A key of ``LOSSES``.

    Returns
    -------
    Tensor, shape (N,)

    Raises
    ------
    ValueError
        If there is no such boundary or loss, or shapes or types do not fit.

    Examples
    --------
    >>> from repsim.learning import mlp
    >>> net = mlp(4, 2, depth=2, width=3, generator=torch.Generator().manual_seed(0))
    >>> true_loss_at(net, 2, torch.zeros(1, 3), torch.tensor([0]))
    tensor([0.6931])
    """
    network.check_boundary(k)
    check_choice("loss", loss, LOSSES)
    h, _ = check_points(h.flatten(1) if h.ndim > 1 else h, y)
    above = nn.Sequential(*network.segments[k:])
    rows = rows_of(h, network.shapes[k - 1], above, f"boundary {k}")
    modes = {module: module.training for module in above.modules()}
    above.eval()
    try:
        return LOSSES[loss](above(rows), y)
    finally:
        for module, training in modes.items():
            module.training = training


@dataclass(frozen=True)
class Agreement:
    """How alike two loss surfaces are once the mean of each label is taken off.

    Attributes
    ----------
    correlation : float
        Pearson's over all points, -1 to 1: alike up to a positive factor if 1. NaN if either surface is flat.
    relative_difference : float
        ‖implied − true‖ / ‖true‖ over all points, 0 (equal) or more; 1 if the implied loss is flat. NaN if the true
        loss is flat.
    """

    correlation: float
    relative_difference: float


def agreement(implied: Tensor, true: Tensor, y: Tensor) -> Agreement:
    """Compare the implied with the true loss over a set of points, up to a constant per label.

    The constants that an implied loss leaves open are removed by subtracting from both, for each label, the mean over
    its points. What weighs is the set of points: choose where activations are.

    Parameters
    ----------
    implied, true : Tensor, shape (N,)
        At the same points in the same order.
    y : Tensor, shape (N,)
        Classes, or regression targets (N, n_outputs): equal rows are one label. At least one has two points.

    Returns
    -------
    Agreement

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, or every label has one point only.

    Warns
    -----
    RuntimeWarning
        If something is NaN.

    Examples
    --------
    >>> true = torch.tensor([0.0, 1.0, 5.0, 7.0])
    >>> agreement(2 * true + 3, true, torch.tensor([0, 0, 1, 1])).relative_difference
    1.0
    """
    check_values(true, len(y), "true")
    check_values(implied, len(y), "implied")
    labels = y.unique(dim=0, return_inverse=True)[1]
    if int(labels.max()) + 1 == len(y):
        raise ValueError(
            f"Each of the {len(y)} labels has one point, of which nothing is left once its constant is removed; "
            "expected two or more points of a label. Evaluate both losses at several activations with the same y."
        )
    a, b = (about_means(values, labels) for values in (implied, true))
    sizes = {"implied": float(a.norm()), "true": float(b.norm())}
    if flat := [name for name, size in sizes.items() if size == 0]:
        warnings.warn(
            f"The {' and the '.join(flat)} loss varies within no label over {len(y)} points; what is relative to that "
            "variation is NaN.",
            RuntimeWarning,
            stacklevel=2,
        )
    product = sizes["implied"] * sizes["true"]
    cosine = min(1.0, max(-1.0, float(a @ b) / product)) if product > 0 else math.nan
    return Agreement(cosine, float((a - b).norm()) / sizes["true"] if sizes["true"] > 0 else math.nan)
