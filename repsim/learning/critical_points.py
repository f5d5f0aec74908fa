"""Critical points: where a small network comes to rest with, and without, a synthetic gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, jacrev, vjp

from repsim.learning.checks import check_choice, check_integer, check_positive, check_range
from repsim.learning.losses import LOSSES, targets_of
from repsim.learning.networks import Chain
from repsim.learning.step import count_examples

__all__ = [
    "FAMILIES",
    "Features",
    "Objective",
    "StationaryPoint",
    "VectorField",
    "find_stationary",
    "function_distance",
    "least_squares_loss",
    "parameter_distance",
    "relu_features",
    "synthetic_field",
    "true_field",
]

Features = Callable[[Tensor, Tensor], Tensor]

RANK_TOLERANCE = 1e-10  # singular values of the features below this share of the largest count as zero
LONGEST_STEP = 1e8  # of the flow's time: lines of equal field, as symmetries make them, leave J without an inverse
NEWTON_STEP = 1e12  # of the flow's time: as good as without end
ARRIVED = 1e-3  # a point is reached if Newton's method would move it by less than this share of 1 + ‖θ‖
ZERO = 1e-7  # eigenvalues this close to 0 count as 0


class Objective:
    """L(θ) = mean over examples of the loss + (weight_decay / 2) ‖θ‖², as a function of one flat vector θ.

    θ holds the parameters of the network in the order of ``network.parameters()``. The network itself is only read.

    Parameters
    ----------
    network : Chain
        Small (every Jacobian is dense), of float64, without buffers.
    X : Tensor, shape (N, n_features)
        float64.
    y : Tensor, shape (N,) or (N, n_outputs)
        Classes (int64), or regression targets (float64).
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    weight_decay : float, default 0
        0 or more; it acts on biases too.

    Attributes
    ----------
    network, X, y, weight_decay
        As given.
    start : Tensor, shape (P,)
        The network's own parameters.

    Raises
    ------
    ValueError
        If the loss is unknown, the weight decay negative, the network holds buffers or batch norm, anything is not
        float64, or X, y and the network do not fit together.
    """

    def __init__(
        self, network: Chain, X: Tensor, y: Tensor, *, loss: str = "log_loss", weight_decay: float = 0.0
    ) -> None:
        check_choice("loss", loss, LOSSES)
        check_range("weight_decay", weight_decay, 0.0)
        _check_network(network)
        _check_examples(X, y)
        self.network, self.X, self.y = network, X.detach(), y.detach()
        self.weight_decay, self._loss = weight_decay, LOSSES[loss]
        self.start = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
        self.loss(self.start)  # raises where y does not fit the output

    def activation(self, theta: Tensor, k: int) -> Tensor:
        """Return h_k, shape (N, *shape_k), for parameters theta (P,)."""
        return self._climb(theta, self.network.input(self.X), 0, k)

    def output(self, theta: Tensor) -> Tensor:
        """Return the network's outputs, shape (N, n_outputs), for parameters theta (P,)."""
        return self.output_above(theta, self.network.input(self.X), 0)

    def output_above(self, theta: Tensor, h: Tensor, k: int) -> Tensor:
        """Return the outputs (N, n_outputs) that the segments above boundary k make of h_k."""
        return self._climb(theta, h, k, len(self.network.segments))

    def loss_above(self, theta: Tensor, h: Tensor, k: int) -> Tensor:
        """Return the mean loss, without weight decay, as a function of theta (P,) above boundary k and of h_k."""
        return self._loss(self.output_above(theta, h, k), self.y).mean()

    def loss(self, theta: Tensor) -> Tensor:
        """Return L(θ), a scalar, for parameters theta (P,)."""
        data = self.loss_above(theta, self.network.input(self.X), 0)
        return data + self.weight_decay / 2 * theta.square().sum()

    def gradient(self, theta: Tensor) -> Tensor:
        """Return ∂L/∂θ, shape (P,)."""
        return grad(self.loss)(theta)

    def hessian(self, theta: Tensor) -> Tensor:
        """Return ∂²L/∂θ², shape (P, P)."""
        return jacrev(self.gradient)(theta)  # forward mode compiles scripts, and warns that these are deprecated

    def _climb(self, theta: Tensor, h: Tensor, below: int, above: int) -> Tensor:
        """Return h_above, given h_below."""
        start = 0
        for k, segment in enumerate(self.network.segments, start=1):
            parameters = {}
            for name, parameter in segment.named_parameters():
                parameters[name] = theta[start : start + parameter.numel()].view(parameter.shape)
                start += parameter.numel()
            if below < k <= above:
                h = functional_call(segment, parameters, (h,))
        return h


