import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from repsim.similarity import MEASURES, Moments, minibatch_cka, pairwise, streamed_pairwise
from tests.repsim.similarity.slow_hsic import ratio, three_terms_unbiased

STREAMED = [name for name, measure in MEASURES.items() if measure.streamed is not None]

Layers = dict[str, np.ndarray]


@pytest.fixture
def layers(rng: np.random.Generator) -> Layers:
    """Layers that share what is in them, of unequal widths, scales and means far from zero."""
    X = rng.normal(size=(90, 6)) * np.linspace(1, 3, 6)
    weights = [rng.normal(size=(6, 9)), rng.normal(size=(6, 4))]
    return {"a": X + 50, "b": 30 * np.tanh(X @ weights[0]) - 7, "c": X @ weights[1] + rng.normal(size=(90, 4))}


def in_blocks(layers: Layers, rows: int) -> Iterator[Layers]:
    n = len(next(iter(layers.values())))
    for start in range(0, n, rows):
        yield {name: layer[start : start + rows] for name, layer in layers.items()}


@pytest.mark.parametrize("measure", STREAMED)
def test_sums_over_blocks_equal_the_result_in_memory(layers: Layers, measure: str) -> None:
    for rows in [1, 7, 30, 90]:
        moments = Moments()
        for block in in_blocks(layers, rows):
            moments.update(block)
        result, expected = moments.pairwise(measure), pairwise(layers, measure=measure)
        tolerance = 1e-7 if "procrustes" in measure else 1e-10  # acos and sqrt are steep between equals
        np.testing.assert_allclose(result.values, expected.values, atol=tolerance)
        np.testing.assert_allclose(
            result.values[[0, 0, 1], [1, 2, 2]], expected.values[[0, 0, 1], [1, 2, 2]], atol=1e-10
        )
        assert (result.rows, result.columns, result.measure) == (expected.rows, expected.columns, measure)


@pytest.mark.parametrize("memory", [2**30, 8 * 3 * 20**2])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_streamed_sums_use_the_given_device_and_memory(layers: Layers, device: str, memory: int) -> None:
    for measure in ("cka", "cka_biased"):
        values = streamed_pairwise(layers, measure=measure, rows=20, device=device, memory=memory).values
        np.testing.assert_allclose(values, pairwise(layers, measure=measure).values, atol=1e-10)


def test_streamed_measures_are_accurate_for_a_large_mean(rng: np.random.Generator) -> None:
    X, Y = 1e-3 * rng.normal(size=(2, 60, 5))
    for measure in STREAMED:
        shifted, plain = ({"x": X + shift, "y": Y - 3 * shift} for shift in (100.0, 0.0))
        values = [streamed_pairwise(each, measure=measure, rows=13).values[0, 1] for each in (shifted, plain)]
        assert values[0] == pytest.approx(values[1], abs=1e-8)


@pytest.mark.parametrize("measure", ["cka", "cka_biased"])
def test_wide_layers_computed_by_tiles_equal_the_result_in_memory(rng: np.random.Generator, measure: str) -> None:
    layers = {"x": rng.normal(size=(300, 400)) + 5, "y": rng.normal(size=(300, 500))}
    layers["y"][:, :100] += layers["x"][:, :100]
    values = streamed_pairwise(layers, measure=measure, memory=8 * 2 * 130**2).values
    np.testing.assert_allclose(values, pairwise(layers, measure=measure).values, atol=1e-12)


def test_a_file_is_read_by_blocks(layers: Layers, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "layers.h5", "w") as file:
        stored = {name: file.create_dataset(name, data=layer.astype(np.float32)) for name, layer in layers.items()}
        values = streamed_pairwise(stored, rows=17).values
    np.testing.assert_allclose(values, pairwise(layers).values, atol=1e-6)


