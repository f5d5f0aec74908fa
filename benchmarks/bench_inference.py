"""Errors of inference on RDMs: false-positive rates and coverage of `evaluate_models`, by simulation.

``python benchmarks/bench_inference.py`` prints two tables for every comparator, resampled factor and number of stimuli:

- how often models that are unrelated to the data get p <= 0.05: against chance, and against each other;
- how often 95 % intervals contain the expected value, that is, the mean over repetitions of the whole experiment with
  as many other stimuli, other networks, or both; the same of the difference of two models; and, over stimuli, how often
  they contain the value for very many stimuli, of which that for few is a biased estimate for some comparators.

Rates are in per cent, with the binomial standard error of the nominal rate in the heading. Data are squared Euclidean
RDMs of five networks, each a noisy linear map of the same six features. Models are unrelated features, or the features
with noise of their own.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.stats import t as student

from repsim.similarity import COMPARATORS, ModelEvaluation, evaluate_models

FEATURES, NETWORKS, SAMPLES, PERMUTATIONS = 6, 5, 50, 99
OVER = ("stimuli", "networks", "both")
SIZES = (8, 12, 30)
MANY = 300  # stimuli, for the value of very many

Arrays = dict[str, NDArray[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Print false-positive rates and coverage of evaluate_models.")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--methods", nargs="+", default=list(COMPARATORS), choices=list(COMPARATORS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # of samples of 8 stimuli that are left out
    started = time.perf_counter()
    for table in (false_positives, coverage):
        for line in table(arguments.methods, arguments.sizes, arguments.draws):
            print(line, flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")


def false_positives(methods: list[str], sizes: list[int], draws: int) -> Iterator[str]:
    """Yield the lines of the table of false-positive rates."""
    yield f"\n## False positives: p <= 0.05, of {draws} draws ({_nominal(5, draws)} %)\n"
    yield from _header(["above chance", "difference"], sizes)
    for method in methods:
        found = {n: np.mean(list(_unrelated_findings(method, n, draws)), axis=0) for n in sizes}  # (over, question)
        yield from _rows(method, [[found[n][o, q] for q in range(2) for n in sizes] for o in range(len(OVER))])


def _unrelated_findings(method: str, n: int, draws: int) -> Iterator[list[list[bool]]]:
    """Yield, for every draw, whether there are findings: for each way to resample, above chance and of a difference."""
    for seed in range(draws):
        rng = np.random.default_rng([seed, n])
        data = _networks(rng.normal(size=(n, FEATURES)), _maps(rng), rng)
        models = {name: pdist(rng.normal(size=(n, FEATURES)), "sqeuclidean") for name in "ab"}
        result = _evaluated(models, data, method, "both", seed, PERMUTATIONS)
        yield [
            [bool(each.frame()["p_above_chance"][0] <= 0.05), bool(each.compare_models("none")["p"][0] <= 0.05)]
            for each in (replace(result, over=over, draws=_of(result, over)) for over in OVER)
        ]


def coverage(methods: list[str], sizes: list[int], draws: int) -> Iterator[str]:
    """Yield the lines of the table of coverage."""
    yield f"\n## Coverage of 95 % intervals, of {draws} draws ({_nominal(95, draws)} %)\n"
    yield from _header(["expected value", "difference", "very many stimuli"], sizes)
    for method in methods:
        limit = _limit(method)
        found = {(over, n): _covered(method, n, over, draws, limit) for over in OVER for n in sizes}
        yield from _rows(method, [[found[over, n][q] for q in range(3) for n in sizes] for over in OVER])


def _covered(method: str, n: int, over: str, draws: int, limit: float) -> tuple[float, float, float]:
    """Return the coverage of the expected value, of the expected difference, and of the limit (over stimuli only)."""
    intervals, differences = [], []
    for seed in range(draws):
        models, data = _experiment(n, over, seed)
        result = _evaluated(models, data, method, over, seed, 1)
        table, pair = result.frame(), result.compare_models("none")
        intervals.append([table["value"][0], table["low"][0], table["high"][0]])
        degrees = {"stimuli": n, "networks": NETWORKS, "both": min(n, NETWORKS)}[over] - 1
        reach = student.ppf(0.975, degrees) * pair["standard_error"][0]
        differences.append([pair["difference"][0], pair["difference"][0] - reach, pair["difference"][0] + reach])
    value, difference = np.transpose(intervals), np.transpose(differences)
    many = _contain(value, limit) if over == "stimuli" else np.nan
    return _contain(value, value[0].mean()), _contain(difference, difference[0].mean()), many


def _experiment(n: int, over: str, seed: int) -> tuple[Arrays, Arrays]:
    """Return models and data in which only what is resampled differs from one seed to another."""
    new, same = np.random.default_rng([seed, n, 1]), np.random.default_rng(n)
    stimuli, networks = (new if over in (each, "both") else same for each in ("stimuli", "networks"))
    maps, X = _maps(networks), stimuli.normal(size=(n, FEATURES))
    models = {name: pdist(X + stimuli.normal(size=X.shape) / 2, "sqeuclidean") for name in "ab"}
    return models, _networks(X, maps, new)


def _limit(method: str) -> float:
    """Return the value of the first model for many stimuli and the networks of the study over stimuli."""
    values = []
    for seed in range(3):
        new = np.random.default_rng([seed, 2])
        X = new.normal(size=(MANY, FEATURES))
        model = {"a": pdist(X + new.normal(size=X.shape) / 2, "sqeuclidean")}
        data = _networks(X, _maps(np.random.default_rng(0)), new)
        values.append(evaluate_models(model, data, method=method, over="none", ceilings=False).means[0])
    return float(np.mean(values))


def _maps(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.eye(FEATURES) + rng.normal(size=(NETWORKS, FEATURES, FEATURES)) / 3


def _networks(X: NDArray[np.float64], maps: NDArray[np.float64], rng: np.random.Generator) -> Arrays:
    return {str(k): pdist(X @ each + rng.normal(size=X.shape), "sqeuclidean") for k, each in enumerate(maps)}


def _evaluated(models: Arrays, data: Arrays, method: str, over: str, seed: int, n_permutations: int) -> ModelEvaluation:
    return evaluate_models(
        models,
        data,
        method=method,
        over=over,
        n_samples=SAMPLES,
        n_permutations=n_permutations,
        ceilings=False,
        seed=seed,
    )


def _of(result: ModelEvaluation, over: str) -> dict:
    return dict(result.draws) if over == "both" else {over: result.draws[over]}


def _contain(intervals: NDArray[np.float64], target: float) -> float:
    """Return the share of intervals, rows (value, low, high), that contain the target."""
    return float(((intervals[1] <= target) & (target <= intervals[2])).mean())


def _nominal(rate: float, draws: int) -> str:
    return f"nominal: {rate:g} ± {np.sqrt(rate * (100 - rate) / draws):.1f}"


def _header(questions: list[str], sizes: list[int]) -> list[str]:
    columns = [f"{question}, n = {n}" for question in questions for n in sizes]
    return [f"| comparator | over | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]


def _rows(method: str, rates: list[list[float]]) -> list[str]:
    cells = [" | ".join("-" if np.isnan(rate) else f"{100 * rate:.1f}" for rate in row) for row in rates]
    return [f"| {method} | {over} | {row} |" for over, row in zip(OVER, cells, strict=True)]


if __name__ == "__main__":
    main()
