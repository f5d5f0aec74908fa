"""Vector fields of learning: the gradient of the loss, or the field of a synthetic gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.func import grad, jacrev, vjp

from repsim.learning.checks import check_range
from repsim.learning.losses import targets_of
from repsim.learning.networks import Chain
from repsim.theory.critical_points.families import Features, choose_features, fit_features
from repsim.theory.critical_points.objective import Objective

__all__ = ["VectorField", "synthetic_field", "true_field"]


@dataclass(frozen=True, eq=False)
class VectorField:
    """A vector field F(θ) whose negative is the direction of learning: dθ/dt = −F(θ).

    Attributes
    ----------
    objective : Objective
        The true loss. F need not be the gradient of this or of any other function.
    function : callable
        Function from theta (P,) to F(θ), shape (P,), differentiable by ``torch.func``.
    """

    objective: Objective
    function: Callable[[Tensor], Tensor]

    def __call__(self, theta: Tensor) -> Tensor:
        """Return F(θ), shape (P,), for parameters theta (P,)."""
        return self.function(theta)

    def jacobian(self, theta: Tensor) -> Tensor:
        """Return ∂F/∂θ, shape (P, P), whose row i is the gradient of F_i; it is symmetric if F is a gradient."""
        return jacrev(self.function)(theta)


def true_field(
    network: Chain, X: Tensor, y: Tensor, *, loss: str = "log_loss", weight_decay: float = 0.0
) -> VectorField:
    """Return the vector field of backprop, F(θ) = ∂L/∂θ; parameters and errors are those of ``Objective``."""
    objective = Objective(network, X, y, loss=loss, weight_decay=weight_decay)
    return VectorField(objective, objective.gradient)


def synthetic_field(
    network: Chain,
    X: Tensor,
    y: Tensor,
    *,
    boundary: int,
    family: str | Features,
    loss: str = "log_loss",
    weight_decay: float = 0.0,
    ridge: float = 0.0,
) -> VectorField:
    """Return the vector field of a synthetic gradient whose module is always fitted to the true gradient.

    Let t_i = N ∂L/∂h_i be the per-example gradients of the loss without weight decay, Φ (N, m) the values of the
    features φ of the module's family, and J_i = ∂h_i/∂θ. Above the boundary the field is ∂L/∂θ, and below it

        F(θ) = 1/N Σ_i J_iᵀ s_i + weight_decay · θ,   s = Φ A,   A = argmin 1/N ‖Φ A − t‖² + ridge ‖A‖².

    This is the limit of a module that learns much faster than the network. As the loss of the module is convex in A,
    F(θ) = 0 exactly where both the network and its module are stationary. After Czarnecki et al. (2017): if Φ can
    express t, F equals the field of backprop at this θ, so that critical points are preserved; there may be others.

    Without ridge, s is the projection of t on the columns of Φ. It is discontinuous where the rank of Φ changes (for
    example where a unit becomes constant), and flows may end at such places. Smooth methods do not find them, and they
    differ from the limits of stationary points as the ridge goes to 0. A ridge of 1e-6 makes F continuous, and
    changes t by about as little if Φ is well conditioned.

    Parameters
    ----------
    network, X, y, loss, weight_decay
        As for ``Objective``.
    boundary : int
        Boundary k of the synthetic gradient.
    family : str or callable
        A key of ``FAMILIES``, or a function from h (N, size of h_k) and y (N, n_outputs) to features (N, m), each row
        of which depends only on its own example (see ``relu_features``). y is one-hot for classes.
    ridge : float, default 0
        Weight decay of the module, 0 or more. With 0, singular values of Φ below 1e-10 of the largest count as zero.

    Raises
    ------
    ValueError
        For the reasons given in ``Objective``; or if the boundary or family does not exist, or the ridge is negative.

    References
    ----------
    Czarnecki et al. (2017), Understanding synthetic gradients and decoupled neural interfaces.

    Examples
    --------
    >>> import torch
    >>> from repsim.learning import mlp
    >>> random = torch.Generator().manual_seed(0)
    >>> net = mlp(2, 3, depth=1, width=3, norm="none", activation="tanh", generator=random).double()
    >>> X, y = torch.randn(40, 2, generator=random, dtype=torch.float64), torch.arange(40) % 3
    >>> exact = synthetic_field(net, X, y, boundary=1, family="linear-labels", loss="mse")
    >>> theta = exact.objective.start
    >>> bool((exact(theta) - exact.objective.gradient(theta)).norm() < 1e-12)
    True
    """
    objective = Objective(network, X, y, loss=loss, weight_decay=weight_decay)
    check_range("ridge", ridge, 0.0)
    features = choose_features(family)
    network.check_boundary(boundary)
    targets, n = targets_of(objective.y, objective.output(objective.start)), len(X)

    def field(theta: Tensor) -> Tensor:
        h, pull_back = vjp(lambda theta: objective.activation(theta, boundary), theta)[:2]
        above, slope = grad(objective.loss_above, argnums=(0, 1))(theta, h, boundary)
        t = n * slope.flatten(1)  # (N, size of h_k)
        s = t if features is None else fit_features(features(h.flatten(1), targets), t, ridge)
        (below,) = pull_back(s.view_as(h) / n)
        return above + below + weight_decay * theta

    return VectorField(objective, field)
