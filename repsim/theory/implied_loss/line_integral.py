"""Implied loss of a synthetic gradient module: line integrals, and their dependence on the path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from repsim.learning.checks import check_integer, check_positive
from repsim.learning.estimators import Estimator
from repsim.theory.implied_loss.module_field import (
    Field,
    anchor_of,
    as_field,
    check_activations,
    check_points,
    evaluate_field,
)

__all__ = ["PathDependence", "affine_implied_loss", "implied_loss", "path_dependence"]

_HALVINGS = 50  # largest number of halvings of a panel; narrower panels do not exist in float64
_OPEN_PANELS = 2**11  # largest mean number per line; a relu module needs about one per kink
_NUMBERS_AT_ONCE = 2**22  # in activations at nodes: 32 MiB in float64


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

    L(h, y) = ∫₀¹ S(h₀ + s (h − h₀), y) · (h − h₀) ds, by Gauss-Legendre quadrature on panels. If S is the gradient of
    a loss, L is that loss minus its value at the anchor, and so is known up to a constant per label. Otherwise L
    depends on the path of integration; see ``curl`` and ``path_dependence``.

    One panel is exact, up to rounding, if S is a polynomial in h of degree 2 n_nodes − 1 or less, and so for every
    linear module. A relu module is piecewise linear along the line, with kinks inside panels. Panels are therefore
    halved until the polynomial through the nodes and ends of each panel predicts S at the nodes of its halves up to the
    tolerance. This error estimate is usually, but not always, an upper bound: a change of S that is confined to an
    interval between two nodes is not detected.

    Parameters
    ----------
    S : callable (h, y) -> Tensor, shape (N, d), or Estimator
        A field that treats each example separately; an estimator is replaced by ``module_of(estimator)``.
    h : float Tensor, shape (N, d)
        Activations; use float64 for more than about six digits.
    y : Tensor, shape (N,)
        Classes, or regression targets (N, n_outputs).
    anchor : float or Tensor, default 0
        Anchor h₀: a number, or a tensor of shape (d,) or (N, d). Only values with the same anchor are comparable.
    n_nodes : int, default 8
        Number of nodes in each panel, 1 or more.
    n_panels : int, default 1
        Initial number of panels of equal width, 1 or more.
    tolerance : float or None, default 1e-6
        Largest error, relative to the largest ‖S‖ ‖h − h₀‖ on any line; above 0. With None the initial panels are used
        without an error estimate.

    Returns
    -------
    Tensor, shape (N,)
        Implied loss of each example, in the type of h, without a graph; 0 at the anchor.

    Raises
    ------
    ValueError
        If shapes or types of h, y, the anchor and S are inconsistent; if S is not finite on a line; or if a setting is
        out of range.
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
    h, start = check_points(h, y, anchor)
    check_integer("n_nodes", n_nodes, 1)
    check_integer("n_panels", n_panels, 1)
    if tolerance is not None:
        check_positive("tolerance", tolerance)
    line = _Line(as_field(S), start, h - start, y, n_nodes)
    return (line.composite(n_panels) if tolerance is None else line.refined(n_panels, tolerance)).to(h.dtype)


class _Line:
    """Straight lines from ``start`` to ``start + step``, (N, d) each, and the quadrature of S · step along them.

    A panel is given by the row of its line and by its left end on that line, from 0 to 1.
    """

    def __init__(self, S: Field, start: Tensor, step: Tensor, y: Tensor, n_nodes: int) -> None:
        self._S, self._start, self._step, self._y = S, start, step, y
        inner, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(n_nodes))
        nodes = F.pad(F.pad(inner, (1, 0), value=-1.0), (0, 1), value=1.0)  # weight 0 at the ends
        halves = torch.stack([(nodes - 1) / 2, (nodes + 1) / 2])
        self._halve = _interpolation(nodes, halves).to(step.device)  # (2, nodes, nodes)
        self._nodes, self._weights = ((nodes + 1) / 2).to(step.device), F.pad(weights / 2, (1, 1)).to(step.device)

    def composite(self, n_panels: int) -> Tensor:
        """Return ∫ S · step ds, shape (N,), with equal panels."""
        rows, left = self._panels(n_panels)
        slopes, _ = self._slopes(rows, left, 1 / n_panels)
        return self._sum(rows, slopes @ self._weights / n_panels)

    def refined(self, n_panels: int, tolerance: float) -> Tensor:
        """Return ∫ S · step ds, shape (N,), with panels halved where a polynomial does not predict S."""
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
        slopes = evaluate_field(self._S, points.flatten(0, 1), labels).view_as(points).double()
        size = (slopes.norm(dim=-1) * step.double().norm(dim=-1)).max()
        return (slopes * step).sum(dim=-1), float(size)

    def _sum(self, rows: Tensor, values: Tensor) -> Tensor:
        """Return the sum of panel values on each line, shape (N,)."""
        return values.new_zeros(len(self._step)).index_add_(0, rows, values)


def _interpolation(nodes: Tensor, points: Tensor) -> Tensor:
    """Return the matrix (*points, nodes) that interpolates values at nodes by a polynomial, evaluated at points."""
    degree = len(nodes) - 1
    through = np.linalg.inv(np.polynomial.legendre.legvander(nodes.numpy(), degree))
    return torch.from_numpy(np.polynomial.legendre.legvander(points.numpy(), degree) @ through)


def affine_implied_loss(A: Tensor, b: Tensor, h: Tensor, *, anchor: Tensor | float = 0.0) -> Tensor:
    """Return the implied loss of an affine S(h) = A h + b in closed form: a quadratic.

    L(h) = ½ (h − h₀)ᵀ A (h − h₀) + (A h₀ + b) · (h − h₀); only the symmetric part of A contributes to the first term.
    The implied loss of every linear synthetic gradient module has this form.

    Parameters
    ----------
    A : Tensor, shape (d, d)
    b : Tensor, shape (d,) or (N, d)
        One vector for all examples, or the vector of each example's label.
    h : Tensor, shape (N, d)
    anchor : float or Tensor, default 0
        Anchor h₀, as in ``implied_loss``.

    Returns
    -------
    Tensor, shape (N,)

    Raises
    ------
    ValueError
        If shapes or types of A, b and h are inconsistent.

    Examples
    --------
    >>> affine_implied_loss(torch.eye(2), torch.tensor([0.0, 1.0]), torch.tensor([[1.0, 2.0]]))
    tensor([4.5000])
    """
    check_activations(h)
    n, d = h.shape
    if A.shape != (d, d) or b.shape not in {(d,), (n, d)} or {A.dtype, b.dtype} != {h.dtype}:
        raise ValueError(
            f"A has shape {tuple(A.shape)} of {A.dtype} and b {tuple(b.shape)} of {b.dtype}; expected {(d, d)}, and "
            f"{(d,)} or {(n, d)}, of {h.dtype}, for h of shape {(n, d)}."
        )
    start = anchor_of(anchor, h)
    step = h - start
    return ((step / 2 + start) @ A.T + b).mul(step).sum(dim=-1)


@dataclass(frozen=True, eq=False)
class PathDependence:
    """Implied losses along two paths, shape (N,) each.

    Attributes
    ----------
    straight : Tensor
        Integral along the straight line, equal to ``implied_loss``.
    stepwise : Tensor
        Integral along the axes, one after the other.
    """

    straight: Tensor
    stepwise: Tensor

    @property
    def difference(self) -> Tensor:
        """``stepwise`` − ``straight``, shape (N,): the circulation of S around the loop formed by the paths."""
        return self.stepwise - self.straight

    @property
    def relative(self) -> float:
        """‖difference‖ / ‖straight‖ over all examples, 0 to infinity; 0 if the paths agree."""
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
    """Integrate S along two paths from the anchor to each activation, to see how much the curl changes the loss.

    One path is the straight line; the other changes h₁ first, then h₂, and so on, in d straight legs. For the gradient
    of a function the integrals are equal. By Stokes' theorem their difference is the integral of the curl over the
    surface between the paths; it can vanish although S is not a gradient.

    Parameters
    ----------
    S, h, y, anchor, n_nodes, n_panels, tolerance
        As in ``implied_loss``, for the line and for each leg. The legs take d times as long as the line.

    Raises
    ------
    ValueError, ArithmeticError
        For the reasons given in ``implied_loss``.

    Examples
    --------
    >>> rotation = lambda h, y: torch.stack([-h[:, 1], h[:, 0]], dim=1)
    >>> path_dependence(rotation, torch.tensor([[2.0, 3.0]]), torch.tensor([0])).difference
    tensor([6.])
    """
    h, corner = check_points(h, y, anchor)
    S = as_field(S)
    along = partial(implied_loss, S, y=y, n_nodes=n_nodes, n_panels=n_panels, tolerance=tolerance)
    straight = along(h, anchor=corner)
    stepwise = torch.zeros_like(straight)
    for axis in range(h.shape[1]):
        turn = corner.clone()
        turn[:, axis] = h[:, axis]
        stepwise += along(turn, anchor=corner)
        corner = turn
    return PathDependence(straight, stepwise)
