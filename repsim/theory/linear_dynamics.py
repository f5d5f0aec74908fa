"""Dynamics of the linear model with a linear synthetic gradient: solution, iteration matrix, largest rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repsim.learning.checks import check_positive
from repsim.learning.networks import Chain
from repsim.learning.networks.initial_weights import draw_weights

__all__ = ["Rates", "iteration_matrix", "largest_rates", "least_squares", "linear_model", "spectral_radius"]


def linear_model(n_features: int, n_outputs: int, *, bias: bool = True, generator: torch.Generator) -> Chain:
    """Return h = X W (+ b) as a chain: one affine segment, the boundary, and the identity as the output segment.

    The input of a synthetic gradient at boundary 1 is therefore the output of the model. The weights are drawn from
    N(0, 1 / n_features); the bias starts at zero.

    Examples
    --------
    >>> net = linear_model(2, 3, generator=torch.Generator().manual_seed(0))
    >>> list(net.boundaries), net(torch.zeros(5, 2)).shape
    ([1], torch.Size([5, 3]))
    """
    layer = nn.utils.skip_init(nn.Linear, n_features, n_outputs, bias=bias)
    return Chain([draw_weights(layer, 1 / math.sqrt(n_features), generator)], nn.Identity(), shapes=[n_outputs])


def least_squares(X: Tensor, Y: Tensor, *, bias: bool = True) -> Tensor:
    """Return the W* of least norm that minimises the mean over examples of ‖Z W − Y‖², with Z = [X, 1].

    At every fixed point of model and module (``iteration_matrix``) the loss is minimal, for all ranks: synthetic
    gradients neither add nor remove solutions.

    Parameters
    ----------
    X : Tensor, shape (N, n_features)
    Y : Tensor, shape (N, n_outputs)
        Targets, as floats.
    bias : bool, default True
        Whether Z has a column of ones, and W* a last row of biases.

    Returns
    -------
    Tensor of float64, shape (n_features + bias, n_outputs)

    Raises
    ------
    ValueError
        If X or Y is not a matrix of floats, or if they have different numbers of rows.

    Examples
    --------
    >>> least_squares(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [3.0], [5.0]])).round(decimals=6)
    tensor([[2.],
            [1.]], dtype=torch.float64)
    """
    Z, Y = _design(X, Y, bias)
    U, s, Vh = _thin_svd(Z)
    return Vh.mT @ ((U.mT @ Y) / s[:, None])


def iteration_matrix(
    X: Tensor, Y: Tensor, alpha: float, beta: float | None, *, bias: bool = True, A: Tensor | None = None
) -> Tensor:
    """Return the matrix by which one step of gradient descent maps a small deviation from a fixed point.

    The model is h = Z W, Z = [X, 1], with the loss ‖h − y‖². The module is S(h, y) = h A + y B + c = Φ Θ with
    Φ = [H, Y, 1] and Θ = [A; B; c]. Both are updated at the same time with means over all N examples:

        W ← W − α/N Zᵀ Φ Θ,    Θ ← Θ − 2β/N Φᵀ (Φ Θ − 2 (H − Y)).

    At a fixed point Φ* Θ = 2 (H* − Y), so that W is the W* of ``least_squares``, and deviations obey

        dW ← dW − α/N Zᵀ (Z dW A + Φ* dΘ),    dΘ ← dΘ − 2β/N Φ*ᵀ (Z dW (A − 2I) + Φ* dΘ).

    For the exact module, A = 2I, B = −2I, c = 0, the matrix is block triangular and equal for all outputs:
    [[I − 2α/N ZᵀZ, −α/N ZᵀΦ*], [0, I − 2β/N Φ*ᵀΦ*]].

    If the columns of Φ* are linearly dependent, Φ* n = 0 (targets are one-hot, or a linear model fits them exactly),
    other modules give the same output on the data, and the one at which training ends depends on its start. Only A of
    such a module matters; pass the A that was reached. Each n adds eigenvalues that are exactly 1, and changes of Θ
    along n have no effect at the fixed point. The same holds for changes of W along w with Z w = 0.

    Parameters
    ----------
    X : Tensor, shape (N, n_features)
    Y : Tensor, shape (N, n_outputs)
        Real numbers.
    alpha : float
        Learning rate α of the model.
    beta : float or None
        Learning rate β of the module. None if the module is fixed: the state is then W alone, and the matrix
        (I − 2α/N ZᵀZ for the exact module) describes the whole descent, not only its end.
    bias : bool, default True
        Whether the model has a bias.
    A : Tensor, shape (n_outputs, n_outputs), optional
        A of a module at a fixed point; by default 2I. For a ``SyntheticGradient`` S it is ``S.layers[0].weight.T``.

    Returns
    -------
    Tensor of float64, shape (n, n)
        Acts on the concatenated rows of [dW; dA; dB; dc]. n = (n_features + bias + 2 n_outputs + 1) n_outputs, or
        (n_features + bias) n_outputs if the module is fixed.

    Raises
    ------
    ValueError
        For the reasons given in ``least_squares``; or if a rate is not above 0, or A has another shape.

    References
    ----------
    After Czarnecki et al. (2017), Understanding synthetic gradients and decoupled neural interfaces, who show that
    linear models converge. The matrix is derived here.
    """
    Z, Phi = _fixed_point(X, Y, bias)
    return _assemble(Z.mT @ Z, Z.mT @ Phi, Phi.mT @ Phi, _steps(alpha, beta, len(Z)), _slope(A, Y))


def spectral_radius(
    X: Tensor, Y: Tensor, alpha: float, beta: float | None, *, bias: bool = True, A: Tensor | None = None
) -> float:
    """Return the asymptotic factor ρ by which one step multiplies the distance from the solution.

    The excess loss is multiplied by ρ².

    ρ is the largest |eigenvalue| of ``iteration_matrix`` without the directions n and w with Φ* n = 0 and Z w = 0,
    which have no effect on the data and whose eigenvalues are 1. For the exact module it follows from singular values,
    ρ = max |1 − 2α σ²(Z)/N|, |1 − 2β σ²(Φ*)/N|.

    Near the solution, training converges if ρ < 1 and diverges if ρ > 1. The deviation of W alone may decay faster, if
    the slowest direction is one of the module that Zᵀ Φ* maps to zero.

    Parameters
    ----------
    X, Y, alpha, beta, bias, A
        As in ``iteration_matrix``, which raises the same errors.

    Returns
    -------
    float
        0 or more.

    Examples
    --------
    >>> X, Y = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]]), torch.tensor([[0.0], [1.0], [1.0], [1.0]])
    >>> spectral_radius(X, Y, alpha=0.25, beta=None)  # X has variance 1
    0.5
    """
    steps, slope = _steps(alpha, beta, len(X)), _slope(A, Y)
    (U, s, _), (U_phi, s_phi, _) = (_thin_svd(each) for each in _fixed_point(X, Y, bias))
    if A is None:
        factors = [1 - 2 * rate * each**2 for rate, each in zip(steps, (s, s_phi), strict=True) if rate is not None]
    else:
        mixed = s[:, None] * (U.mT @ U_phi) * s_phi
        factors = [torch.linalg.eigvals(_assemble(torch.diag(s**2), mixed, torch.diag(s_phi**2), steps, slope))]
    return float(torch.cat([s.new_zeros(1), *factors]).abs().max())


@dataclass(frozen=True)
class Rates:
    """Learning rates α of the model and β of the module above which gradient descent diverges from the solution."""

    alpha: float
    beta: float


def largest_rates(X: Tensor, Y: Tensor, *, bias: bool = True) -> Rates:
    """Return N / λmax(ZᵀZ) and N / λmax(Φ*ᵀΦ*): the rates at which the spectral radius of the exact module is 1.

    Above these rates training diverges from the solution even if it starts close to it. Below them it converges from
    close by; farther away Φ may be larger than Φ*, and the largest rate smaller. The rate of the model is also 1 / C²,
    with the C that ``track`` returns at its output.

    Parameters
    ----------
    X, Y, bias
        As in ``least_squares``, which raises the same errors.

    Examples
    --------
    >>> X, Y = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]]), torch.tensor([[0.0], [1.0], [1.0], [1.0]])
    >>> largest_rates(X, Y).alpha
    1.0
    """
    largest = [float(torch.linalg.matrix_norm(each, ord=2)) for each in _fixed_point(X, Y, bias)]
    alpha, beta = (len(X) / norm**2 if norm > 0 else math.inf for norm in largest)
    return Rates(alpha, beta)


def _design(X: Tensor, Y: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    """Return Z = [X, 1] (N, p) and Y (N, c) in float64."""
    for name, each in (("X", X), ("Y", Y)):
        if each.ndim != 2 or not len(each) or not each.is_floating_point():
            raise ValueError(
                f"{name} has shape {tuple(each.shape)} and type {each.dtype}; expected a matrix of floats with one row "
                "per example. Pass classes as one-hot rows."
            )
        if not each.isfinite().all():
            raise ValueError(f"{name} holds values that are not finite; expected finite numbers. Remove those rows.")
    if len(X) != len(Y):
        raise ValueError(f"X has {len(X)} rows and Y has {len(Y)}; expected one row of each per example.")
    X, Y = X.detach().double(), Y.detach().double()
    return torch.cat([X, X.new_ones(len(X), 1)], dim=1) if bias else X, Y


def _fixed_point(X: Tensor, Y: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    """Return Z (N, p) and Φ* = [H*, Y, 1] (N, 2c + 1), the inputs of model and module at the solution."""
    Z, targets = _design(X, Y, bias)
    U, _, _ = _thin_svd(Z)
    return Z, torch.cat([U @ (U.mT @ targets), targets, Z.new_ones(len(Z), 1)], dim=1)


def _thin_svd(M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, s, Vᵀ of the singular values that are not 0 up to rounding."""
    U, s, Vh = torch.linalg.svd(M, full_matrices=False)
    rank = int((s > s[0] * max(M.shape) * torch.finfo(M.dtype).eps).sum())
    return U[:, :rank], s[:rank], Vh[:rank]