# One pass, and tiles of Gram matrices where memory is short
MEMORY = {2**30: STREAMED, 8 * 4 * 90**2: ("cka", "cka_biased")}


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("memory", MEMORY)
def test_a_layer_constant_up_to_rounding_is_nan_and_named(
    rng: np.random.Generator, layers: Layers, kind: type, memory: int
) -> None:
    layers["flat"] = (1e3 + 1e-4 * rng.normal(size=(90, 400))).astype(np.float32).astype(kind)
    for measure in MEMORY[memory]:
        message = rf"^1 of 4 representations \(flat\) .* Their {MEASURES[measure].label} is NaN\.$"
        with pytest.warns(RuntimeWarning, match=message) as caught:
            values = streamed_pairwise(layers, measure=measure, rows=40, memory=memory).values
        assert len(caught) == 1
        assert np.isnan(values[3]).all()
        assert np.isfinite(values[:3, :3]).all()


@pytest.mark.parametrize("memory", MEMORY)
def test_constant_features_do_not_count_in_streams(rng: np.random.Generator, layers: Layers, memory: int) -> None:
    noise = (1e3 + 1e-4 * rng.normal(size=(90, 400))).astype(np.float32)
    wide = {**layers, "a": np.hstack([layers["a"] - 50, noise])}
    for measure in MEMORY[memory]:
        values = streamed_pairwise(wide, measure=measure, rows=40, memory=memory).values
        np.testing.assert_allclose(values, pairwise(layers, measure=measure).values, atol=1e-6)


EXTREMES = [(1e20, np.float32), (1e36, np.float32), (1e-30, np.float32), (1e-100, np.float64), (1e100, np.float64)]


@pytest.mark.parametrize(("scale", "kind"), EXTREMES)
@pytest.mark.parametrize("memory", MEMORY)
def test_streams_neither_overflow_nor_vanish(layers: Layers, scale: float, kind: type, memory: int) -> None:
    if memory < 2**30:
        layers["b"] = np.tile(layers["b"], 40)
    scaled = {**layers, "b": (scale * layers["b"]).astype(kind)}
    expected = {**layers, "b": scaled["b"].astype(np.float64) / scale}
    for measure in MEMORY[memory]:
        values = streamed_pairwise(scaled, measure=measure, rows=40, memory=memory).values
        np.testing.assert_allclose(values, pairwise(expected, measure=measure).values, atol=1e-7)


# Minibatches


@pytest.mark.parametrize(("scale", "kind"), EXTREMES)
def test_minibatches_neither_overflow_nor_vanish(layers: Layers, scale: float, kind: type) -> None:
    scaled = {**layers, "b": (scale * layers["b"]).astype(kind)}
    expected = {**layers, "b": scaled["b"].astype(np.float64) / scale}
    values, twin = (minibatch_cka(in_blocks(each, 30)).values for each in (scaled, expected))
    np.testing.assert_allclose(values, twin, atol=1e-9)


def test_minibatches_of_a_layer_constant_up_to_rounding_are_nan(rng: np.random.Generator, layers: Layers) -> None:
    layers["flat"] = (1e3 + 1e-4 * rng.normal(size=(90, 40))).astype(np.float32)
    with pytest.warns(RuntimeWarning, match=r"^1 of 4 representations \(flat\) "):
        values = minibatch_cka(in_blocks(layers, 30)).values
    assert np.isnan(values[3]).all()
    assert np.isfinite(values[:3, :3]).all()


def slow_minibatch_cka(X: np.ndarray, Y: np.ndarray, size: int) -> float:
    """Song's estimator in every batch; sums, then one division."""

    def total(X: np.ndarray, Y: np.ndarray) -> float:
        return sum(three_terms_unbiased(X[k : k + size], Y[k : k + size]) for k in range(0, len(X), size))

    return ratio(total, X, Y)


def test_minibatch_cka_equals_its_slow_twin(layers: Layers) -> None:
    values = minibatch_cka(in_blocks(layers, 15)).values
    assert values[0, 1] == pytest.approx(slow_minibatch_cka(layers["a"], layers["b"], 15), abs=1e-10)
    np.testing.assert_allclose(np.diagonal(values), 1, atol=1e-12)


def test_minibatch_cka_of_one_batch_is_cka(layers: Layers) -> None:
    np.testing.assert_allclose(minibatch_cka([layers]).values, pairwise(layers).values, atol=1e-12)


