import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from repsim.theory import spectral_norm as module
from repsim.theory.spectral_norm import spectral_norm
from tests.repsim.small_chains import seeded

SPECTRA: dict[str, Callable[[int], Tensor]] = {
    "even": lambda n: torch.linspace(0, 1, n),
    "flat": lambda n: torch.ones(n),
    "crowded at the top": lambda n: 1 - torch.linspace(0, 1, n) ** 4,
    "one outlier": lambda n: torch.cat([torch.tensor([1.0]), torch.full((n - 1,), 0.01)]),
    "geometric": lambda n: 0.9 ** torch.arange(n),
    "tiny": lambda n: 1e-20 * torch.linspace(0.1, 1, n),
}


def rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n, generator=seeded(seed), dtype=torch.float64))[0]


def with_spectrum(singular_values: Tensor, seed: int = 0) -> Tensor:
    return rotation(len(singular_values), seed) * singular_values.double()


def norms(J: Tensor, tolerance: float = 0.05) -> tuple[float, float]:
    return spectral_norm(lambda u: J @ (J.T @ u), J[:, 0], tolerance)


@pytest.mark.parametrize("shape", [(30, 30), (200, 50), (50, 200), (1, 1), (1, 7), (7, 1)])
def test_the_lower_number_is_the_norm_of_a_random_matrix(shape: tuple[int, int]) -> None:
    J = torch.randn(shape, generator=seeded(1), dtype=torch.float64)
    exact = float(torch.linalg.matrix_norm(J, ord=2))
    assert norms(J, 0.01)[0] == pytest.approx(exact, rel=1e-8)
    assert norms(J.T, 0.01)[0] == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("tolerance", [1.0, 0.2, 0.05, 0.01])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_norm_lies_between_bounds_within_the_tolerance(name: str, tolerance: float) -> None:
    J = with_spectrum(SPECTRA[name](300))
    exact = float(torch.linalg.matrix_norm(J, ord=2))
    lower, upper = norms(J, tolerance)
    assert lower <= exact * (1 + 1e-12)
    assert upper >= exact * (1 - 1e-12)
    assert upper <= lower * (1 + tolerance)


def test_the_number_of_products_follows_from_the_tolerance() -> None:
    J, calls = with_spectrum(SPECTRA["even"](300)), []

    def gram(u: Tensor) -> Tensor:
        calls.append(len(u))
        return J @ (J.T @ u)

    spectral_norm(gram, J[0], 0.05)
    assert len(calls) == pytest.approx(7 / math.sqrt(0.05), rel=0.15)
    spectral_norm(gram, J[0], 100.0)
    assert set(calls) == {300}


@pytest.mark.parametrize("doubt", [0.5, 0.2, 0.1])
def test_upper_bounds_are_too_low_as_often_as_stated_at_the_most(doubt: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed start in randomly turned matrices is a random start; the spectrum is the hardest for so many steps."""
    monkeypatch.setattr(module, "DOUBT", doubt)
    lower, upper = norms(with_spectrum(SPECTRA["even"](30)), tolerance=0.2)
    others = torch.sin(torch.linspace(0, math.pi / 2, 29)) * lower / upper
    spectrum, trials = torch.cat([torch.tensor([1.0]), others]), 300
    failures = sum(norms(with_spectrum(spectrum, seed), tolerance=0.2)[1] < 1 for seed in range(trials))
    assert 0.3 * doubt < failures / trials <= doubt


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_norm_of_few_dimensions_is_exact(rank: int) -> None:
    generator = seeded(2)
    J = torch.randn(80, rank, generator=generator, dtype=torch.float64) @ torch.randn(
        rank, 90, generator=generator, dtype=torch.float64
    )
    lower, upper = norms(J, tolerance=1.0)
    assert lower == upper == pytest.approx(float(torch.linalg.matrix_norm(J, ord=2)), rel=1e-12)


def test_the_norm_of_few_dimensions_is_exact_in_single_precision() -> None:
    J = torch.randn(80, 3, generator=seeded(2))
    lower, upper = norms(J)
    assert lower == upper == pytest.approx(float(torch.linalg.matrix_norm(J.double(), ord=2)), rel=1e-6)


def test_the_norm_of_zero_is_0() -> None:
    assert norms(torch.zeros(4, 3)) == (0.0, 0.0)


def test_a_norm_is_the_same_every_time_and_draws_nothing_from_the_global_generator() -> None:
    J, state = with_spectrum(SPECTRA["even"](100)), torch.get_rng_state()
    assert norms(J) == norms(J)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_products_that_are_not_finite_are_refused(value: float) -> None:
    J = torch.ones(4, 3)
    J[1, 2] = value
    with pytest.raises(ArithmeticError, match=r"not finite; .* Use an earlier step"):
        norms(J)