@dataclass(frozen=True)
class VectorField:
    """F(θ), a vector that learning follows downhill: dθ/dt = −F(θ).

    Attributes
    ----------
    objective : Objective
        The true loss. F need not be its gradient, nor that of any other function.
    function : callable
        From theta (P,) to F(θ), shape (P,); differentiable by ``torch.func``.
    """

    objective: Objective
    function: Callable[[Tensor], Tensor]

    def __call__(self, theta: Tensor) -> Tensor:
        """Return F(θ), shape (P,), for parameters theta (P,)."""
        return self.function(theta)

    def jacobian(self, theta: Tensor) -> Tensor:
        """Return ∂F/∂θ, shape (P, P); row i holds the slopes of F_i. It is symmetric only if F is a gradient."""
        return jacrev(self.function)(theta)


def true_field(
    network: Chain, X: Tensor, y: Tensor, *, loss: str = "log_loss", weight_decay: float = 0.0
) -> VectorField:
    """Return backprop's vector field, F(θ) = ∂L/∂θ; parameters and errors are those of ``Objective``."""
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
    """Return the vector field of one synthetic gradient that is always fitted to the true one.

    With t_i = N ∂L/∂h_i (of the loss without weight decay, per example), φ the features of the module's family, Φ
    their values (N, m) and J_i = ∂h_i/∂θ, the segments above the boundary get ∂L/∂θ and those below it

        F(θ) = 1/N Σ_i J_iᵀ s_i + weight_decay · θ,   s = Φ A,   A = argmin 1/N ‖Φ A − t‖² + ridge ‖A‖².

    It is the limit of a module that learns much faster than the network. As the module's loss is convex in A, F(θ) = 0
    exactly where the network and its module are both at rest. After Czarnecki et al. (2017): if Φ can express t, F is
    backprop's field at this θ, so that critical points remain; there may be others besides.

    Without ridge, s is the projection of t on the columns of Φ. It jumps where the rank of Φ changes (a unit becomes
    constant, say), and flows may end at just such places; no smooth method finds them, and the points to which
    modules with less and less ridge lead are others. A ridge of 1e-6 makes F continuous, and changes t by about as
    little where Φ is well conditioned.

    Parameters
    ----------
    network, X, y, loss, weight_decay
        As for ``Objective``.
    boundary : int
        k: the synthetic gradient stands at h_k.
    family : str or callable
        A key of ``FAMILIES``, or a function from h (N, size of h_k) and y (N, n_outputs) to features (N, m), whose
        rows depend each on its own example (``relu_features``). y is one-hot for classes.
    ridge : float, default 0
        Weight decay of the module, 0 or more. With 0, singular values of Φ below 1e-10 of the largest count as zero.

    Returns
    -------
    VectorField

    Raises
    ------
    ValueError
        As ``Objective``; or if there is no such boundary or family, or the ridge is negative.

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
    features = _choose_features(family)
    if boundary not in network.boundaries:
        raise ValueError(
            f"There is no boundary {boundary}; this network has boundaries 1 to {len(network.boundaries)}."
        )
    targets, n = targets_of(objective.y, objective.output(objective.start)), len(X)

    def field(theta: Tensor) -> Tensor:
        h, pull_back = vjp(lambda theta: objective.activation(theta, boundary), theta)[:2]
        above, slope = grad(objective.loss_above, argnums=(0, 1))(theta, h, boundary)
        t = n * slope.flatten(1)  # (N, size of h_k)
        s = t if features is None else _fit(features(h.flatten(1), targets), t, ridge)
        (below,) = pull_back(s.view_as(h) / n)
        return above + below + weight_decay * theta

    return VectorField(objective, field)


def relu_features(n_inputs: int, n_units: int, *, generator: Generator) -> Features:
    """Return φ(h, y) = [h, y, 1, relu(W [h, y, 1])] with W (n_units, n_inputs + 1) drawn from N(0, 1) and then fixed.

    Families of one seed are nested: the first units are the same, however many there are, and "linear-labels" is what
    they are without any. Where Φ has rank N the family represents every t; for that m ≥ N is needed, yet not enough.

    Parameters
    ----------
    n_inputs : int
        Units of h_k plus outputs of the network.
    n_units : int
        1 or more.
    generator : Generator
        Source of W.

    Raises
    ------
    ValueError
        If a number is not positive; when called, if h and y do not have ``n_inputs`` columns.
    """
    check_integer("n_inputs", n_inputs, 1)
    check_integer("n_units", n_units, 1)
    rows = [torch.randn(n_inputs + 1, generator=generator, dtype=torch.float64) for _ in range(n_units)]
    weight = torch.stack(rows)  # drawn one by one, so that the first are the same in any number of them

    def features(h: Tensor, y: Tensor) -> Tensor:
        inputs = _with_labels(h, y)
        if inputs.shape[1] != n_inputs + 1:
            raise ValueError(
                f"h has {h.shape[1]} columns and y {y.shape[1]}; these features were drawn for {n_inputs} in all. "
                "Set n_inputs to the units at the boundary plus the outputs of the network."
            )
        return torch.cat([inputs, torch.relu(inputs @ weight.T)], dim=1)

    return features


@dataclass(frozen=True, eq=False, kw_only=True)
class StationaryPoint:
    """Where a field's flow came to rest, or was given up.

    Attributes
    ----------
    converged : bool
        Whether this is a stationary point. If not, all else describes the last θ of a flow still under way: it
        may run off to infinity (log loss of separable classes without weight decay), or slide along a place where the
        field jumps (see ``synthetic_field``), or want more iterations.
    theta : Tensor, shape (P,)
    field_norm : float
        ‖F(θ)‖.
    distance_left : float
        ‖(J + 1e-12 I)⁻¹ F‖: how far Newton's method would move θ, an estimate of the error of θ.
    true_gradient_norm : float
        ‖∂L/∂θ‖. Above 0 at a spurious point: one at which only the synthetic gradient rests.
    loss : float
        L(θ), with weight decay.
    eigenvalues : Tensor, shape (P,), complex
        Of J = ∂F/∂θ, by ascending real part.
    hessian_eigenvalues : Tensor, shape (P,)
        Of ∂²L/∂θ², ascending.
    n_iterations : int
        Steps of the flow that were tried.
    """

    converged: bool
    theta: Tensor
    field_norm: float
    distance_left: float
    true_gradient_norm: float
    loss: float
    eigenvalues: Tensor
    hessian_eigenvalues: Tensor
    n_iterations: int

    def is_stable(self, tol: float = ZERO) -> bool:
        """Return whether no eigenvalue of J has a real part below −tol, so that −F leads away in no direction."""
        return self.count_unstable(tol) == 0

    def count_unstable(self, tol: float = ZERO) -> int:
        """Return how many eigenvalues of J have real parts below −tol."""
        return int((self.eigenvalues.real < -tol).sum())

    def count_negative(self, tol: float = ZERO) -> int:
        """Return how many eigenvalues of the true loss's Hessian are below −tol."""
        return int((self.hessian_eigenvalues < -tol).sum())


