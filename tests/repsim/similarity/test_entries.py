"""Measures, distances, comparators and statistics that are added from outside the package."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from checkpoints import Capture, Run, Stimuli
from repsim.similarity import (
    COMPARATORS,
    DISTANCES,
    MEASURES,
    STATISTICS,
    Comparator,
    Distance,
    Measure,
    Statistic,
    compare_rdm_pairs,
    compare_rdms,
    evaluate_models,
    linear_cka,
    mantel_test,
    pairwise,
    rdm,
    rsa,
    streamed_pairwise,
)
from repsim.similarity.entries import About, Entry, choose
from repsim.similarity.measures.measure import Streamed

Layers = dict[str, np.ndarray]


@pytest.fixture
def layers(rng: np.random.Generator) -> Layers:
    return {"a": rng.normal(size=(12, 3)), "b": rng.normal(size=(12, 4))}


# Plain functions


def largest_difference(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.abs(x - y).max())


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_a_function_of_two_patterns_is_a_distance(layers: Layers) -> None:
    expected = rdm(layers["a"], "chebyshev")
    np.testing.assert_allclose(rdm(layers["a"], largest_difference), expected, rtol=1e-15)
    means = rdm(layers["a"], largest_difference, labels=np.arange(12) // 3)
    np.testing.assert_allclose(means, rdm(layers["a"], "chebyshev", labels=np.arange(12) // 3), rtol=1e-15)


def test_a_distance_that_is_not_defined_is_nan_with_one_warning(layers: Layers) -> None:
    with pytest.warns(RuntimeWarning, match=r"^X: the none distance of 66 of 66 pairs is not defined") as caught:
        assert np.isnan(rdm(layers["a"], Distance.from_function("none", lambda x, y: np.nan))).all()
    assert len(caught) == 1


def test_a_function_of_two_rdms_is_a_comparator(layers: Layers) -> None:
    A, B = (rdm(layer, "euclidean") for layer in layers.values())
    assert compare_rdms(A, B, pearson) == pytest.approx(compare_rdms(A, B), abs=1e-12)
    table = compare_rdm_pairs({"A": A}, {"A": A, "B": B}, pearson)
    np.testing.assert_allclose(table.values, compare_rdm_pairs({"A": A}, {"A": A, "B": B}).values, atol=1e-12)
    assert (table.measure, table.direction) == ("pearson", "similarity")
    assert rsa(layers["a"], layers["b"], distance=largest_difference, comparator=pearson) == pytest.approx(
        rsa(layers["a"], layers["b"], distance="chebyshev"), abs=1e-12
    )


def test_a_function_of_two_rdms_is_resampled_by_the_jackknife_and_permuted(layers: Layers) -> None:
    models, data = ({name: rdm(layer, "euclidean")} for name, layer in layers.items())
    result = evaluate_models(models, data, method=pearson, n_samples=24, n_permutations=50)
    tau = evaluate_models(models, data, method="tau-b", n_samples=24, n_permutations=50)
    assert (result.method, result.resampling, tau.resampling) == ("pearson", "jackknife", "jackknife")
    assert result.means[0] == pytest.approx(evaluate_models(models, data, over="none").means[0], abs=1e-12)
    assert result.frame()["standard_error"][0] > 0
    tests = [mantel_test(models, data["b"], method=method, n_permutations=50) for method in (pearson, "pearson")]
    np.testing.assert_allclose(tests[0].null, tests[1].null, atol=1e-12)


# Entries of one's own


def test_a_measure_in_the_registry_is_known_by_name(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    gap = Measure(
        name="gap",
        label="gap of means",
        prepare=lambda X, name: X.mean(),
        compare=lambda x, y: abs(x - y),
        range=(0.0, np.inf),
        direction="distance",
        streamed=Streamed(from_sums=lambda sums: np.zeros((len(sums.names),) * 2)),
        about=About(formula="|x̄ − ȳ|"),
    )
    monkeypatch.setitem(MEASURES, "gap", gap)
    table = pairwise(layers, measure="gap")
    assert table.values[0, 1] == gap(*layers.values()) == abs(layers["a"].mean() - layers["b"].mean())
    assert (table.measure, table.direction) == ("gap", "distance")
    assert not streamed_pairwise(layers, measure="gap").values.any()
    with pytest.raises(ValueError, match=r"^X has 11 samples and Y has 12"):
        gap(layers["a"][1:], layers["b"])


def test_a_distance_in_the_registry_is_known_by_name(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DISTANCES, "mine", Distance.from_function("mine", largest_difference))
    np.testing.assert_allclose(rdm(layers["a"], "mine"), rdm(layers["a"], "chebyshev"), rtol=1e-15)
    assert rsa(*layers.values(), distance="mine") == pytest.approx(rsa(*layers.values(), distance="chebyshev"))


def test_a_comparator_in_the_registry_is_resampled_by_its_weighted_form(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = COMPARATORS["cosine"]
    mine = Comparator(
        name="mine", prepare=known.prepare, compare=known.compare, pool=known.pool, weighted=known.weighted
    )
    monkeypatch.setitem(COMPARATORS, "mine", mine)
    models, data = ({name: rdm(layer, "euclidean")} for name, layer in layers.items())
    ours, theirs = (evaluate_models(models, data, method=name, n_samples=20) for name in ("mine", "cosine"))
    np.testing.assert_array_equal(ours.samples, theirs.samples)
    assert ours.resampling == "bootstrap"


def test_a_statistic_in_the_registry_is_known_by_name(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STATISTICS, "largest", Statistic.from_function("largest", np.max))
    assert STATISTICS["largest"].function(layers["a"]) == layers["a"].max()


def test_a_measure_is_a_function_of_two_arrays(layers: Layers) -> None:
    assert MEASURES["cka"](*layers.values()) == linear_cka(*layers.values())


# Other packages, and the command line

MINE = """
from dataclasses import replace

