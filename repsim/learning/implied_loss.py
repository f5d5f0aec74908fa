"""The loss that a synthetic gradient module believes in: its line integral, its curl, and the true loss beside it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsim.learning.checks import check_choice, check_integer, check_positive
from repsim.learning.estimators import Estimator, Observed, Signals, SyntheticGradient
from repsim.learning.losses import LOSSES
from repsim.learning.networks import Chain

__all__ = [
    "Agreement",
    "Field",
    "PathDependence",
    "QuadraticFit",
    "affine_implied_loss",
    "agreement",
    "curl",
    "implied_loss",
    "module_of",
    "path_dependence",
    "quadratic_fit",
    "true_loss_at",
]

Field = Callable[[Tensor, Tensor], Tensor]  # S: (N, d), labels -> (N, d), each example by itself

_HALVINGS = 50  # of a panel, before a line integral is given up: there are no narrower ones in float64
_OPEN_PANELS = 2**11  # of each line on average, before it is given up; modules have as many as kinks
_NUMBERS_AT_ONCE = 2**22  # in Jacobians, or activations at nodes: 32 MiB in float64
_ROUNDING = 16  # variation below this many units in the last place of the values is none


# The implied loss


def implied_loss(
    S: Field | Estimator,
    h: Tensor,
    y: Tensor,
    *,
    anchor: Tensor | float = 0.0,
    n_nodes: int = 8,
    n_panels: int = 1,
    tolerance: float | None = 1e-6,
) -> Tensor:
    """Integrate a synthetic gradient along the straight line from an anchor to each activation.

    L(h, y) = ∫₀¹ S(h₀ + s (h − h₀), y) · (h − h₀) ds, by Gauss-Legendre quadrature on panels. If S is the
    gradient of a loss, L is that loss less its value at the anchor: known up to a constant per label. If it is the
    gradient of none, L still has a value, but another path would have given another; see ``curl`` and
    ``path_dependence``.

    One panel is exact, up to rounding, for S polynomial in h of degree 2 n_nodes − 1 or less, so for every linear
    module. A relu module is piecewise linear along the line, and its kinks fall inside panels. So panels are halved
    wherever S is not what the polynomial through a panel's nodes and ends foretold at those of its halves, until what
    it missed amounts to less than the tolerance; there is an error if that does not come about. This estimates the
    error, mostly from above, and is no bound: what happens between two nodes and is over at both goes unseen.

    Parameters
    ----------
    S : callable (h, y) -> Tensor, shape (N, d), or Estimator
        A field that treats every example by itself; an estimator stands for ``module_of(estimator)``.
    h : float Tensor, shape (N, d)
        Where to evaluate; float64 for more than about six digits.
    y : Tensor, shape (N,)
        Classes, or regression targets (N, n_outputs).
    anchor : float or Tensor, default 0
        h₀, a number or of shape (d,) or (N, d). Values can be compared between points of one anchor.
    n_nodes : int, default 8
        In each panel, 1 or more.
    n_panels : int, default 1
        To begin with, 1 or more, of equal width.
    tolerance : float or None, default 1e-6
        Above 0; in units of the largest ‖S‖ ‖h − h₀‖ on the way of any example. None takes the panels as they are,
        unchecked.

    Returns
    -------
    Tensor, shape (N,)
        In the type of h, without a graph; 0 at the anchor.

    Raises
    ------
    ValueError
        If shapes or types do not fit, S is not finite on the way, or a setting is out of range.
    ArithmeticError
        If the tolerance is not reached.

    References
    ----------
    After Czarnecki et al. (2017), Understanding synthetic gradients and decoupled neural interfaces.

    Examples
    --------
    >>> h = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> implied_loss(lambda h, y: h, h, torch.tensor([0, 1]))
    tensor([2.5000, 4.5000])
    """
    h, start = _points(h, y, anchor)
    check_integer("n_nodes", n_nodes, 1)
    check_integer("n_panels", n_panels, 1)
    if tolerance is not None:
        check_positive("tolerance", tolerance)
    line = _Line(_field(S), start, h - start, y, n_nodes)
    return (line.composite(n_panels) if tolerance is None else line.refined(n_panels, tolerance)).to(h.dtype)


class _Line:
    """The straight lines from ``start`` to ``start + step``, (N, d) each, and the quadrature of S · step along them.

    A panel is a row, the example whose line it is part of, with where it begins on that line, from 0 to 1.
    """

    def __init__(self, S: Field, start: Tensor, step: Tensor, y: Tensor, n_nodes: int) -> None:
        self._S, self._start, self._step, self._y = S, start, step, y
        inner, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(n_nodes))
        nodes = F.pad(F.pad(inner, (1, 0), value=-1.0), (0, 1), value=1.0)  # ends weigh nothing, but show kinks by them
        halves = torch.stack([(nodes - 1) / 2, (nodes + 1) / 2])
        self._halve = _interpolation(nodes, halves).to(step.device)  # (2, nodes, nodes)
        self._nodes, self._weights = ((nodes + 1) / 2).to(step.device), F.pad(weights / 2, (1, 1)).to(step.device)

    def composite(self, n_panels: int) -> Tensor:
        """Return ∫ S · step ds, shape (N,), from equal panels."""
        rows, left = self._panels(n_panels)
        slopes, _ = self._slopes(rows, left, 1 / n_panels)
        return self._sum(rows, slopes @ self._weights / n_panels)

    def refined(self, n_panels: int, tolerance: float) -> Tensor:
        """Return ∫ S · step ds, shape (N,), from panels halved where a polynomial misses S."""
        rows, left = self._panels(n_panels)
        width = 1 / n_panels
        slopes, scale = self._slopes(rows, left, width)
        total, missed = torch.zeros_like(self._step[:, 0], dtype=torch.float64), math.inf
        for _ in range(_HALVINGS):
            width /= 2
            expected = (self._halve @ slopes.T).mT.flatten(0, 1)  # (2 × panels, nodes)
            rows, left = torch.cat([rows, rows]), torch.cat([left, left + width])
            slopes, size = self._slopes(rows, left, width)
            scale = max(scale, size)
            values = slopes @ self._weights * width
            misses = (slopes - expected).abs() @ self._weights * width
            is_open = misses > tolerance * scale * width
            missed = float(self._sum(rows[is_open], misses[is_open]).max())
            if missed <= tolerance * scale:
                return total + self._sum(rows, values)
            total += self._sum(rows[~is_open], values[~is_open])
            rows, left, slopes = rows[is_open], left[is_open], slopes[is_open]
            if len(rows) > _OPEN_PANELS * len(self._step):
                break
        raise ArithmeticError(
            f"The implied loss is uncertain by {missed / scale:.1e} of its scale with panels of width {width:.1e}; "
            f"expected {tolerance:.1e} or less. Pass a larger tolerance, more n_nodes, or float64 activations; a "
            "module that answers differently each time implies no loss."
        )

    def _panels(self, n_panels: int) -> tuple[Tensor, Tensor]:
        """Return rows and left ends of the panels that cut each line into equal parts."""
        n, device = len(self._step), self._step.device
        left = torch.arange(n_panels, dtype=torch.float64, device=device) / n_panels
        return torch.arange(n, device=device).repeat_interleave(n_panels), left.repeat(n)

    def _slopes(self, rows: Tensor, left: Tensor, width: float) -> tuple[Tensor, float]:
        """Return S · step at nodes and ends of panels, float64 (panels, nodes), and the largest ‖S‖ ‖step‖."""
        at_once = max(1, _NUMBERS_AT_ONCE // (len(self._nodes) * self._step.shape[1]))
        chunks = zip(rows.split(at_once), left.split(at_once), strict=True)
        slopes, sizes = zip(*(self._along(*chunk, width) for chunk in chunks), strict=True)
        return torch.cat(slopes), max(sizes)

    def _along(self, rows: Tensor, left: Tensor, width: float) -> tuple[Tensor, float]:
        s = (left[:, None] + width * self._nodes).to(self._step.dtype)
        step = self._step[rows, None]
        points = self._start[rows, None] + s[..., None] * step  # (panels, nodes, d)
        labels = self._y[rows].repeat_interleave(s.shape[1], dim=0)
        slopes = _evaluate(self._S, points.flatten(0, 1), labels).view_as(points).double()
        size = (slopes.norm(dim=-1) * step.double().norm(dim=-1)).max()
        return (slopes * step).sum(dim=-1), float(size)

    def _sum(self, rows: Tensor, values: Tensor) -> Tensor:
        """Return the sum of the values of the panels of each line, shape (N,)."""
        return values.new_zeros(len(self._step)).index_add_(0, rows, values)


def _interpolation(nodes: Tensor, points: Tensor) -> Tensor:
    """Return the matrix from values at nodes to those of the polynomial through them at points, (*points, nodes)."""
    degree = len(nodes) - 1
    through = np.linalg.inv(np.polynomial.legendre.legvander(nodes.numpy(), degree))
    return torch.from_numpy(np.polynomial.legendre.legvander(points.numpy(), degree) @ through)


def affine_implied_loss(A: Tensor, b: Tensor, h: Tensor, *, anchor: Tensor | float = 0.0) -> Tensor:
    """Return the implied loss of an affine S(h) = A h + b in closed form: a quadratic.

    L(h) = ½ (h − h₀)ᵀ A (h − h₀) + (A h₀ + b) · (h − h₀), in which only the symmetric part of A counts in the first
    term. A linear synthetic gradient module can believe in nothing else.

    Parameters
    ----------
    A : Tensor, shape (d, d)
    b : Tensor, shape (d,) or (N, d)
        One for all, or one for each example: that of its label.
    h : Tensor, shape (N, d)
    anchor : float or Tensor, default 0
        h₀, as in ``implied_loss``.

    Returns
    -------
    Tensor, shape (N,)

    Raises
    ------
    ValueError
        If shapes or types do not fit.

    Examples
    --------
    >>> affine_implied_loss(torch.eye(2), torch.tensor([0.0, 1.0]), torch.tensor([[1.0, 2.0]]))
    tensor([4.5000])
    """
    _check_activations(h)
    n, d = h.shape
    if A.shape != (d, d) or b.shape not in {(d,), (n, d)} or {A.dtype, b.dtype} != {h.dtype}:
        raise ValueError(
            f"A has shape {tuple(A.shape)} of {A.dtype} and b {tuple(b.shape)} of {b.dtype}; expected {(d, d)}, and "
            f"{(d,)} or {(n, d)}, of {h.dtype}, for h of shape {(n, d)}."
        )
    start = _anchor(anchor, h)
    step = h - start
    return ((step / 2 + start) @ A.T + b).mul(step).sum(dim=-1)


# Whether there is such a loss


def curl(S: Field | Estimator, h: Tensor, y: Tensor, *, chunk_size: int | None = None) -> Tensor:
    """Measure how far S is from being the gradient of anything: ‖J − Jᵀ‖ / ‖J + Jᵀ‖ for J = ∂S/∂h, Frobenius norms.

    A field is the gradient of a function around h only if J is symmetric there. Where J is 0 the field is constant,
    which is the gradient of a linear function: its curl is 0, not undefined. It says nothing of how well S fits the
    true gradient. At a kink of a relu module J is that of one side.

    Parameters
    ----------
    S : callable (h, y) -> Tensor, shape (N, d), or Estimator
        As in ``implied_loss``, and differentiable in h by autograd.
    h : float Tensor, shape (N, d)
    y : Tensor, shape (N,)
        Classes, or regression targets (N, n_outputs).
    chunk_size : int, optional
        Examples at a time; by default as many as have Jacobians of 4 million numbers in all. Memory grows with
        chunk_size × d × (d, or the widest hidden layer of S).

    Returns
    -------
    Tensor, shape (N,)
        0 (the gradient of a function there; always so for d = 1) to infinity (J antisymmetric: a pure rotation).

    Raises
    ------
    ValueError
        If shapes or types do not fit, the Jacobian is not finite, or S changes with h in a way that autograd does not
        see.

    Examples
    --------
    >>> h, y = torch.ones(1, 2), torch.tensor([0])
    >>> curl(lambda h, y: torch.stack([h[:, 0] - h[:, 1], h[:, 0] + h[:, 1]], dim=1), h, y)
    tensor([1.])
    """
    h, _ = _points(h, y)
    if chunk_size is None:
        chunk_size = max(1, _NUMBERS_AT_ONCE // h.shape[1] ** 2)
    check_integer("chunk_size", chunk_size, 1)
    S = _field(S)
    _evaluate(S, h, y)  # for its checks
    _refuse_hidden_slopes(S, h, y)
    chunks = zip(h.split(chunk_size), y.split(chunk_size), strict=True)
    return torch.cat([_asymmetry(_jacobians(S, *chunk)) for chunk in chunks])


def _jacobians(S: Field, h: Tensor, y: Tensor) -> Tensor:
    """Return ∂S_i/∂h_j of each example, (N, d, d): as examples do not mix, that of the sum over them holds all."""
    leaf = h.clone().requires_grad_()
    with torch.enable_grad():
        total = (S(leaf, y) + 0 * leaf).sum(dim=0)  # a constant S has slopes too: 0
    slopes = [torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in total.unbind()]
    J = torch.stack(slopes, dim=1).detach()
    if not J.isfinite().all():
        raise ValueError(
            "The Jacobian of S is not finite at some h; expected a slope everywhere. Leave those points out."
        )
    return J


def _asymmetry(J: Tensor) -> Tensor:
    wide = J.double()  # in which squares of small slopes are not 0
    odd, even = ((wide + sign * wide.mT).flatten(1).norm(dim=1) for sign in (-1, 1))
    return torch.where(odd == 0, 0.0, odd / even).to(J.dtype)


def _refuse_hidden_slopes(S: Field, h: Tensor, y: Tensor) -> None:
    """Raise ValueError if S depends on h but its graph does not, so that the Jacobian would be 0 for no reason."""
    with torch.enable_grad():
        leaf = h[:1].clone().requires_grad_()
        out = S(leaf, y[:1])
        if out.requires_grad and torch.autograd.grad(out.sum(), leaf, allow_unused=True)[0] is not None:
            return
    if not torch.equal(S(2 * h + 1, y), S(h, y)):
        raise ValueError(
            "S changes with h, but autograd sees no dependence (it detaches h or runs under no_grad), so that its "
            "Jacobian is not known. Compute S(h, y) with its graph to h."
        )


@dataclass(frozen=True)
class PathDependence:
    """The implied losses along two paths, shape (N,) each.

    Attributes
    ----------
    straight : Tensor
        Along the straight line: ``implied_loss``.
    stepwise : Tensor
        Along the axes, one after the other.
    """

    straight: Tensor
    stepwise: Tensor

    @property
    def difference(self) -> Tensor:
        """``stepwise`` − ``straight``, shape (N,): the circulation of S around the loop that the paths enclose."""
        return self.stepwise - self.straight

    @property
    def relative(self) -> float:
        """‖difference‖ / ‖straight‖ over all examples, 0 to infinity; 0 where the paths agree."""
        difference = float(self.difference.norm())
        straight = float(self.straight.norm())
        return 0.0 if difference == 0 else difference / straight if straight > 0 else math.inf


def path_dependence(
    S: Field | Estimator,
    h: Tensor,
    y: Tensor,
    *,
    anchor: Tensor | float = 0.0,
    n_nodes: int = 8,
    n_panels: int = 1,
    tolerance: float | None = 1e-6,
) -> PathDependence:
    """Integrate S along two paths from the anchor to each activation: what the curl means for the loss.

    One path is the straight line; the other changes h₁ first, then h₂, and so on, d straight legs. For the gradient of
    a function both give the same. They differ, by Stokes' theorem, by the curl in the surface between them, so where
    it cancels they can agree without S being a gradient.

    Parameters
    ----------
    S, h, y, anchor, n_nodes, n_panels, tolerance
        As in ``implied_loss``, for the line and for each leg. The legs cost d times as much as the line.

    Returns
    -------
    PathDependence

    Raises
    ------
    ValueError, ArithmeticError
        As ``implied_loss`` does.

    Examples
    --------
    >>> rotation = lambda h, y: torch.stack([-h[:, 1], h[:, 0]], dim=1)
    >>> path_dependence(rotation, torch.tensor([[2.0, 3.0]]), torch.tensor([0])).difference
    tensor([6.])
    """
    h, corner = _points(h, y, anchor)
    S = _field(S)
    along = partial(implied_loss, S, y=y, n_nodes=n_nodes, n_panels=n_panels, tolerance=tolerance)
    straight = along(h, anchor=corner)
    stepwise = torch.zeros_like(straight)
    for axis in range(h.shape[1]):
        turn = corner.clone()
        turn[:, axis] = h[:, axis]
        stepwise += along(turn, anchor=corner)
        corner = turn
    return PathDependence(straight, stepwise)


# What shape it has


@dataclass(frozen=True)
class QuadraticFit:
    """A quadratic c + b · h + ½ hᵀ A h fitted to values at points h.

    Attributes
    ----------
    constant : Tensor, shape ()
        c.
    linear : Tensor, shape (d,)
        b.
    quadratic : Tensor, shape (d, d)
        A, symmetric.
    relative_residual : float
        The norm of what is left over that of the values about their mean, 0 to 1; 0 for constant values.
    rank : int
        Of the fit, at most 1 + d + d (d + 1) / 2. If less, the points (units that are off, or points on a line) leave
        some coefficients open; the smallest solution, for standardised h, was taken.
    """

    constant: Tensor
    linear: Tensor
    quadratic: Tensor
    relative_residual: float
    rank: int

    def __call__(self, h: Tensor) -> Tensor:
        """Return the quadratic at points h (N, d), shape (N,)."""
        return self.constant + h @ self.linear + ((h @ self.quadratic) * h).sum(dim=-1) / 2


def quadratic_fit(values: Tensor, h: Tensor) -> QuadraticFit:
    """Fit a full quadratic to a loss surface by least squares, and say how much of the surface is none.

    A linear synthetic gradient implies a quadratic for each label, so that nothing is left over but rounding.

    Parameters
    ----------
    values : Tensor, shape (N,)
        At the points, of one label.
    h : Tensor, shape (N, d)
        More points than coefficients, 1 + d + d (d + 1) / 2.

    Returns
    -------
    QuadraticFit
        Computed in float64, its tensors in the type of h.

    Raises
    ------
    ValueError
        If shapes or types do not fit, values are not finite, or there are too few points.

    Examples
    --------
    >>> h = torch.linspace(-1, 1, 9)[:, None]
    >>> fit = quadratic_fit(3 * h[:, 0] ** 2 + 1, h)
    >>> round(float(fit.quadratic), 4), fit.rank, fit.relative_residual < 1e-6
    (6.0, 3, True)
    """
    _check_activations(h)
    _check_values(values, len(h), "values")
    mean, scale = h.double().mean(dim=0), h.double().std(dim=0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    features = _monomials((h.double() - mean) / scale)
    if len(h) <= features.shape[1]:
        raise ValueError(
            f"There are {len(h)} points for {features.shape[1]} coefficients of a quadratic in {h.shape[1]} units, "
            f"which would always fit; expected more. Pass {features.shape[1] + 1} points or more."
        )
    target = values.double()[:, None]
    solved = torch.linalg.lstsq(features.cpu(), target.cpu(), driver="gelsd")
    solution = solved.solution.to(h.device)
    left, spread = (target - features @ solution).norm(), _about_means(values).norm()
    c, b, A = (each.to(h.dtype) for each in _unstandardised(solution[:, 0], mean, scale))
    return QuadraticFit(c, b, A, float(left / spread) if spread > 0 else 0.0, int(solved.rank))


def _monomials(z: Tensor) -> Tensor:
    """Return 1, z_i and z_i z_j for i ≤ j, shape (N, 1 + d + d (d + 1) / 2)."""
    i, j = torch.triu_indices(z.shape[1], z.shape[1], device=z.device)
    return torch.cat([torch.ones_like(z[:, :1]), z, z[:, i] * z[:, j]], dim=1)


def _unstandardised(solution: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return c, b and A in terms of h, given coefficients of the monomials of z = (h − mean) / scale."""
    d = len(mean)
    i, j = torch.triu_indices(d, d, device=mean.device)
    upper = solution.new_zeros(d, d)
    upper[i, j] = solution[1 + d :]
    A = (upper + upper.T) / torch.outer(scale, scale)
    slope = solution[1 : 1 + d] / scale
    return solution[0] - slope @ mean + mean @ A @ mean / 2, slope - A @ mean, A


