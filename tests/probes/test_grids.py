"""The default grid of penalties is extended where the best value lies at its edge, and any other is taken as it is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from probes import NetworkLayers, ProbeConfig, RegressionProbe, RidgeProbe, probe_layers
from probes.estimators.ridge.base_ridge import ALPHAS
from probes.grids import MOST_DECADES, PenaltyGrid, chosen, next_decade, wider
from probes.solvers import Fit
from probes.solvers.certificate import certify
from probes.solvers.path import CS, PenaltyPath, fit_paths
from probes.solvers.solver_settings import SolverSettings
from repsim.learning import TrainingConfig, build_learner, build_optimizer, load_dataset, train

N = 400
SPLIT = np.resize(["train", "train", "validation", "test"], N)


def fit_path(
    X: Any, y: NDArray, Cs: Sequence[float], judge: Callable[[Fit], float], solver: str = "auto", most_decades: int = 0
) -> PenaltyPath:
    """Return the path of a single layer."""
    settings = SolverSettings(solver=solver)
    return fit_paths([X], y, Cs, [judge], starts=[None], most_decades=most_decades, settings=settings)[0]


# The rule


@pytest.mark.parametrize(
    ("losses", "position", "side"),
    [
        ([0.9, 0.5, 0.6], 1, 0),
        ([0.9, 0.6, 0.5], 2, 1),
        ([0.5, 0.6, 0.9], 0, -1),
        ([0.5, 0.5, 0.5], 0, 0),
        ([0.9, 0.5, 0.46], 1, 0),  # flat at the end: the more regularised one
        ([0.46, 0.5, 0.9], 0, 0),
        ([0.9, 0.52, 0.51, 0.8], 2, 0),  # inside, the least counts
        ([0.9, np.nan, 0.5, 0.8], 2, 0),
        ([np.nan, 0.8, 0.3], 2, 1),
        ([0.7], 0, 0),
    ],
)
def test_the_chosen_value_and_the_side_where_the_loss_still_falls(
    losses: Sequence[float], position: int, side: int
) -> None:
    assert (chosen(losses, 0.05), wider(losses, 0.05)) == (position, side)


def test_a_grid_that_is_flat_at_its_regularised_end_is_extended_unless_no_features_are_left() -> None:
    assert wider([0.3, 0.3, 0.9], 0.05, lambda: 0.32) == 0
    assert wider([0.3, 0.3, 0.9], 0.05, lambda: 2.3) == -1
    assert wider([0.9, 0.3, 0.3], 0.05, lambda: 2.3) == 0


@pytest.mark.parametrize(
    ("rise", "n", "ends"),
    [(0.2, 100, True), (0.2, 49, False), (0.02, 100, False), (0.005, 10_000, False), (-0.2, 100, False)],
    ids=["clear", "few examples", "within two standard errors", "small beside the loss", "fall"],
)
def test_a_search_ends_after_one_rise_only_if_it_is_clear(rise: float, n: int, ends: bool) -> None:
    rng = np.random.default_rng(0)
    grid = PenaltyGrid((0.1, 1.0, 10.0), sign=1, equal=0.0, most_decades=0, null=lambda: 3.0)
    noise = rng.normal(size=n)
    first = 1.0 + np.abs(rng.normal(size=n))
    grid.add(0.1, first)
    assert grid.next_value() == 1.0
    grid.add(1.0, first + rise + 0.3 * (noise - noise.mean()) / noise.std())
    assert grid.next_value() == (None if ends else 10.0)
    assert grid.best == (1.0 if rise < 0 else 0.1)


def test_a_mean_alone_is_never_a_clear_rise() -> None:
    grid = PenaltyGrid((0.1, 1.0, 10.0), sign=1, equal=0.0, most_decades=0, null=lambda: 3.0)
    for C, loss in ((0.1, 1.0), (1.0, 5.0)):
        grid.add(C, loss)
    assert grid.next_value() == 10.0


def test_decades_are_exact_literals() -> None:
    value = 1e-3
    for power in range(-4, -10, -1):
        value = next_decade(value, -1)
        assert value == float(f"1e{power}")
    assert next_decade(10.0, 1) == 100.0


# Paths of C


def problem() -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)), np.resize([0, 1, 2], 60)


def falls_to(best: float) -> Callable[[Fit], float]:
    """Return a judge that likes fits the better the nearer the norm of their coefficients is to that at a C."""
    X, y = problem()
    norm = np.linalg.norm(fit_path(X, y, [best], lambda _: 0.0).fit.coef)
    return lambda fit: abs(float(np.log(np.linalg.norm(fit.coef) / norm)))


@pytest.mark.parametrize(
    ("best", "solver"), [(1e-4, "lbfgs"), (1e-3, "newton"), (0.1, "lbfgs"), (10.0, "newton"), (100.0, "lbfgs")]
)
def test_a_path_finds_the_best_C_inside_and_outside_its_grid(best: float, solver: str) -> None:
    path = fit_path(*problem(), CS, falls_to(best), solver=solver, most_decades=6)
    assert path.Cs[path.best] == best
    assert path.side == 0
    assert path.n_extended == len(set(path.Cs) - set(CS))
    assert path.Cs == tuple(sorted(path.Cs))
    X, y = problem()
    proof = certify(X, y, best, path.fit.coef, path.fit.intercept)
    assert proof.gap <= 1e-6 * proof.objective


@pytest.mark.parametrize("sign", [1, -1])
def test_an_extension_is_bounded_and_reports_that_the_loss_still_falls(sign: int) -> None:
    path = fit_path(*problem(), CS, lambda fit: -sign * float(np.linalg.norm(fit.coef)), most_decades=2)
    assert (path.n_extended, path.side) == (2, sign)
    assert path.Cs == ((*CS, 100.0, 1000.0) if sign > 0 else (1e-5, 1e-4, *CS[:3]))
    assert path.best == (len(path.Cs) - 1 if sign > 0 else 0)


def test_a_flat_curve_is_not_extended_and_gives_the_most_regularised_probe() -> None:
    path = fit_path(*problem(), CS, lambda _: 0.3, most_decades=6)
    assert (path.Cs[path.best], path.n_extended, path.side) == (CS[0], 0, 0)
    rising = iter([0.5, 0.4, 0.30005, 0.3, 0.29998])  # differences as small as fits are compared
    path = fit_path(*problem(), CS, lambda _: next(rising), most_decades=6)
    assert (path.Cs[path.best], path.n_extended, path.side) == (0.1, 0, 0)


@pytest.mark.parametrize(("Cs", "most_decades"), [(CS, 0), ((0.5,), 0), ((0.5,), 6)])
def test_a_single_C_is_never_extended_and_several_only_if_they_may_be(Cs: tuple[float, ...], most_decades: int) -> None:
    path = fit_path(*problem(), Cs, lambda fit: -float(np.linalg.norm(fit.coef)), most_decades=most_decades)
    assert (path.Cs, path.n_extended, path.side) == (Cs, 0, int(len(Cs) > 1))


def test_layers_that_are_searched_together_are_extended_separately(relu_digits: tuple[NDArray, NDArray]) -> None:
    X, y = relu_digits[0][:300], relu_digits[1][:300]
    layers = [X, X[:, ::-1].copy(), np.roll(X, 1, axis=1)]

    def larger(fit: Fit) -> float:
        return -float(np.linalg.norm(fit.coef))

    judges: list[Callable[[Fit], float]] = [larger, lambda fit: -larger(fit), lambda _: 1.0]
    settings = SolverSettings(solver="lbfgs", tol=1e-5)
    paths = fit_paths(layers, y, CS, judges, starts=[None] * 3, most_decades=2, settings=settings)
    assert [path.Cs[path.best] for path in paths] == [1000.0, 1e-5, 0.001]
    assert [(path.n_extended, path.side) for path in paths] == [(2, 1), (2, -1), (0, 0)]
    for layer, path in zip(layers, paths, strict=True):
        proof = certify(layer, y, path.Cs[path.best], path.fit.coef, path.fit.intercept)
        assert proof.gap <= 1e-5 * proof.objective


# Tables


def layers_of(kind: str, d: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Return features and labels whose best C lies above, below or within the default grid."""
    y = rng.integers(4, size=N)
    means = rng.normal(size=(4, d))[y] * 8.0 / np.sqrt(d)
    noise = rng.normal(size=(N, d))
    return {"separable": means + 0.5 * noise, "noise": noise, "ordinary": 0.2 * means + noise}[kind], y