def find_stationary(
    field: VectorField,
    start: Tensor | None = None,
    *,
    tolerance: float = 1e-10,
    curvature: float = 0.5,
    max_iterations: int = 1000,
) -> StationaryPoint:
    """Follow −F from a start until it vanishes.

    The flow dθ/dt = −F(θ) is followed by implicit Euler steps of one Newton iteration each,
    (I / Δt + J) δ = −F, whose Δt grows as the field becomes linear, so that the last steps are Newton's own
    (pseudo-transient continuation). Δt stays below half the time in which the fastest unstable direction grows
    e-fold: from saddles the steps lead away, as the flow does; a start at a saddle stays there. Lines of stationary
    points, as symmetries make them, do no harm.

    Where several points lie close together, as the kinks of random relu features make them, long steps may end at
    another than the flow itself; that is stationary all the same. A smaller ``curvature`` keeps closer to the flow.

    Parameters
    ----------
    field : VectorField
    start : Tensor, shape (P,), optional
        float64; the network's own parameters by default.
    tolerance : float, default 1e-10
        Largest ‖F‖ of a stationary point.
    curvature : float, default 0.5
        Largest share of ‖F‖ by which the field's linear model may be wrong within one step, above 0 and at most 1.
    max_iterations : int, default 1000
        Each takes one Jacobian or less.

    Returns
    -------
    StationaryPoint
        See ``converged``: it is not raised as an error if there is nothing to find.

    Raises
    ------
    ValueError
        If the start is not a finite float64 vector of P numbers, or a setting is not positive.

    References
    ----------
    Kelley and Keyes (1998), Convergence analysis of pseudo-transient continuation.
    """
    check_positive("tolerance", tolerance)
    check_positive("curvature", curvature)
    check_range("curvature", curvature, 0.0, 1.0)
    check_integer("max_iterations", max_iterations, 1)
    theta = field.objective.start if start is None else start
    _check_start(theta, len(field.objective.start))
    theta, n_iterations = _follow(field, theta.detach().clone(), tolerance, curvature, max_iterations)
    theta = _polish(field, theta)
    F, J, objective = field(theta), field.jacobian(theta), field.objective
    field_norm, distance_left = float(F.norm()), float(_implicit_step(F, J, NEWTON_STEP).norm())
    eigenvalues = torch.linalg.eigvals(J)
    return StationaryPoint(
        converged=field_norm <= tolerance and distance_left <= ARRIVED * (1 + float(theta.norm())),
        theta=theta,
        field_norm=field_norm,
        distance_left=distance_left,
        true_gradient_norm=float(objective.gradient(theta).norm()),
        loss=float(objective.loss(theta)),
        eigenvalues=eigenvalues[eigenvalues.real.argsort()],
        hessian_eigenvalues=torch.linalg.eigvalsh(objective.hessian(theta)),
        n_iterations=n_iterations,
    )