def _steps(alpha: float, beta: float | None, n_examples: int) -> tuple[float, float | None]:
    """Return α / N and β / N."""
    check_positive("alpha", alpha)
    if beta is None:
        return alpha / n_examples, None
    check_positive("beta", beta)
    return alpha / n_examples, beta / n_examples


def _slope(A: Tensor | None, Y: Tensor) -> Tensor:
    """Return A in float64, by default that of the exact module."""
    c = Y.shape[-1]
    if A is None:
        return 2 * torch.eye(c, dtype=torch.float64, device=Y.device)
    if A.shape != (c, c):
        raise ValueError(
            f"A has shape {tuple(A.shape)}; expected {(c, c)}, as Y has {c} outputs. Pass S.layers[0].weight.T."
        )
    return A.detach().double()


def _assemble(ZZ: Tensor, ZP: Tensor, PP: Tensor, steps: tuple[float, float | None], A: Tensor) -> Tensor:
    """Return the iteration matrix from ZᵀZ, ZᵀΦ* and Φ*ᵀΦ*, in any bases."""
    alpha, beta = steps
    eye = torch.eye(len(A), dtype=A.dtype, device=A.device)
    to_W = torch.kron(ZZ, alpha * A.mT.contiguous())  # (p c, p c)
    if beta is None:
        return torch.eye(len(to_W)).to(to_W) - to_W
    from_W = torch.kron(ZP.mT.contiguous(), 2 * beta * (A - 2 * eye).mT.contiguous())
    change = torch.cat(
        [
            torch.cat([to_W, torch.kron(ZP, alpha * eye)], dim=1),
            torch.cat([from_W, torch.kron(PP, 2 * beta * eye)], dim=1),
        ]
    )
    return torch.eye(len(change)).to(change) - change