@pytest.mark.parametrize(("kind", "side"), [("separable", 1), ("noise", -1), ("ordinary", 0)])
@pytest.mark.parametrize(("d", "dtype"), [(8, np.float32), (300, np.float64)])
def test_the_default_grid_is_extended_where_the_best_C_lies_beyond_it(
    kind: str, side: int, d: int, dtype: type
) -> None:
    X, y = layers_of(kind, d, np.random.default_rng(d))
    row = probe_layers({"h": X.astype(dtype)}, y, split=SPLIT).iloc[0]
    given = probe_layers({"h": X.astype(dtype)}, y, split=SPLIT, config=ProbeConfig(Cs=CS)).iloc[0]
    assert (row["status"], row["converged"], row["C_at_edge"]) == ("ok", True, False)
    assert row["message"] == ""
    assert row["validation_log_loss"] <= given["validation_log_loss"] + 1e-4
    if side:
        assert given["C_at_edge"]
        assert row["C_extended"] >= 1
        assert side * np.log(row["C"] / given["C"]) >= 0
    else:
        assert (row["C"], row["C_extended"]) == (given["C"], 0)


@pytest.mark.parametrize("Cs", [CS, np.array(CS), (0.1,)])
def test_a_grid_that_was_given_is_not_extended(Cs: Any) -> None:
    X, y = layers_of("separable", 8, np.random.default_rng(0))
    row = probe_layers({"h": X}, y, split=SPLIT, config=ProbeConfig(Cs=Cs)).iloc[0]
    assert row["C"] == max(Cs)
    assert row["C_at_edge"] == (len(Cs) > 1)
    assert pd.isna(row["C_extended"])


