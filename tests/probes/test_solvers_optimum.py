"""Probes find the optimum that scikit-learn's exact Newton method finds, to within the certificates of both.

The oracle is `LogisticRegression(solver="newton-cholesky", tol=1e-12)` in double precision; any warning of it, such as
that it fell back on another method, is a failure. The optimum W* lies within sqrt(2 gap) of either side's W.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax
from sklearn.datasets import load_digits, load_iris, make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from analysis import RecordingConfig, train_run
from analysis.workflows.demo import DEMO_RUNS
from probes import SOLVERS, LogisticProbe
from probes.solvers import Fit, LogisticProblem, lbfgs_many
from probes.solvers.certificate import certify
from probes.solvers.example_space import ExampleSpace, pays
from probes.solvers.path import fit_paths
from probes.solvers.solver_settings import SolverSettings

Array = NDArray[np.float64]

DEFAULT, TIGHT = 1e-6, 1e-14
ROUNDING = 1e-9  # of a distance between coefficients
LAYERS = ("hidden.1", "hidden.10", "hidden.20")

EACH_SOLVER = pytest.mark.parametrize("solver", ["lbfgs", "newton"])  # "auto" is one of these


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is asked of a probe, and scikit-learn's answer in the features that coefficients refer to."""

    X: Array
    y: NDArray
    C: float = 1.0
    standardize: bool = True
    sample_weight: Array | None = None
    class_weight: Any = None

    def probe(self, solver: str, tol: float) -> LogisticProbe:
        options: dict[str, Any] = {"standardize": self.standardize, "class_weight": self.class_weight}
        return LogisticProbe(self.C, solver=solver, tol=tol, **options).fit(self.X, self.y, self.sample_weight)

    @cached_property
    def Z(self) -> Array:
        if not self.standardize:
            return self.X
        return StandardScaler().fit(self.X, sample_weight=self.sample_weight).transform(self.X)

    @cached_property
    def codes(self) -> NDArray[np.intp]:
        return np.unique(self.y, return_inverse=True)[1]

    @cached_property
    def s(self) -> Array:
        """The weight of each example times that of its class."""
        s = np.ones(len(self.y)) if self.sample_weight is None else self.sample_weight
        if self.class_weight is None:
            return s
        if self.class_weight == "balanced":
            totals = np.bincount(self.codes, s)
            return s * (s.sum() / (len(totals) * totals))[self.codes]
        return s * np.array([self.class_weight[label] for label in self.y])

    @cached_property
    def oracle(self) -> LogisticRegression:
        model = LogisticRegression(
            C=self.C, solver="newton-cholesky", tol=1e-12, max_iter=200, class_weight=self.class_weight
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return model.fit(self.Z, self.y, self.sample_weight)

    def error(self, coef: Array, intercept: Array) -> float:
        """How far coefficients are from W* at most, by the certificate."""
        return float(np.sqrt(2.0 * certify(self.Z, self.codes, self.C, coef, intercept, self.s).gap))

    def relative_gap(self, coef: Array, intercept: Array) -> float:
        """Half of |W + sum_i C s_i (p_i - y_i) z_i|^2 at the best intercept, over the objective, from scratch."""
        one_row, targets = len(coef) == 1, np.eye(max(2, len(coef)))[self.codes]
        logits = self.Z @ coef.T + intercept
        logits = np.hstack([np.zeros_like(logits), logits]) if one_row else logits
        for _ in range(10):
            p = softmax(logits, axis=1)
            slope = self.s @ (p - targets)
            logits = logits - np.linalg.lstsq(np.diag(self.s @ p) - (self.s * p.T) @ p, slope)[0]
        alpha = self.C * self.s[:, np.newaxis] * (softmax(logits, axis=1) - targets)
        G = coef + alpha[:, -len(coef) :].T @ self.Z
        loss = -self.C * self.s @ np.sum(targets * log_softmax(logits, axis=1), axis=1)
        return float(0.5 * np.sum(G**2) / (loss + 0.5 * np.sum(coef**2)))


def assert_within_certificates(case: Case, coef: Array, intercept: Array) -> None:
    """Assert that coefficients are as near to those of scikit-learn as both certificates promise."""
    theirs = case.error(case.oracle.coef_, case.oracle.intercept_)
    assert theirs <= 1e-6  # else the comparison says little
    distance = np.linalg.norm(coef - case.oracle.coef_)
    assert distance <= case.error(coef, intercept) + theirs + ROUNDING


def centred(intercept: Array) -> Array:
    return intercept if len(intercept) == 1 else intercept - intercept.mean()


# Cases


def noisy(n: int, d: int, n_classes: int, seed: int = 0) -> tuple[Array, NDArray[np.intp]]:
    """Features, and classes that are read from them with errors."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, np.argmax(X @ rng.normal(size=(d, n_classes)) + 2.0 * rng.normal(size=(n, n_classes)), axis=1)


def from_noise(n: int, d: int, n_classes: int, **options: Any) -> Case:
    X, y = noisy(n, d, n_classes)
    return Case(X=X, y=y, **options)


def named_classes_unstandardised() -> Case:
    X, y = load_iris(return_X_y=True)
    return Case(X=X, y=np.array(["setosa", "versicolor", "virginica"])[y], standardize=False)


def ten_classes_unstandardised() -> Case:
    X, y = load_digits(return_X_y=True)
    return Case(X=X[:400], y=y[:400], C=0.01, standardize=False)


def a_class_of_one_example() -> Case:
    X, y = noisy(120, 6, 3)
    return Case(X=X, y=np.where(np.arange(120) == 7, 3, y))


def balanced_classes_and_sample_weights() -> Case:
    X, y = noisy(200, 8, 3)
    return Case(X=X, y=np.minimum(y, 1), class_weight="balanced", sample_weight=np.arange(200) % 3.0)


def sample_weights(n_classes: int, draw: Callable[[np.random.Generator], Array], **options: Any) -> Case:
    return from_noise(200, 8, n_classes, sample_weight=draw(np.random.default_rng(1)), **options)


def separable(n_classes: int, C: float) -> Case:
    X, y = make_blobs(150, n_features=5, centers=10.0 * np.eye(n_classes, 5), random_state=0)
    return Case(X=X, y=y, C=C)


def constant_features(*, standardize: bool) -> Case:
    X, y = noisy(150, 6, 3)
    constants = np.broadcast_to([0.0, 0.1, -3.0], (150, 3))
    return Case(X=np.hstack([X[:, :3], constants, X[:, 3:]]), y=y, standardize=standardize)


def a_feature_that_is_constant_wherever_it_weighs() -> Case:
    X, y = noisy(150, 6, 3)
    s = np.arange(150) % 3.0
    X[:, 2] = np.where(s > 0, 0.1, X[:, 2])
    return Case(X=X, y=y, sample_weight=s)


def correlated_features(*, standardize: bool) -> Case:
    X, y = noisy(200, 3, 3)
    rng = np.random.default_rng(1)
    return Case(
        X=X @ rng.normal(size=(3, 30)) + 1e-4 * rng.normal(size=(200, 30)), y=y, C=10.0, standardize=standardize
    )


def features_of_unlike_scale() -> Case:
    X, y = noisy(200, 8, 3)
    return Case(X=X * np.logspace(-2, 2, 8) + np.logspace(2, -2, 8), y=y, standardize=False)


def more_features_than_examples(n_classes: int) -> Case:
    return from_noise(60, 300, n_classes, C=0.1)


CASES: dict[str, Callable[[], Case]] = {
    "two classes": lambda: from_noise(200, 10, 2),
    "named classes, unstandardised": named_classes_unstandardised,
    "ten classes, unstandardised": ten_classes_unstandardised,
    "a class of one example": a_class_of_one_example,
    "sample weights, some zero": lambda: sample_weights(3, lambda rng: rng.integers(4, size=200) / 2.0),
    "sample weights, unstandardised": lambda: sample_weights(
        2, lambda rng: rng.exponential(size=200), standardize=False
    ),
    "class weights": lambda: from_noise(200, 8, 3, class_weight={0: 0.3, 1: 1.0, 2: 5.0}),
    "balanced classes and sample weights": balanced_classes_and_sample_weights,
    "two separable classes, C = 1": lambda: separable(2, C=1.0),
    "two separable classes, C = 100": lambda: separable(2, C=100.0),
    "three separable classes, C = 1": lambda: separable(3, C=1.0),
    "three separable classes, C = 100": lambda: separable(3, C=100.0),
    "constant features": lambda: constant_features(standardize=True),
    "constant features, unstandardised": lambda: constant_features(standardize=False),
    "a feature that is constant wherever it weighs": a_feature_that_is_constant_wherever_it_weighs,
    "correlated features": lambda: correlated_features(standardize=True),
    "correlated features, unstandardised": lambda: correlated_features(standardize=False),
    "features of unlike scale, unstandardised": features_of_unlike_scale,
    "more features than examples, two classes": lambda: more_features_than_examples(2),
    "more features than examples, three classes": lambda: more_features_than_examples(3),
}


@pytest.fixture(scope="module")
def demo_layers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Layers of the demo's network after some dozen updates, of the stimuli that the demo probes."""
    training = replace(DEMO_RUNS["backprop"], epochs=2)
    run = train_run(tmp_path_factory.mktemp("demo") / "run", training, RecordingConfig(steps="last", layers=LAYERS))
    train = run.stimuli.split == "train"
    return {
        name: Case(X=run.last()[name][train].astype(np.float64), y=run.stimuli.labels[train], C=0.1) for name in LAYERS
    }


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]() if request.param in CASES else request.getfixturevalue("demo_layers")[request.param]


