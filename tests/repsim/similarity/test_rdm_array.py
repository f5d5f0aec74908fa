import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist, squareform

from repsim.similarity import RDM, compare_rdm_pairs, compare_rdms, evaluate_models, rdm

Layer = Callable[..., Any]


class Recorded:
    """An array with the attributes of a recorded layer that similarity reads."""

    def __init__(self, X: Any, ids: list[str], labels: list[int] | None) -> None:
        self.X, self.stimulus_ids = X, np.array(ids)
        self.stimuli = None if labels is None else SimpleNamespace(labels=np.array(labels))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.X, dtype=dtype)


@pytest.fixture
def layer(rng: np.random.Generator) -> Layer:
    X = rng.normal(size=(4, 3))

    def make(ids: str = "abcd", labels: list[int] | None = None) -> Recorded:
        return Recorded(X, list(ids), labels)

    return make


def test_an_rdm_is_the_array_bit_for_bit(rng: np.random.Generator, layer: Layer) -> None:
    X = rng.normal(size=(9, 4)).astype(np.float32)
    D = rdm(X, "euclidean")
    assert isinstance(D, RDM)
    assert (D.shape, D.dtype, D.n_stimuli, D.method) == ((36,), np.float32, 9, "euclidean")
    np.testing.assert_allclose(np.asarray(D), pdist(X), rtol=1e-6)
    assert D.condensed().tobytes() == D.tobytes()
    assert np.array_equal(D.square(), squareform(np.asarray(D)))
    out = np.empty(36, dtype=np.float32)
    assert rdm(X, "euclidean", out=out) is out
    assert out.tobytes() == D.tobytes()
    assert D.stimulus_ids is None
    assert np.array_equal(rdm(layer()).stimulus_ids, list("abcd"))


def test_what_is_computed_or_selected_is_a_plain_array(layer: Layer) -> None:
    D = rdm(layer())
    for plain in (D * 2, D[:3], D.round(2), np.isnan(D), D[np.argsort(D)], np.sqrt(D), np.asarray(D)):
        assert type(plain) is np.ndarray
    assert isinstance(D.mean(), float)
    assert np.sort(D).stimulus_ids is None  # as distances no longer belong to their pairs


def test_an_rdm_that_is_pickled_keeps_its_stimuli(layer: Layer) -> None:
    D = rdm(layer(labels=[1, 0, 1, 0]))
    again = pickle.loads(pickle.dumps(D))
    assert again.tobytes() == D.tobytes()
    assert (again.stimulus_ids.tolist(), again.labels.tolist(), again.method) == (list("abcd"), [1, 0, 1, 0], D.method)


def test_stimuli_are_found_by_their_ids(layer: Layer) -> None:
    D = rdm(layer(labels=[1, 0, 1, 0]))
    assert D.between("d", "b") == D.square()[3, 1]
    chosen = D.select(["d", "a", "b"])
    assert np.array_equal(chosen.square(), D.square()[np.ix_([3, 0, 1], [3, 0, 1])])
    assert (chosen.stimulus_ids.tolist(), chosen.labels.tolist()) == (["d", "a", "b"], [0, 1, 0])
    assert np.array_equal(D.select(D.stimulus_ids), D)


def test_averaged_rows_are_stimuli_by_the_names_of_their_conditions(layer: Layer) -> None:
    D = rdm(layer(labels=[0, 0, 0, 0]), labels=["dog", "cat", "dog", "owl"])
    assert D.stimulus_ids.tolist() == ["cat", "dog", "owl"]
    assert D.labels is None


def test_wrong_ids_are_refused(layer: Layer) -> None:
    with pytest.raises(ValueError, match="There is no stimulus 'z'; ids are such as 'a'"):
        rdm(layer()).select(["a", "z"])
    for ids, count in ((["a"], 1), (["a", "a"], 2)):
        with pytest.raises(ValueError, match=rf"{count} ids were given; expected 2 or more, each once\."):
            rdm(layer()).select(ids)
    with pytest.raises(ValueError, match=r"The stimuli of this RDM have no ids\. Compute it from a recorded layer, or"):
        rdm(np.eye(4)).between(0, 1)


def test_rdms_of_different_stimuli_are_not_compared(layer: Layer) -> None:
    A, B = rdm(layer()), rdm(layer("abdc"))
    message = "A and B are of different stimuli: at position 2 'c' and 'd'. Record both with the same stimulus set."
    with pytest.raises(ValueError, match=message):
        compare_rdms(A, B)
    with pytest.raises(ValueError, match=r"A\['x'\] and A\['y'\] are of different stimuli"):
        compare_rdm_pairs({"x": A, "y": B})
    with pytest.raises(ValueError, match="are of different stimuli"):
        evaluate_models({"x": A, "y": B}, {"z": A}, n_samples=10)
    assert compare_rdms(A, B.select(A.stimulus_ids)) < 1
    assert compare_rdms(A, np.asarray(B)) == pytest.approx(1)  # a plain array is taken by position
    assert compare_rdms(A, rdm(layer())) == pytest.approx(1)


def test_a_picture_sorts_stimuli_by_class(layer: Layer) -> None:
    D = rdm(layer(labels=[1, 0, 1, 0]))
    ax = D.plot()
    shown = ax.images[0].get_array()
    assert np.array_equal(shown, D.square()[np.ix_([1, 3, 0, 2], [1, 3, 0, 2])])
    assert ax.yaxis.get_major_locator()().tolist() == [0.5, 2.5]
    assert D._repr_png_().startswith(b"\x89PNG")
    own = Figure().add_subplot()
    assert rdm(layer()).plot(own) is own
    assert np.array_equal(own.images[0].get_array(), D.square())


def test_a_notebook_draws_no_huge_rdm_and_nothing_that_is_none(layer: Layer) -> None:
    assert RDM.of(np.zeros(2001 * 1000, dtype=np.float32), None, None, "")._repr_png_() is None
    assert rdm(layer()).reshape(2, 3)._repr_png_() is None
    assert repr(rdm(layer()).reshape(2, 3)).startswith("array")


def test_a_recorded_layer_gives_its_ids_and_classes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from checkpoints import Capture, Run, Stimuli

    X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    stimuli = Stimuli.of([f"s{i}" for i in range(6)], [1, 0, 1, 0, 1, 0], ["test"] * 6, X)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        run.checkpoint(0, model, capture=Capture(model, ["0"]))
    recorded = Run.open(tmp_path / "run").last().activations["0"]
    D = rdm(recorded)
    assert D.tobytes() == rdm(recorded[:]).tobytes()
    stored = Run.open(tmp_path / "run").stimuli
    assert np.array_equal(D.stimulus_ids, stored.ids)
    assert np.array_equal(D.labels, stored.labels)
