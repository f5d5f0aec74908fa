"""The linear model under a linear synthetic gradient: its solution, its iteration matrix, and the rates it bears."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repsim.learning.chain import Chain
from repsim.learning.checks import check_positive

__all__ = ["Rates", "iteration_matrix", "largest_rates", "least_squares", "linear_model", "spectral_radius"]


def linear_model(n_features: int, n_outputs: int, *, bias: bool = True, generator: torch.Generator) -> Chain:
    """Return h = X W (+ b) as a chain: one affine segment, the boundary, and the identity as the output segment.

    A synthetic gradient at boundary 1 so sees the output of the model itself. The weights are drawn from
    N(0, 1 / n_features); the bias starts at zero.

    Examples
    --------
    >>> net = linear_model(2, 3, generator=torch.Generator().manual_seed(0))
    >>> list(net.boundaries), net(torch.zeros(5, 2)).shape
    ([1], torch.Size([5, 3]))
    """
    layer = nn.utils.skip_init(nn.Linear, n_features, n_outputs, bias=bias)  # draws nothing from the global generator
    with torch.no_grad():
        layer.weight.normal_(0.0, 1 / math.sqrt(n_features), generator=generator)
        if bias:
            layer.bias.zero_()
    return Chain([layer], nn.Identity(), shapes=[n_outputs])


def least_squares(X: Tensor, Y: Tensor, *, bias: bool = True) -> Tensor:
    """Return W* that minimises the mean over examples of ‖Z W − Y‖², Z = [X, 1]; of several the one of least norm.

    Where model and module both rest (``iteration_matrix``) the loss is minimal, whatever the ranks: synthetic gradients
    add no solutions and lose none.

    Parameters
    ----------
    X : Tensor, shape (N, n_features)
    Y : Tensor, shape (N, n_outputs)
        Real numbers.
    bias : bool, default True
        Whether Z has a column of ones, and W* a last row of biases.

    Returns
    -------
    Tensor of float64, shape (n_features + bias, n_outputs)

    Raises
    ------
    ValueError
        If X or Y is not a matrix of real numbers, or they have different numbers of rows.

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
    """Return what one step of gradient descent does to a small distance from a fixed point, model and module together.

    The model h = Z W, Z = [X, 1], has the loss ‖h − y‖², the module is S(h, y) = h A + y B + c = Φ Θ with
    Φ = [H, Y, 1] and Θ = [A; B; c], and both move at once, on means over all N examples:

        W ← W − α/N Zᵀ Φ Θ,    Θ ← Θ − 2β/N Φᵀ (Φ Θ − 2 (H − Y)).

    At a fixed point Φ* Θ = 2 (H* − Y), so that W is W* of ``least_squares``, and deviations obey

        dW ← dW − α/N Zᵀ (Z dW A + Φ* dΘ),    dΘ ← dΘ − 2β/N Φ*ᵀ (Z dW (A − 2I) + Φ* dΘ).

    At the exact module, A = 2I, B = −2I, c = 0, this is block triangular, and the same for every output:
    [[I − 2α/N ZᵀZ, −α/N ZᵀΦ*], [0, I − 2β/N Φ*ᵀΦ*]].

    Where the columns of Φ* depend on each other, Φ* n = 0, that is where targets are one-hot or a linear model fits
    them exactly, other modules are as right on the data, and where training ends among them depends on where it
    started. Of such a module only A matters: give that which was reached. Each n adds eigenvalues that are exactly 1,
    and moves along it change nothing at the fixed point; likewise moves along w with Z w = 0.

    Parameters
    ----------
    X : Tensor, shape (N, n_features)
    Y : Tensor, shape (N, n_outputs)
        Real numbers.
    alpha : float
        α, the model's learning rate.
    beta : float or None
        β, the module's. None if the module is fixed: then the state is W alone, and the matrix, I − 2α/N ZᵀZ where the
        module is exact, is that of the whole descent, not only of its end.
    bias : bool, default True
        Of the model.
    A : Tensor, shape (n_outputs, n_outputs), optional
        Of a module at a fixed point; 2I by default. For a ``SyntheticGradient`` S it is ``S.layers[0].weight.T``.

    Returns
    -------
    Tensor of float64, shape (n, n)
        Acts on the rows of [dW; dA; dB; dc] laid end to end; n = (n_features + bias + 2 n_outputs + 1) n_outputs, or
        (n_features + bias) n_outputs without module.

    Raises
    ------
    ValueError
        As ``least_squares``; if a rate is not above 0, or A has another shape.

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
    """Return the factor ρ by which a step, in the end, multiplies the distance from the solution.

    The excess loss is multiplied by ρ².

    It is the largest |eigenvalue| of ``iteration_matrix`` over what can be seen on the data: directions n and w with
    Φ* n = 0 and Z w = 0, which stay as they are and whose eigenvalue is 1, are left out. At the exact module it follows
    from singular values alone, ρ = max |1 − 2α σ²(Z)/N|, |1 − 2β σ²(Φ*)/N|.

    Training near the solution converges if ρ < 1, and leaves it if ρ > 1. How W itself moves may decay faster, where
    the slowest direction is one of the module to which Zᵀ Φ* is blind.

    Parameters
    ----------
    X, Y, alpha, beta, bias, A
        As in ``iteration_matrix``, with its errors.

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
    """The learning rates of model and module, α and β, above which gradient descent leaves its solution."""

    alpha: float
    beta: float