import numpy as np
from repsim.similarity import COMPARATORS, Measure, Statistic

gap = Measure(name="gap", prepare=lambda X, name: X.mean(), compare=lambda x, y: abs(x - y), direction="distance")
top = Statistic.from_function("top", np.max)
near = replace(COMPARATORS["cosine"], name="near")


def farthest(x, y):
    return float(np.abs(x - y).max())
"""
POINTS = """
[repsim.measures]
gap = mine:gap
broken = nowhere:gap
[repsim.distances]
farthest = mine:farthest
[repsim.comparators]
near = mine:near
[repsim.statistics]
top = mine:top
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Make the folder of an installed package that offers one entry of each kind, and a broken one."""
    (tmp_path / "mine-1.0.dist-info").mkdir()
    (tmp_path / "mine-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (tmp_path / "mine-1.0.dist-info/entry_points.txt").write_text(POINTS)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


SCRIPT = """
from analysis.cli import main
from mine import farthest, gap
from repsim.similarity import register_distance, register_measure

register_measure("gap")(gap)
register_distance("farthest")(farthest)
main()
"""


@pytest.mark.parametrize(
    ("start", "executor", "offers"), [("-m analysis", "processes", True), ("script.py", "serial", False)]
)
def test_the_command_line_uses_entries_of_packages_and_scripts(
    package: Path, layers: Layers, start: str, executor: str, offers: bool
) -> None:
    (package / "script.py").write_text(SCRIPT)
    if not offers:
        (package / "mine-1.0.dist-info/entry_points.txt").unlink()
    splits = ["train", "validation", "test"] * 4
    stimuli = Stimuli.of([f"{k}" for k in range(12)], np.arange(12) % 2, splits, layers["a"])
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)).double()
    with Run.create(package / "run", {}, stimuli) as run:
        run.checkpoint(1, network, capture=Capture(network))
    line = f"{start} analyze run --measures gap --distance farthest --executor {executor} --jobs 1"
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, *line.split()]
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(package / "run/analysis/similarity.csv")["gap"].gt(0).any()


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pairwise({"a": np.eye(5)}, measure=3), "^measure is 3; .* Measure, or a function of two arrays"),
        (lambda: rdm(np.eye(3), None), "^method is None; .* Distance, or a function of two patterns"),
        (lambda: compare_rdms([1, 2, 3], [1, 2, 4], 0.5), r"^method is 0\.5; .* Comparator, or a function of two cond"),
        (lambda: pairwise({"a": np.eye(5)}, measure=COMPARATORS["cosine"]), "^measure is Comparator.* a Measure"),
    ],
)
def test_other_objects_than_names_entries_and_functions_are_refused(call: Callable, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_a_function_without_a_name_is_named_after_its_kind() -> None:
    class Same:
        def __call__(self, x: np.ndarray, y: np.ndarray) -> float:
            return 1.0

    assert choose(Same(), MEASURES, Measure, "measure").name == "own measure"


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^The range \(1, 0\) is empty; expected \(smallest, largest\)\.$"):
        Entry(name="entry", range=(1, 0))