EACH_CASE_AND_SOLVER = pytest.mark.parametrize(
    ("case", "solver"),
    [(name, solver) for name in CASES for solver in ("lbfgs", "newton")]
    + [(LAYERS[0], "lbfgs"), (LAYERS[1], "lbfgs"), (LAYERS[2], "lbfgs"), (LAYERS[2], "newton")],
    indirect=["case"],
)


@EACH_CASE_AND_SOLVER
def test_a_fit_is_as_near_to_the_optimum_as_it_certifies(case: Case, solver: str) -> None:
    probe = case.probe(solver, DEFAULT)
    assert probe.converged_
    assert_within_certificates(case, probe.coef_, probe.intercept_)
    gap = case.relative_gap(probe.coef_, probe.intercept_)
    assert gap <= DEFAULT
    assert probe.relative_gap_ == pytest.approx(gap, rel=1e-3, abs=1e-13)
    probe = case.probe(solver, TIGHT)  # has the probabilities and the intercept of the optimum
    assert probe.converged_
    assert_within_certificates(case, probe.coef_, probe.intercept_)
    np.testing.assert_allclose(probe.predict_proba(case.X), case.oracle.predict_proba(case.Z), rtol=0, atol=1e-6)
    np.testing.assert_allclose(probe.intercept_, centred(case.oracle.intercept_), rtol=0, atol=1e-5)