def largest_rates(X: Tensor, Y: Tensor, *, bias: bool = True) -> Rates:
    """Return N / λmax(ZᵀZ) and N / λmax(Φ*ᵀΦ*): the rates at which a spectral radius becomes 1, at the exact module.

    Above them training leaves the solution however near it starts. Below them it converges from near by; from afar Φ
    may be larger than Φ*, and bear less. That of the model is also 1 / C² for the C that ``track`` finds at its output.

    Parameters
    ----------
    X, Y, bias
        As in ``least_squares``, with its errors.

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
    """Return Z = [X, 1] (N, p) and Y (N, c) in double precision."""
    for name, each in (("X", X), ("Y", Y)):
        if each.ndim != 2 or not len(each) or not each.is_floating_point():
            raise ValueError(
                f"{name} is of shape {tuple(each.shape)} and type {each.dtype}; expected a matrix of real numbers with "
                "one row for each example. Give classes as one-hot rows."
            )
        if not each.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite; expected finite ones. Leave those rows out.")
    if len(X) != len(Y):
        raise ValueError(f"X has {len(X)} rows and Y has {len(Y)}; expected one of each for every example.")
    X, Y = X.detach().double(), Y.detach().double()
    return torch.cat([X, X.new_ones(len(X), 1)], dim=1) if bias else X, Y


def _fixed_point(X: Tensor, Y: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    """Return Z (N, p), and Φ* = [H*, Y, 1] (N, 2c + 1): what model and module see at the solution."""
    Z, targets = _design(X, Y, bias)
    U, _, _ = _thin_svd(Z)
    return Z, torch.cat([U @ (U.mT @ targets), targets, Z.new_ones(len(Z), 1)], dim=1)


def _thin_svd(M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, s, Vᵀ for the singular values that are not 0 to rounding."""
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
    """Return A, or that of the exact module."""
    c = Y.shape[-1]
    if A is None:
        return 2 * torch.eye(c, dtype=torch.float64, device=Y.device)
    if A.shape != (c, c):
        raise ValueError(
            f"A has shape {tuple(A.shape)}; expected {(c, c)}, as Y has {c} outputs. Give S.layers[0].weight.T."
        )
    return A.detach().double()


def _assemble(ZZ: Tensor, ZP: Tensor, PP: Tensor, steps: tuple[float, float | None], A: Tensor) -> Tensor:
    """Return the matrix from ZᵀZ, ZᵀΦ* and Φ*ᵀΦ*, in whatever bases."""
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