def function_distance(objective: Objective, first: Tensor, second: Tensor) -> float:
    """Return the root mean square, over examples and outputs, of the difference of the outputs at two points (P,).

    0 or more. Whatever leaves the outputs alone, such as a permutation of hidden units, leaves this distance alone.
    """
    return float((objective.output(first) - objective.output(second)).square().mean().sqrt())


def parameter_distance(first: Tensor, second: Tensor) -> float:
    """Return ‖first − second‖ of two points (P,), 0 or more; permuted units are far apart, though alike in function."""
    return float((first - second).norm())


def least_squares_loss(X: Tensor, Y: Tensor, *, rank: int | None = None) -> float:
    """Return the least mean squared error of any (deep) linear network: of Y ≈ X Wᵀ + b with W of a rank or less.

    With Ŷ the least squares fit of the centred Y on the centred X, it is
    1/N (‖Y − Ŷ‖² + Σ_{j > rank} σ_j(Ŷ)²), summed over outputs like the loss "mse".

    Parameters
    ----------
    X : Tensor, shape (N, n_features)
    Y : Tensor, shape (N, n_outputs)
        Regression targets, or one-hot classes.
    rank : int, optional
        The narrowest width of the network, 0 or more; no limit by default.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If X and Y are not matrices with as many rows, or the rank is not a whole number of 0 or more.

    References
    ----------
    Baldi and Hornik (1989), Neural networks and principal component analysis.

    Examples
    --------
    >>> import torch
    >>> X = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> [round(least_squares_loss(X, X * torch.tensor([3.0, 2.0]), rank=r), 9) for r in (0, 1, 2)]
    [13.0, 4.0, 0.0]
    """
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y):
        raise ValueError(
            f"X has shape {tuple(X.shape)} and Y {tuple(Y.shape)}; expected (N, n_features) and (N, n_outputs). "
            "One-hot encode classes."
        )
    if rank is not None:
        check_integer("rank", rank, 0)
    X, Y = X.double() - X.double().mean(dim=0), Y.double() - Y.double().mean(dim=0)
    fitted = X @ (torch.linalg.pinv(X) @ Y)
    lost = torch.linalg.svdvals(fitted)[len(Y) if rank is None else rank :]
    return float((Y - fitted).square().sum() + lost.square().sum()) / len(Y)


