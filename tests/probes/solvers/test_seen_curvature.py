from dataclasses import replace

import numpy as np
import pytest
import torch

from probes.solvers import Fit, LogisticProblem, lbfgs, lbfgs_layers, lbfgs_many
from probes.solvers.seen_curvature import MOST_BYTES, SeenCurvature, joined

R, D, M = 3, 5, 4


def quadratic(C: float, metric: torch.Tensor | None) -> SeenCurvature:
    """Return what a search of C times a quadratic loss, plus the penalty, would meet in unknowns of a metric."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(R * D + R, R * D + R))
    steps = torch.tensor(rng.normal(size=(M, R * D + R)))
    changes = C * steps @ torch.tensor(root @ root.T)
    changes[:, :-R] += steps[:, :-R]
    if metric is not None:
        steps, changes = in_unknowns(steps, torch.linalg.inv(metric)), in_unknowns(changes, metric.mT)
    return SeenCurvature(steps=steps, changes=changes, n_rows=R, C=C, metric=metric)


def in_unknowns(pairs: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return torch.cat([(pairs[:, :-R].reshape(-1, D) @ factor).reshape(M, R * D), pairs[:, -R:]], dim=1)


@pytest.mark.parametrize("whitened", [False, True])
def test_changes_at_another_C_are_those_of_the_scaled_loss_and_the_same_penalty(whitened: bool) -> None:
    rng = np.random.default_rng(1)
    metric = torch.tensor(np.tril(rng.normal(size=(D, D))) + 3 * np.eye(D)) if whitened else None
    found = quadratic(0.1, metric).at(10.0)
    torch.testing.assert_close(found.changes, quadratic(10.0, metric).changes, rtol=1e-10, atol=1e-10)
    assert found.C == 10.0


def test_searches_with_fewer_pairs_are_padded_by_zeros_at_their_oldest_end() -> None:
    long, short = quadratic(1.0, None), quadratic(1.0, None)
    short = replace(short, steps=short.steps[-1:], changes=short.changes[-1:])
    found = joined([short, long], torch.empty(2, R * D + R, dtype=torch.float64))
    for pairs, whole in zip(found, (long.steps, long.changes), strict=True):
        assert not pairs[0, :-1].any()
        torch.testing.assert_close(pairs[0, -1], whole[-1], rtol=0, atol=0)
        torch.testing.assert_close(pairs[1], whole, rtol=0, atol=0)


def test_the_newest_pairs_are_held_up_to_a_number_of_bytes() -> None:
    size = MOST_BYTES // (2 * 8 * 2)  # of which two pairs can be held
    steps = torch.arange(3.0, dtype=torch.float64)[:, None].expand(3, size)
    held = SeenCurvature(steps=steps, changes=steps, n_rows=1, C=1.0, metric=None).limited
    assert held is not None
    assert held.steps[:, 0].tolist() == [1.0, 2.0]
    wide = torch.zeros(1, MOST_BYTES // 8, dtype=torch.float64)
    assert SeenCurvature(steps=wide, changes=wide, n_rows=1, C=1.0, metric=None).limited is None


def test_a_start_of_the_same_features_saves_iterations_by_its_curvature(
    relu_digits: tuple[np.ndarray, np.ndarray],
) -> None:
    X, y = relu_digits
    start = lbfgs(X, y, 0.1, tol=1e-4)
    assert start.curvature is not None

    def n_iter(fit: Fit) -> int:
        problem = LogisticProblem(y=y, C=1.0, start=fit, same_features=True)
        found = lbfgs_layers([X, X], [problem] * 2)
        optimum = lbfgs(X, y, 1.0, tol=1e-9)
        for each in found:
            assert each.converged
            assert np.linalg.norm(each.coef - optimum.coef) <= np.sqrt(2 * each.gap) + np.sqrt(2 * optimum.gap)
        return found[0].n_iter

    assert n_iter(start) <= 0.9 * n_iter(replace(start, curvature=None))


def test_starts_of_many_problems_on_the_same_features_keep_their_own_curvature(
    relu_digits: tuple[np.ndarray, np.ndarray],
) -> None:
    X, y = relu_digits
    labels = [y, np.roll(y, 1)]
    starts = lbfgs_many(X, [LogisticProblem(y=each, C=0.01) for each in labels], tol=1e-3)
    problems = [
        LogisticProblem(y=each, C=0.01, start=start, same_features=True)
        for each, start in zip(labels, starts, strict=True)
    ]
    for fit, each in zip(lbfgs_many(X, problems), labels, strict=True):
        optimum = lbfgs(X, each, 0.01, tol=1e-9)
        assert fit.converged
        assert np.linalg.norm(fit.coef - optimum.coef) <= np.sqrt(2 * fit.gap) + np.sqrt(2 * optimum.gap)


def test_curvature_of_other_features_shape_or_precision_is_left_out(
    relu_digits: tuple[np.ndarray, np.ndarray],
) -> None:
    X, y = relu_digits
    start = lbfgs(X, y, 0.1, tol=1e-4)
    seen = start.curvature
    assert seen is not None

    def coef(curvature: SeenCurvature | None, same_features: bool) -> np.ndarray:
        fit = replace(start, curvature=curvature)
        problem = LogisticProblem(y=y, C=1.0, start=fit, same_features=same_features)
        return lbfgs_many(X, [problem])[0].coef

    np.testing.assert_array_equal(coef(seen, same_features=False), coef(None, same_features=False))
    for steps, changes in (
        (seen.steps.double(), seen.changes.double()),
        (seen.steps[:, 1:], seen.changes[:, 1:]),
    ):
        other = replace(seen, steps=steps, changes=changes)
        np.testing.assert_array_equal(coef(other, same_features=True), coef(None, same_features=True))
