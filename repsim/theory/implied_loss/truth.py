"""True loss as a function of activations, and its agreement with an implied loss."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repsim.learning.checks import check_choice
from repsim.learning.losses import LOSSES
from repsim.learning.networks import Chain
from repsim.theory.implied_loss.module_field import check_points, rows_of
from repsim.theory.implied_loss.values import about_means, check_values

__all__ = ["Agreement", "agreement", "true_loss_at"]


@torch.no_grad()
def true_loss_at(network: Chain, k: int, h: Tensor, y: Tensor, *, loss: str = "log_loss") -> Tensor:
    """Return the true loss of each example as a function of the activation at boundary k.

    ℓ(f_K ∘ … ∘ f_{k+1}(h), y), in evaluation mode, so that examples do not interact. The mode of every module is
    restored, and running statistics do not change. In training mode a batch norm above the boundary uses the statistics
    of the batch; the target of a synthetic gradient is then not exactly the gradient of this loss. The loss is per
    example, like synthetic gradients, so that it has the scale of an implied loss.

    Parameters
    ----------
    network : Chain
    k : int
        A boundary of the network.
    h : Tensor, shape (N, d)
        Activations; (N, *shape_k) is also accepted.
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
        If the boundary or loss does not exist, or if shapes or types of h, y and the network are inconsistent.

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
    """Agreement of two loss surfaces after subtracting the mean of each label.

    Attributes
    ----------
    correlation : float
        Pearson correlation over all points, -1 to 1; 1 if the surfaces are equal up to a positive factor. NaN if either
        surface is flat.
    relative_difference : float
        ‖implied − true‖ / ‖true‖ over all points, 0 (equal) or more; 1 if the implied loss is flat. NaN if the true
        loss is flat.
    slope : float
        ⟨implied, true⟩ / ‖true‖², the least squares slope of the implied over the true loss; 1 if they are equal. NaN
        if the true loss is flat.
    """

    correlation: float
    relative_difference: float
    slope: float


def agreement(implied: Tensor, true: Tensor, y: Tensor) -> Agreement:
    """Compare the implied with the true loss over a set of points, up to a constant per label.

    The undetermined constants of an implied loss are removed by subtracting from both losses the mean over the points
    of each label. The result depends on the choice of points; use activations that occur in the network.

    Parameters
    ----------
    implied, true : Tensor, shape (N,)
        Losses at the same points in the same order.
    y : Tensor, shape (N,)
        Classes, or regression targets (N, n_outputs): equal rows are one label. At least one label has two points.

    Raises
    ------
    ValueError
        If shapes differ, if values are not finite, or if every label has only one point.

    Warns
    -----
    RuntimeWarning
        If an attribute of the result is NaN.

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
            f"Each of the {len(y)} labels has one point, so that all values are 0 after subtracting the mean of each "
            "label. Evaluate both losses at two or more activations with the same y."
        )
    a, b = (about_means(values, labels) for values in (implied, true))
    sizes = {"implied": float(a.norm()), "true": float(b.norm())}
    if flat := [name for name, size in sizes.items() if size == 0]:
        warnings.warn(
            f"The {' and the '.join(flat)} loss is constant within every label ({len(y)} points); measures relative to "
            "its variation are NaN.",
            RuntimeWarning,
            stacklevel=2,
        )
    product, scale = sizes["implied"] * sizes["true"], sizes["true"] or math.nan
    cosine = min(1.0, max(-1.0, float(a @ b) / product)) if product > 0 else math.nan
    return Agreement(cosine, float((a - b).norm()) / scale, float(a @ b) / scale**2)