# Many fits of the same features


CS = (0.01, 1.0, 100.0)
EACH_TOLERANCE = pytest.mark.parametrize("tol", [DEFAULT, TIGHT])
EACH_WIDE = pytest.mark.parametrize("n_classes", [2, 3])


@cache
def wide(n_classes: int, C: float) -> Case:
    return replace(more_features_than_examples(n_classes), C=C)


def assert_is_optimum(case: Case, fit: Fit, tol: float) -> None:
    assert fit.converged
    assert case.relative_gap(fit.coef, fit.intercept) <= 1.001 * tol
    assert_within_certificates(case, fit.coef, fit.intercept)
    if tol == TIGHT:
        expected = case.oracle.predict_proba(case.Z)[:, -len(fit.coef) :]
        logits = fit.logits(case.Z)
        probabilities = expit(logits) if len(fit.coef) == 1 else softmax(logits, axis=1)
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("C", "tol"), [(0.01, TIGHT), (1.0, DEFAULT), (100.0, TIGHT)])
@EACH_WIDE
@EACH_SOLVER
def test_each_fit_of_a_path_over_wide_features_is_its_optimum(
    n_classes: int, C: float, solver: str, tol: float
) -> None:
    case = wide(n_classes, C)
    assert pays(case.Z, len(CS))
    losses = iter([float(each != C) for each in CS])  # so that C is chosen
    settings = SolverSettings(solver=solver, tol=tol)
    (path,) = fit_paths([case.Z], case.codes, CS, [lambda fit: next(losses)], starts=[None], settings=settings)
    assert path.Cs[path.best] == C
    assert_is_optimum(case, path.fit, tol)


@EACH_TOLERANCE
@EACH_WIDE
@EACH_SOLVER
def test_fit_in_the_space_of_the_examples_expands_to_the_optimum(n_classes: int, solver: str, tol: float) -> None:
    case = wide(n_classes, 1.0)
    reduction = ExampleSpace(case.Z)
    assert reduction.X.shape[1] < 60  # centring took one
    small = SOLVERS[solver](reduction.X, case.codes, case.C, tol=tol / 2)
    assert_is_optimum(case, reduction.expanded(small, case.codes, case.C, tol=tol), tol)


@EACH_TOLERANCE
@pytest.mark.parametrize("n_classes", [2, 4])
def test_problems_that_are_solved_at_once_have_their_own_optima(n_classes: int, tol: float) -> None:
    X, y = noisy(150, 12, n_classes)
    rng = np.random.default_rng(1)
    plain = Case(X=X, y=y, standardize=False)
    cases = [
        *(replace(plain, C=C) for C in CS),
        replace(plain, sample_weight=rng.integers(3, size=150).astype(float)),
        replace(plain, y=rng.permutation(y)),
    ]
    problems = [LogisticProblem(y=each.codes, C=each.C, sample_weight=each.sample_weight) for each in cases]
    for each, fit in zip(cases, lbfgs_many(X, problems, tol=tol), strict=True):
        assert_is_optimum(each, fit, tol)