def _follow(
    field: VectorField, theta: Tensor, tolerance: float, curvature: float, max_iterations: int
) -> tuple[Tensor, int]:
    """Return where the flow led, and how many steps were tried."""
    F, J, time = field(theta), field.jacobian(theta), 1.0
    longest = _longest_step(J)
    for n_tried in range(max_iterations):
        if F.norm() <= tolerance:
            return theta, n_tried
        time = min(time, longest)
        step = _implicit_step(F, J, time)
        F_there = field(theta + step)
        error = float((F_there - F - J @ step).norm() / F.norm())
        time *= _stretch(error / curvature)
        if error <= curvature:  # never of NaN
            theta, F = theta + step, F_there
            J = field.jacobian(theta)
            longest = _longest_step(J)
    return theta, max_iterations


def _implicit_step(F: Tensor, J: Tensor, time: float) -> Tensor:
    return -torch.linalg.solve(torch.eye(len(F), dtype=F.dtype) / time + J, F)


def _longest_step(J: Tensor) -> float:
    """Return half the time in which the fastest unstable direction grows e-fold, within bounds."""
    growth = -float(torch.linalg.eigvals(J).real.min())
    return min(LONGEST_STEP, 0.5 / growth) if growth > 0 else LONGEST_STEP


def _stretch(error: float) -> float:
    """Return by what to multiply the time step, given its error in units of the largest: it grows as its square."""
    if not math.isfinite(error):
        return 0.2
    return min(max(math.sqrt(0.5 / max(error, 1e-30)), 0.2), 10.0)


def _polish(field: VectorField, theta: Tensor) -> Tensor:
    """Return the parameters after one step of Newton's method, if the field is less there."""
    F = field(theta)
    there = theta + _implicit_step(F, field.jacobian(theta), NEWTON_STEP)
    return there if field(there).norm() < F.norm() else theta


def _fit(features: Tensor, t: Tensor, ridge: float) -> Tensor:
    """Return s = Φ A, the (ridge) least squares fit of t (N, d) on features Φ (N, m)."""
    if ridge == 0:
        return features @ (torch.linalg.pinv(features, rtol=RANK_TOLERANCE) @ t)
    gram = features @ features.T / len(features)  # (N, N)
    identity = torch.eye(len(features), dtype=features.dtype)
    return t - ridge * torch.linalg.solve(gram + ridge * identity, t)  # less rounding than K (K + ridge I)⁻¹ t


def _with_labels(h: Tensor, y: Tensor) -> Tensor:
    return torch.cat([h, y, _ones(h)], dim=1)


def _ones(h: Tensor) -> Tensor:
    return torch.ones_like(h[:, :1])


def _choose_features(family: str | Features) -> Features | None:
    if not isinstance(family, str):
        return family
    check_choice("family", family, FAMILIES)
    return FAMILIES[family]


def _check_network(network: Chain) -> None:
    buffers = [name for name, _ in network.named_buffers()]
    norms = [name for name, part in network.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if held := buffers + norms:
        raise ValueError(
            f"The network holds '{held[0]}', which is not a parameter or ties the examples of a batch together; "
            "critical points need outputs that are functions of parameters and one example. Use norm 'none' or 'layer'."
        )
    for name, parameter in network.named_parameters():
        if parameter.dtype != torch.float64:
            raise ValueError(f"{name} is {parameter.dtype}; expected torch.float64. Call network.double().")


def _check_examples(X: Tensor, y: Tensor) -> None:
    for name, values in (("X", X), ("y", y)):
        if (name == "X" or values.is_floating_point()) and values.dtype != torch.float64:
            raise ValueError(f"{name} is {values.dtype}; expected torch.float64. Call {name}.double().")
    if len(X) != count_examples(y):
        raise ValueError(f"X has {len(X)} examples and y has {count_examples(y)}; give each row of X its label.")


def _check_start(theta: Tensor, n_parameters: int) -> None:
    if theta.shape != (n_parameters,) or theta.dtype != torch.float64 or not theta.isfinite().all():
        raise ValueError(
            f"start is a {theta.dtype} tensor of shape {tuple(theta.shape)} with {int((~theta.isfinite()).sum())} "
            f"values that are not finite; expected ({n_parameters},) finite torch.float64, one for each parameter."
        )


FAMILIES: dict[str, Features | None] = {
    "exact": None,  # s = t
    "linear-labels": _with_labels,
    "linear": lambda h, y: torch.cat([h, _ones(h)], dim=1),
    "constant": lambda h, y: _ones(h),
}