def test_a_loss_that_still_falls_at_the_last_decade_is_named_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.table.probe_config.MOST_DECADES", 1)
    X, y = layers_of("separable", 8, np.random.default_rng(0))
    row = probe_layers({"h": X}, y, split=SPLIT).iloc[0]
    assert (row["C"], row["C_at_edge"], row["C_extended"]) == (100.0, True, 1)
    assert row["message"] == "C=100 is where the extension of the grid ends; a better C may lie beyond it"


def test_an_interrupted_table_of_extended_grids_continues_byte_for_byte(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    kinds = ["separable", "noise", "ordinary", "separable"]
    layers = {f"{kind} {k}": layers_of(kind, 8 + k, rng)[0] for k, kind in enumerate(kinds)}
    y = np.random.default_rng(3).integers(4, size=N)  # of the first of them

    def stop(name: str) -> None:
        if name.startswith("noise"):
            raise KeyboardInterrupt

    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    table = probe_layers(layers, y, split=SPLIT, cache=whole)
    with pytest.raises(KeyboardInterrupt):
        probe_layers(layers, y, split=SPLIT, cache=cut, progress=stop)
    assert 0 < len(cut.read_bytes()) < len(whole.read_bytes())
    pd.testing.assert_frame_equal(probe_layers(layers, y, split=SPLIT, cache=cut), table, check_exact=True)
    assert cut.read_bytes() == whole.read_bytes()
    pd.testing.assert_frame_equal(probe_layers(layers, y, split=SPLIT), table, check_exact=True)
    assert table["C_extended"].sum() > 0
    # The same numbers as a grid that is not extended are another question.
    assert (probe_layers(layers, y, split=SPLIT, config=ProbeConfig(Cs=CS), cache=cut)["C_extended"].isna()).all()


# Ridge


@pytest.mark.parametrize(("kind", "d"), [(RidgeProbe, 5), (RegressionProbe, 60), (RidgeProbe, 250)])
def test_ridge_probes_leave_the_edge_of_the_default_grid(kind: Any, d: int) -> None:
    rng = np.random.default_rng(d)
    noise, y = rng.normal(size=(120, d)), rng.integers(3, size=120)
    exact = np.column_stack([y[:, np.newaxis] + 1e-7 * rng.normal(size=(120, d)), 1e6 * rng.normal(size=120)])
    for X in (noise, exact):
        probe, given = kind().fit(X, y), kind(ALPHAS).fit(X, y)
        assert not probe.alpha_at_edge_
        assert probe.loo_error_.shape == probe.alphas_.shape
        assert len(probe.alphas_) <= len(ALPHAS) + MOST_DECADES
        np.testing.assert_array_equal(probe.alphas_, np.sort(probe.alphas_))
        at = dict(zip(probe.alphas_, probe.loo_error_, strict=True))
        assert at[probe.alpha_] <= probe.loo_error_.min() + 1e-4 * y.var()
        np.testing.assert_array_equal(given.alphas_, ALPHAS)
        np.testing.assert_allclose([at[alpha] for alpha in ALPHAS], given.loo_error_)


def test_the_grid_of_ridge_is_extended_in_both_directions_and_bounded() -> None:
    # Features on a scale that no penalty of the grid suits, as standardisation is off.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 60))
    T = X[:, 0] + 2.0 * rng.normal(size=80)
    plain = RegressionProbe(standardize=False).fit(X, T)
    assert not plain.alpha_at_edge_
    for scale in (1e2, 1e-4):
        probe = RegressionProbe(standardize=False).fit(scale * X, T)
        assert not probe.alpha_at_edge_
        assert probe.alpha_ == pytest.approx(plain.alpha_ * scale**2, rel=1e-6)
        assert len(ALPHAS) < len(probe.alphas_) <= len(ALPHAS) + MOST_DECADES
    beyond = RegressionProbe(standardize=False).fit(1e20 * X, T)
    assert beyond.alpha_at_edge_
    assert beyond.alpha_ == beyond.alphas_[-1] == 1e12


# Networks


NETWORKS = {
    "digits": TrainingConfig(data="digits", depth=5, width=64, epochs=20, batch_size=64),
    "digits, no norm": TrainingConfig(data="digits", depth=3, width=32, norm="none", epochs=10, batch_size=64),
    "mnist5k": TrainingConfig(depth=4, width=64, epochs=6),
}
STEPS = (0, 40, 200)


def recorded(name: str) -> tuple[list[NetworkLayers], NDArray, NDArray]:
    """Return the hidden layers of a network at several steps, and labels and split of the stimuli."""
    config, dataset = NETWORKS[name], load_dataset(NETWORKS[name].data)
    order = np.random.default_rng(0).permutation(len(dataset.y))[:1600]
    X, y = torch.from_numpy(dataset.X[order]), torch.from_numpy(dataset.y[order])
    learner = build_learner(config, X.shape[1], 10)
    optimizer = build_optimizer(learner, config)
    stimuli, recordings = slice(1000, 1600), list[NetworkLayers]()

    def record(step: int) -> None:
        learner.network.eval()
        layers, h = dict[str, NDArray](), X[stimuli]
        with torch.no_grad():
            for k, segment in enumerate(learner.network.segments[:-1], start=1):
                h = segment(h)
                layers[f"hidden.{k}"] = h.numpy().copy()
        learner.network.train()
        recordings.append(NetworkLayers(layers=layers, network=name, checkpoint=step))

    record(0)
    seen = X[:1000], y[:1000]
    for step in train(learner, optimizer, *seen, config):
        if step.step in STEPS:
            record(step.step)
    return recordings, y[stimuli].numpy(), np.resize(["train", "train", "validation", "test"], 600)


def test_few_probes_of_a_recorded_network_end_at_the_edge_of_the_grid() -> None:
    tables = []
    for name in NETWORKS:
        recordings, y, split = recorded(name)
        targets = {"digit": y, "parity": y % 2, "seven": (y == 7).astype(int)}
        tables.append(probe_layers(recordings, targets, split=split, config=ProbeConfig(tol=1e-3)))
    table = pd.concat(tables)
    n_edge, n_extended = int(table["C_at_edge"].sum()), int((table["C_extended"] > 0).sum())
    assert table["status"].eq("ok").all()
    assert len(table) > 80
    assert n_extended > 0.1 * len(table)
    assert n_edge <= 0.05 * len(table)