# Beside the true loss


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
    if k not in network.boundaries:
        raise ValueError(f"There is no boundary {k}; this network has boundaries 1 to {len(network.boundaries)}.")
    check_choice("loss", loss, LOSSES)
    h, _ = _points(h.flatten(1) if h.ndim > 1 else h, y)
    above = nn.Sequential(*network.segments[k:])
    rows = _rows(h, network.shapes[k - 1], above, f"boundary {k}")
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
    _check_values(true, len(y), "true")
    _check_values(implied, len(y), "implied")
    labels = y.unique(dim=0, return_inverse=True)[1]
    if int(labels.max()) + 1 == len(y):
        raise ValueError(
            f"Each of the {len(y)} labels has one point, of which nothing is left once its constant is removed; "
            "expected two or more points of a label. Evaluate both losses at several activations with the same y."
        )
    a, b = (_about_means(values, labels) for values in (implied, true))
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


def _about_means(values: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return values less the mean of their label, in float64; 0 throughout if what is left is rounding."""
    rounding, values = _ROUNDING * torch.finfo(values.dtype).eps, values.double()
    labels = torch.zeros_like(values, dtype=torch.int64) if labels is None else labels
    sums = values.new_zeros(int(labels.max()) + 1).index_add_(0, labels, values)
    left = values - (sums / labels.bincount())[labels]
    return left if left.norm() > rounding * values.norm() else torch.zeros_like(left)


# Modules as fields


def module_of(estimator: Estimator) -> Field:
    """Return the field S of an estimator: (h, y) -> g_k, for h (N, d), with its graph to h where the rule has one.

    For synthetic gradients of every kind (also SG + prop, BP(λ) and one that is only observed) S is the module, not
    what the rule makes of it. Maps are flattened: d is channels × height × width.

    Parameters
    ----------
    estimator : Estimator
        Of one boundary; a function of activation and label alone.

    Returns
    -------
    callable
        It raises ValueError for h of another width or type than the estimator's.

    Raises
    ------
    ValueError
        If the estimator needs other signals, draws its gradient, or is a stack.

    Examples
    --------
    >>> from repsim.learning import Site
    >>> S = module_of(SyntheticGradient(Site((3,), 2)))
    >>> S(torch.ones(1, 3), torch.tensor([1])).shape
    torch.Size([1, 3])
    """
    if isinstance(estimator, Observed):
        estimator = estimator.watched
    choose = _rule(estimator)
    where = f"{type(estimator).__name__} at boundary {estimator.site.boundary}"

    def S(h: Tensor, y: Tensor) -> Tensor:
        rows = _rows(h, estimator.site.shape, estimator, where)
        return choose(Signals(rows, y)).flatten(1)

    return S


def _rule(estimator: Estimator) -> Callable[[Signals], Tensor]:
    if isinstance(estimator, SyntheticGradient):
        if not isinstance(estimator.layers[0], nn.Linear | nn.Conv2d):
            raise ValueError(
                f"This {type(estimator).__name__} is a stack of several; expected that of one boundary and seed. Build "
                "the learner with together=False, or load unstack(estimator.state_dict(), i) into a new estimator."
            )
        return estimator.traced  # gradient() of a linear module keeps no graph to h
    others = estimator.needs - {"activation", "labels"}
    if others or not estimator.needs:
        reads = f"from {', '.join(sorted(others))}" if others else "at random"
        raise ValueError(
            f"{type(estimator).__name__} chooses its gradient {reads}, which implies no loss of h and y; expected a "
            "rule that reads activation and labels alone. Pass one such as SyntheticGradient."
        )
    return estimator.gradient


def _field(S: Field | Estimator) -> Field:
    return module_of(S) if isinstance(S, Estimator) else S


def _evaluate(S: Field, h: Tensor, y: Tensor) -> Tensor:
    """Return S(h, y) without its graph, once it is what a field must be."""
    slopes = S(h, y).detach()
    if slopes.shape != h.shape or slopes.dtype != h.dtype:
        raise ValueError(
            f"S returned shape {tuple(slopes.shape)} of {slopes.dtype} for h of shape {tuple(h.shape)} of {h.dtype}; "
            "expected the shape and type of h. Return one gradient for each example."
        )
    if not slopes.isfinite().all():
        raise ValueError(
            "S is not finite at some points between the anchor and h; expected a finite gradient everywhere. Has the "
            "module diverged, or is the anchor outside its domain?"
        )
    return slopes


# Checks


def _points(h: Tensor, y: Tensor, anchor: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Return h and the anchor of each example, (N, d) both and without graphs, once they fit."""
    _check_activations(h)
    if y.ndim not in (1, 2) or len(y) != len(h):
        raise ValueError(
            f"h has {len(h)} examples and y has shape {tuple(y.shape)}; expected classes ({len(h)},) or regression "
            f"targets ({len(h)}, n_outputs). Repeat y for each point at which it is asked."
        )
    return h.detach(), _anchor(anchor, h)


def _check_activations(h: Tensor) -> None:
    if h.ndim != 2 or not h.numel() or not h.is_floating_point():
        raise ValueError(
            f"h has shape {tuple(h.shape)} of {h.dtype}; expected floats (N, d), neither of them 0. Flatten maps with "
            "h.flatten(1)."
        )


def _anchor(anchor: Tensor | float, h: Tensor) -> Tensor:
    start = torch.as_tensor(anchor, dtype=h.dtype, device=h.device).detach()
    if start.shape not in {(), h.shape[1:], h.shape}:
        n, d = h.shape
        raise ValueError(
            f"anchor has shape {tuple(start.shape)}; expected a number, {(d,)} or {(n, d)}, for h of shape {(n, d)}."
        )
    return start.expand_as(h)


def _check_values(values: Tensor, n: int, name: str) -> None:
    if values.shape != (n,) or not values.isfinite().all():
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}; expected {(n,)}, all finite: one value for each of the points."
        )


def _rows(h: Tensor, shape: tuple[int, ...], module: nn.Module, where: str) -> Tensor:
    """Return h (N, d) as examples of a shape, once width and type are what a module takes."""
    if h.shape[1] != math.prod(shape):
        raise ValueError(f"h has {h.shape[1]} units; {where} takes {math.prod(shape)}, examples of shape {shape}.")
    dtypes = {tensor.dtype for tensor in module.state_dict().values() if tensor.is_floating_point()}
    if dtypes and dtypes != {h.dtype}:
        raise ValueError(
            f"h holds {h.dtype} and {where} {', '.join(sorted(map(str, dtypes)))}; expected one type. Convert h, or a "
            "copy of the module: copy.deepcopy(module).double()."
        )
    return h.unflatten(1, shape)