def test_batches_are_weighted_by_their_number_of_stimuli(layers: Layers) -> None:
    half, rest = ({name: layer[part] for name, layer in layers.items()} for part in (slice(60), slice(60, 90)))
    weighted = minibatch_cka([half, rest]).values[0, 1]
    ab, aa, bb = (
        sum(len(part["a"]) * three_terms_unbiased(part[x], part[y]) for part in (half, rest))
        for x, y in ("ab", "aa", "bb")
    )
    assert weighted == pytest.approx(ab / math.sqrt(aa * bb), abs=1e-10)


def test_minibatch_cka_without_positive_hsic_is_nan_not_a_root_of_it() -> None:
    with pytest.warns(RuntimeWarning, match=r"^1 of 2 representations \(eye\)"):
        values = minibatch_cka([{"eye": np.eye(6), "x": np.arange(6.0)[:, None]}]).values
    assert np.isnan(values[0]).all()
    assert values[1, 1] == 1


# What is refused


def test_minibatch_cka_refuses(layers: Layers) -> None:
    for batches, message in (
        (in_blocks(layers, 44), r"^a has 2 stimuli; at least 4 are needed to compare\."),
        ([], r"^There are no batches; expected at least 1\.$"),
        ([{}], r"^Batch 1 has no layers; expected at least 1\.$"),
        ([layers, {"a": layers["a"]}], r"^Batch 2 has layers \['a'\]; expected \['a', 'b', 'c'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            minibatch_cka(batches)


def test_moments_refuse_blocks_unlike_the_first(layers: Layers) -> None:
    moments = Moments()
    with pytest.raises(ValueError, match=r"^There are no layers in the block"):
        moments.update({})
    moments.update({name: layer[:3] for name, layer in layers.items()})
    with pytest.raises(ValueError, match=r"^There are 3 stimuli so far; at least 4 are needed"):
        moments.pairwise()
    with pytest.raises(ValueError, match=r"^The block has layers \['a'\]; expected \['a', 'b', 'c'\]"):
        moments.update({"a": layers["a"]})
    with pytest.raises(ValueError, match=r"^b has 8 features in this block; expected 9"):
        moments.update({**layers, "b": layers["b"][:, :8]})
    with pytest.raises(ValueError, match=r"^a has 90 samples and c has 80; both must come from the same stimuli"):
        moments.update({**layers, "c": layers["c"][:80]})
    with pytest.raises(ValueError, match=r"^a has 540 of 540 values that are NaN"):
        moments.update({**layers, "a": layers["a"] * np.nan})
    assert moments.n == 3


def test_streamed_pairwise_refuses(layers: Layers) -> None:
    with pytest.raises(ValueError, match=r"^The measure 'pwcca' has no streamed form\. Choose one of: angular_procrus"):
        streamed_pairwise(layers, measure="pwcca")
    with pytest.raises(ValueError, match=r"^a has 90 samples and c has 80; both must come from the same stimuli"):
        streamed_pairwise({**layers, "c": layers["c"][:80]})
    with pytest.raises(ValueError, match=r"^The products of 19 features take \d+ bytes, and memory is 1000\."):
        streamed_pairwise(layers, measure="pls", memory=1000)
    with pytest.raises(ValueError, match=r"^x has 5 stimuli and 6 features that vary; CCA needs more stimuli than"):
        streamed_pairwise({"x": layers["a"][:5]}, measure="mean_cca")
    with pytest.raises(ValueError, match=r"^rows is 0; expected a whole number of at least 1\.$"):
        streamed_pairwise(layers, rows=0)
    with pytest.raises(ValueError, match=r"device 'abacus' \("):
        streamed_pairwise(layers, device="abacus")
    with pytest.raises(ValueError, match=r"^memory is 1000 bytes; 3 layers of 90 stimuli need at least 194400\."):
        streamed_pairwise(layers, memory=1000)
    with pytest.raises(ValueError, match=r"^x has shape \(90,\); expected two dimensions"):
        streamed_pairwise({"x": layers["a"][:, 0]})
