"""What results look like: artists and tables, never pixels."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from repsim import pairwise, rdm
from repsim.similarity import (
    compare_groups,
    evaluate_models,
    fit_models,
    mantel_test,
    regression_rsa,
)
from repsim.similarity.drawing.result_figures import new_axes

HOSTILE = "<script>alert(1)</script> & $x$"
X = np.random.default_rng(0).normal(size=(12, 4))
MODELS = {HOSTILE: rdm(X, "euclidean"), "noise": rdm(np.random.default_rng(1).normal(size=(12, 4)), "euclidean")}
DATA = {f"seed {k}": rdm(X + np.random.default_rng(k).normal(size=X.shape), "euclidean") for k in range(3)}


def groups() -> Any:
    S = np.full((2, 8, 8), 0.9)
    S[0, :4, 4:] = S[0, 4:, :4] = 0.5
    return compare_groups(S + np.eye(8), ["bp"] * 4 + [HOSTILE] * 4, reference="bp")


RESULTS: dict[str, Callable[[], Any]] = {
    "Pairwise": lambda: pairwise({HOSTILE: X, "first": X[:, :1]}),
    "ModelEvaluation": lambda: evaluate_models(MODELS, DATA, n_samples=50),
    "GroupTest": groups,
    "MantelTest": lambda: mantel_test(MODELS, DATA["seed 0"], n_permutations=50),
    "Regression": lambda: regression_rsa(DATA["seed 0"], MODELS),
    "FittedModels": lambda: fit_models(DATA, MODELS),
}


@pytest.fixture(params=RESULTS)
def result(request: pytest.FixtureRequest) -> Any:
    found = RESULTS[request.param]()
    assert type(found).__name__ == request.param
    return found


def ticks(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_a_result_shows_itself_with_names_escaped(result: Any) -> None:
    html = result._repr_html_()
    assert "<table" in html
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x$" in html


def test_a_result_draws_on_the_axes_it_is_given_or_on_new_ones(result: Any) -> None:
    ax = Figure().add_subplot()
    assert result.plot(ax=ax) is ax
    new = result.plot()
    assert new is not ax
    assert new._repr_png_().startswith(b"\x89PNG")
    assert len(new.get_children()) == len(ax.get_children())


def test_pyplot_is_left_alone(result: Any) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    result.plot()
    assert plt.get_fignums() == before


def test_a_pairwise_table_is_a_heat_map() -> None:
    table = pairwise({"a": X, "b": X[:, :2]}, {"c": X[:, 1:], HOSTILE: X, "e": X[:, 2:]})
    ax = table.plot()
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), table.values)
    assert ticks(ax.yaxis) == ["a", "b"]
    first, hostile, last = ticks(ax.xaxis)
    assert (first, last) == ("c", "e")
    assert hostile.startswith("<script>")
    assert hostile.endswith(r"\$x\$")
    assert ax.get_figure().get_supxlabel().endswith("= " + HOSTILE.replace("$", r"\$"))
    bar = ax.get_figure().axes[1]
    assert bar.get_ylabel() == "cka"


def test_undefined_values_are_hatched() -> None:
    with pytest.warns(RuntimeWarning, match="constant|undefined"):
        table = pairwise({"a": X, "flat": np.ones((12, 2))})
    ax = table.plot()
    assert ax.images[0].get_array().mask.tolist() == np.isnan(table.values).tolist()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["undefined"]


def test_of_many_layers_some_are_named() -> None:
    table = pairwise({f"layer {k}": X for k in range(70)})
    ax = table.plot()
    for axis in (ax.xaxis, ax.yaxis):
        assert 10 <= len(ticks(axis)) <= 40
        assert ticks(axis) == [f"layer {place:.0f}" for place in axis.get_ticklocs()]


def test_an_evaluation_shows_intervals_and_the_ceiling() -> None:
    result = evaluate_models(MODELS, DATA, n_samples=50)
    ax = result.plot(level=0.8)
    frame = result.frame(0.8)
    points = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(points.get_xdata(), frame["value"])
    lines = ax.collections[0].get_segments()
    np.testing.assert_array_equal([[line[0][0], line[1][0]] for line in lines], frame[["low", "high"]])
    (band,) = ax.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx(result.noise_ceiling)
    assert ax.get_xlabel() == "pearson"
    assert ax.yaxis_inverted()


def test_a_mantel_test_is_drawn_over_its_null_distribution() -> None:
    result = mantel_test(MODELS, DATA["seed 0"], n_permutations=50)
    ax = result.plot()
    lines = ax.collections[0].get_segments()
    expected = np.percentile(result.null, [2.5, 97.5], axis=0).T
    np.testing.assert_array_equal([[line[0][0], line[1][0]] for line in lines], expected)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), result.values)


def test_cases_of_groups_can_be_named() -> None:
    assert ticks(groups().plot().yaxis) == ["case 1", "case 2"]
    assert ticks(groups().plot(["hidden.1", "_b"]).yaxis) == ["hidden.1", " _b"]
    with pytest.raises(ValueError, match="1 names were given for 2 cases; expected one name per case"):
        groups().plot(["hidden.1"])


def test_weights_are_bars() -> None:
    result = regression_rsa(DATA["seed 0"], MODELS)
    ax = result.plot()
    assert [bar.get_width() for bar in ax.patches] == list(result.unique.values())
    assert ax.lines[0].get_xdata()[0] == result.r2
    assert result.frame()["coefficient"].tolist() == list(result.coefficients.values())


def test_importing_imports_no_matplotlib() -> None:
    script = "import sys, repsim, repsim.similarity, probes, checkpoints; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0


def test_importing_similarity_imports_no_pandas() -> None:
    script = "import sys, repsim.similarity; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0


def test_new_axes_have_the_given_size() -> None:
    assert new_axes(3.0, 2.0).get_figure().get_size_inches().tolist() == [3.0, 2.0]
