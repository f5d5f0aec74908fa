from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probes.scores import log_loss
from probes.solvers import Fit, lbfgs, newton
from probes.solvers.certificate import certify
from probes.solvers.example_space import ExampleSpace, pays
from probes.solvers.path import PenaltyPath, fit_paths
from probes.solvers.solver_settings import SolverSettings
from tests.probes.small_layers import Sliced

CS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


def fit_path(
    X: Any, y: NDArray, Cs: Sequence[float], judge: Callable[[Fit], float], start: Fit | None = None, **settings: Any
) -> PenaltyPath:
    """Return the path of a single layer."""
    return fit_paths([X], y, Cs, [judge], starts=[start], settings=SolverSettings(**settings))[0]


@pytest.fixture(scope="module")
def parts(relu_digits: tuple[NDArray, NDArray]) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    X, y = relu_digits
    return X[:400], y[:400], X[400:700], y[400:700]


def judge_on(Z: NDArray, y: NDArray) -> Callable[[Fit], float]:
    return lambda fit: log_loss(fit.logits(Z), y)


def test_a_path_chooses_what_exact_fits_would_choose(parts: tuple[NDArray, ...]) -> None:
    X, y, Z, z = parts
    losses = [log_loss(newton(X, y, C).logits(Z), z) for C in CS]
    path = fit_path(X, y, CS[::-1], judge_on(Z, z))
    assert path.Cs[path.best] == CS[int(np.argmin(losses))]
    np.testing.assert_allclose(path.losses, losses[: len(path.losses)], rtol=1e-2)
    assert path.fit.converged
    assert path.fit.relative_gap <= 1e-6


def test_a_path_ends_after_two_rises_in_a_row() -> None:
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.resize([0, 1, 2], 40)
    told = iter([3.0, 2.0, 2.5, 2.4, 2.6, 2.7, 0.0])
    path = fit_path(X, y, (*CS, 1000.0), lambda fit: next(told))
    assert path.losses == (3.0, 2.0, 2.5, 2.4, 2.6, 2.7)
    assert path.Cs[path.best] == 0.01


def test_the_fit_of_a_single_C_equals_that_of_lbfgs(parts: tuple[NDArray, ...]) -> None:
    X, y, Z, z = parts
    path, alone = fit_path(X, y, [0.1], judge_on(Z, z), solver="lbfgs"), lbfgs(X, y, 0.1)
    np.testing.assert_array_equal(path.fit.coef, alone.coef)
    assert path.n_iter == alone.n_iter


def test_a_warm_start_saves_iterations_and_changes_no_optimum(parts: tuple[NDArray, ...]) -> None:
    X, y, Z, z = parts
    later = X + 0.02 * np.random.default_rng(0).normal(size=X.shape)
    earlier = lbfgs(X, y, 0.1)
    cold, warm = (fit_path(later, y, [0.1], judge_on(Z, z), solver="lbfgs", start=start) for start in (None, earlier))
    assert warm.n_iter < cold.n_iter
    bound = np.sqrt(2 * cold.fit.gap) + np.sqrt(2 * warm.fit.gap)
    assert np.linalg.norm(warm.fit.coef - cold.fit.coef) <= bound


def test_unconverged_fits_of_a_path_are_listed(parts: tuple[NDArray, ...]) -> None:
    X, y, Z, z = parts
    path = fit_path(X, y, (1e-6, 1.0), judge_on(Z, z), solver="lbfgs", max_iter=3)
    assert [C for C, _ in path.unfinished] == [1.0]


# In the space of the examples


@pytest.fixture(scope="module")
def wide() -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 300)), rng.integers(3, size=60)


def test_a_fit_goes_from_the_space_of_the_examples_to_the_features_and_back(wide: tuple[NDArray, NDArray]) -> None:
    X, y = wide
    space = ExampleSpace(X)
    small = newton(space.X, y, 0.1)
    fit = space.expanded(small, y, 0.1, tol=1e-6)
    assert fit.objective == pytest.approx(small.objective, rel=1e-10)
    np.testing.assert_allclose(space.reduced(fit).coef, small.coef, atol=1e-10)
    assert pays(X, 2)


def test_duplicates_among_wide_examples_lose_nothing(wide: tuple[NDArray, NDArray]) -> None:
    X, y = np.repeat(wide[0][:30], 2, axis=0), np.repeat(wide[1][:30], 2)
    assert ExampleSpace(X).X.shape == (60, 30)
    assert fit_path(X, y, (0.01, 0.1), lambda fit: -fit.objective).fit.converged


# Of several layers


def layers_of(X: NDArray, n: int) -> list[NDArray]:
    """Return layers of one shape that differ."""
    rng = np.random.default_rng(0)
    return [X + 0.5 * k * rng.normal(size=X.shape) for k in range(n)]


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_paths_of_several_layers_equal_those_of_each_alone(parts: tuple[NDArray, ...], solver: str) -> None:
    X, y, Z, z = parts
    layers, judged = layers_of(X, 3), layers_of(Z, 3)
    judges = [judge_on(each, z) for each in judged]
    Cs = CS[::-1] if solver == "lbfgs" else (0.1, 0.01)
    paths = fit_paths(layers, y, Cs, judges, starts=[None] * 3, settings=SolverSettings(solver=solver))
    for layer, judge, path in zip(layers, judges, paths, strict=True):
        alone = fit_path(layer, y, Cs, judge, solver=solver)
        assert (path.Cs, path.best, path.unfinished) == (alone.Cs, alone.best, ())
        np.testing.assert_allclose(path.losses, alone.losses, rtol=1e-2)
        assert path.fit.relative_gap <= 1e-6
        bound = np.sqrt(2 * path.fit.gap) + np.sqrt(2 * alone.fit.gap)
        assert np.linalg.norm(path.fit.coef - alone.fit.coef) <= bound
        assert path.n_iter == pytest.approx(alone.n_iter, rel=0.3)


def said(losses: list[float]) -> Callable[[Fit], float]:
    rest = iter(losses)
    return lambda fit: next(rest)


def test_each_of_several_paths_ends_where_its_own_losses_have_risen(parts: tuple[NDArray, ...]) -> None:
    X, y, *_ = parts
    layers = layers_of(X, 3)
    told = [[3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0, 0.5], [2.0, 1.0, 3.0, 4.0]]
    judges = [said(losses) for losses in told]
    paths = fit_paths(layers, y, CS, judges, starts=[None] * 3, settings=SolverSettings(solver="lbfgs", tol=1e-3))
    assert [list(path.losses) for path in paths] == told
    assert [path.Cs[path.best] for path in paths] == [0.001, 100.0, 0.01]
    for layer, path in zip(layers, paths, strict=True):  # each fit is of its own layer, at its own C
        proof = certify(layer, y, path.Cs[path.best], path.fit.coef, path.fit.intercept)
        assert (proof.objective, proof.gap) == pytest.approx((path.fit.objective, path.fit.gap), rel=1e-6)
        assert path.fit.converged


def test_each_of_several_paths_has_its_own_start(parts: tuple[NDArray, ...]) -> None:
    X, y, Z, z = parts
    layers = layers_of(X, 2)
    starts = [None, lbfgs(layers[1], y, 0.1)]
    paths = fit_paths(layers, y, [0.1], [judge_on(Z, z)] * 2, starts=starts, settings=SolverSettings(solver="lbfgs"))
    assert paths[0].n_iter > 5
    assert paths[1].n_iter == 0


@pytest.mark.parametrize("kind", ["other widths", "other kinds", "wide", "few features"])
def test_layers_of_different_kinds_are_searched_one_by_one(
    parts: tuple[NDArray, ...], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    X, y = parts[0][:60], parts[1][:60]
    wide = np.random.default_rng(0).normal(size=(60, 130))
    layers: list[NDArray] = {
        "other widths": [X, X[:, :20]],
        "other kinds": [X, np.asarray(X)],
        "wide": [wide, wide[:, ::-1]],
        "few features": [X[:, :4], X[:, 4:8]],
    }[kind]
    if kind == "other kinds":
        layers[1] = Sliced(X)  # type: ignore[call-overload]
    solver = "auto" if kind == "few features" else "lbfgs"

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("probes.solvers.path.lbfgs_layers", refuse)
    judge = lambda fit: -fit.objective  # noqa: E731
    for layer, path in zip(
        layers,
        fit_paths(layers, y, (0.01, 0.1), [judge] * 2, starts=[None] * 2, settings=SolverSettings(solver=solver)),
        strict=True,
    ):
        alone = fit_path(layer, y, (0.01, 0.1), judge, solver=solver)
        np.testing.assert_array_equal(path.fit.coef, alone.fit.coef)
        assert path.n_iter == alone.n_iter


def test_unconverged_fits_are_listed_per_layer(parts: tuple[NDArray, ...]) -> None:
    X, y, Z, z = parts
    layers = [np.zeros_like(X), X]
    paths = fit_paths(
        layers, y, [1.0], [judge_on(Z, z)] * 2, starts=[None] * 2, settings=SolverSettings(solver="lbfgs", max_iter=3)
    )
    assert paths[0].unfinished == ()
    assert [(C, fit.n_iter) for C, fit in paths[1].unfinished] == [(1.0, 3)]


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_single_C_has_no_more_iterations_than_are_allowed(parts: tuple[NDArray, ...], n_layers: int) -> None:
    X, y, Z, z = parts
    judges, starts = [judge_on(Z, z)] * n_layers, [None] * n_layers
    for path in fit_paths(
        layers_of(X, n_layers), y, [1.0], judges, starts=starts, settings=SolverSettings(solver="lbfgs", max_iter=3)
    ):
        assert path.n_iter == 3
