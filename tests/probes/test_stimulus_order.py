"""Labels in another order than the recorded stimuli cannot go unnoticed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from checkpoints import Capture, Run, Stimuli
from probes import (
    LogisticProbe,
    NeighbourProbe,
    NetworkLayers,
    ProbeConfig,
    RegressionProbe,
    RidgeProbe,
    control_task,
    online_codelength,
    probe_layers,
    random_labels,
)
from probes.stimulus_order import ids_of, in_order, is_by_id

N = 60


@dataclass
class Set:
    """A set of stimuli in the order of the rows."""

    ids: NDArray
    labels: NDArray
    split: NDArray


class Layer:
    """An array that says which stimuli its rows are of, and may know more of them."""

    def __init__(self, array: NDArray, stimuli: Set, *, knows: bool = True, ids: Any = None) -> None:
        self._array, self.shape, self.ndim = array, array.shape, array.ndim
        self.stimulus_ids = stimuli.ids if ids is None else ids
        if knows:
            self.stimuli = stimuli

    def __len__(self) -> int:
        return len(self._array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.array(self._array, dtype=dtype)


@pytest.fixture
def stimuli() -> Set:
    labels = np.repeat([3, 5, 8], [10, 20, 30])
    ids = np.random.default_rng(0).permutation(N).astype(str)
    return Set(ids, labels, np.resize(["train", "train", "validation", "test"], N))


@pytest.fixture
def layers(stimuli: Set) -> dict[str, Layer]:
    rng = np.random.default_rng(1)
    means = rng.normal(size=(9, 6))
    return {name: Layer(means[stimuli.labels] + rng.normal(size=(N, 6)), stimuli) for name in ("fc1", "fc2")}


def in_another_order(stimuli: Set, seed: int = 0) -> NDArray:
    """Return the places of the stimuli in another order: that of the data set, which their ids count, or any."""
    return np.argsort(stimuli.ids.astype(int)) if seed == 0 else np.random.default_rng(seed).permutation(N)


def table(layers: Any, labels: Any, split: Any = None, **arguments: Any) -> pd.DataFrame:
    return probe_layers(layers, labels, split=split, config=ProbeConfig(Cs=[0.1], tol=1e-4), **arguments)


FORMS: dict[str, Callable[[NDArray, NDArray], Any]] = {
    "mapping": lambda ids, values: dict(zip(ids.tolist(), values.tolist(), strict=True)),
    "mapping of numpy values": lambda ids, values: dict(zip(ids, values, strict=True)),
    "series": lambda ids, values: pd.Series(values, index=ids),
    "categories": lambda ids, values: pd.Series(pd.Categorical(values), index=ids),
    "set": lambda ids, values: Set(ids, values, values),
    "frame": lambda ids, values: pd.DataFrame({"ids": ids, "labels": values, "split": values}),
}


# Tables


@pytest.mark.parametrize(("seed", "form"), list(enumerate(FORMS)))
@pytest.mark.parametrize("names", [None, {3: "cat", 5: "dog", 8: "cod"}])
def test_targets_by_id_are_matched_to_their_stimuli_in_any_order(
    stimuli: Set, layers: dict[str, Layer], form: str, seed: int, names: dict[int, str] | None
) -> None:
    labels = stimuli.labels if names is None else np.array([names[label] for label in stimuli.labels.tolist()])
    expected = table(layers, labels, stimuli.split)
    order = in_another_order(stimuli, seed)
    given = FORMS[form](stimuli.ids[order], labels[order])
    assert is_by_id(given)
    pd.testing.assert_frame_equal(table(layers, given, stimuli.split), expected, check_exact=True)
    split = FORMS[form](stimuli.ids[order], stimuli.split[order])
    pd.testing.assert_frame_equal(table(layers, given, split), expected, check_exact=True)
    pd.testing.assert_frame_equal(table(layers, labels, split), expected, check_exact=True)


def test_the_stimuli_of_a_run_give_labels_and_split(stimuli: Set, layers: dict[str, Layer]) -> None:
    expected = table(layers, stimuli.labels, stimuli.split)
    pd.testing.assert_frame_equal(table(layers, stimuli), expected, check_exact=True)
    pd.testing.assert_frame_equal(table(layers, stimuli, stimuli), expected, check_exact=True)
    parity = dict(zip(stimuli.ids[::-1], stimuli.labels[::-1] % 2, strict=True))
    several = table(layers, {"class": stimuli, "parity": parity})
    by_position = table(layers, {"class": stimuli.labels, "parity": stimuli.labels % 2}, stimuli.split)
    pd.testing.assert_frame_equal(several, by_position, check_exact=True)
    bare = {name: Layer(np.asarray(layer), stimuli, knows=False) for name, layer in layers.items()}
    pd.testing.assert_frame_equal(table(bare, stimuli), expected, check_exact=True)


def test_types_are_taken_by_id_too(stimuli: Set, layers: dict[str, Layer]) -> None:
    types = 10 * stimuli.labels + np.resize([0, 0, 0, 0, 1, 1, 1, 1], N)
    order = in_another_order(stimuli)
    expected = table(layers, stimuli, types=types)
    by_id = table(layers, stimuli, types=pd.Series(types[order], index=stimuli.ids[order]))
    pd.testing.assert_frame_equal(by_id, expected, check_exact=True)
    assert expected["control_accuracy"].notna().all()


def test_rows_of_a_cache_are_found_again_however_labels_were_given(
    stimuli: Set, layers: dict[str, Layer], tmp_path: Path
) -> None:
    path, order = tmp_path / "probes.jsonl", in_another_order(stimuli)
    expected = table(layers, stimuli.labels, stimuli.split, cache=path)
    content = path.read_bytes()
    by_id = [FORMS["series"](stimuli.ids[order], values[order]) for values in (stimuli.labels, stimuli.split)]
    pd.testing.assert_frame_equal(table(layers, *by_id, cache=path), expected, check_exact=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize(("seed", "dtype"), list(enumerate([np.int64, np.uint8, str, object])))
def test_an_array_of_the_runs_own_labels_in_another_order_is_an_error(
    stimuli: Set, layers: dict[str, Layer], seed: int, dtype: Any
) -> None:
    labels = stimuli.labels[in_another_order(stimuli, seed)].astype(dtype)
    message = (
        r"^labels holds the run's own labels, but in another order than the recorded stimuli; .* "
        r"Give the run's stimuli, or a mapping of stimulus id to label\.$"
    )
    for given in (labels, labels.tolist()):
        with pytest.raises(ValueError, match=message):
            table(layers, given, stimuli.split)
    with pytest.raises(ValueError, match=f"^Target 'a': {message[1:]}"):
        table(layers, {"a": labels, "b": stimuli}, stimuli.split)
    meant = FORMS["mapping"](stimuli.ids, labels)  # said by id, it is what is meant
    assert table(layers, meant, stimuli.split)["status"].eq("ok").all()


def test_other_labels_and_functions_of_the_runs_own_are_accepted(stimuli: Set, layers: dict[str, Layer]) -> None:
    rng = np.random.default_rng(0)
    names = np.array(["", "", "", "cat", "", "dog", "", "", "cod"])[stimuli.labels]
    for labels in (stimuli.labels, names, 8 - stimuli.labels, stimuli.labels == 8, rng.integers(2, size=N)):
        assert table(layers, labels, stimuli.split)["status"].eq("ok").all()


def test_labels_that_may_be_the_runs_own_under_other_names_cause_a_warning(
    stimuli: Set, layers: dict[str, Layer]
) -> None:
    order = in_another_order(stimuli)
    names = np.array(["", "", "", "cat", "", "dog", "", "", "cod"])[stimuli.labels[order]]
    with pytest.warns(
        UserWarning, match=r"^labels has classes of the same sizes as the run's own labels, but on other"
    ):
        table(layers, names, stimuli.split)
    table(layers, FORMS["series"](stimuli.ids, names), stimuli.split)  # by id it is what is meant


def test_a_split_that_may_be_in_another_order_causes_a_warning(stimuli: Set, layers: dict[str, Layer]) -> None:
    split = stimuli.split[in_another_order(stimuli)]
    with pytest.warns(UserWarning, match=r"^split holds the run's own split, but in another order than the"):
        table(layers, stimuli, split)
    table(layers, stimuli, FORMS["mapping"](stimuli.ids, split))


def test_warnings_name_the_line_of_the_caller(stimuli: Set, layers: dict[str, Layer]) -> None:
    order = in_another_order(stimuli)
    labels = np.array(["", "", "", "a", "", "b", "", "", "c"])[stimuli.labels[order]]
    layer = next(iter(layers.values()))
    calls: list[Callable[[], Any]] = [
        lambda: probe_layers(layers, labels, split=stimuli.split, config=ProbeConfig(Cs=[1.0])),
        lambda: probe_layers(layers, stimuli, split=stimuli.split[order], config=ProbeConfig(Cs=[1.0])),
        lambda: RidgeProbe().fit(layer, labels),
        lambda: RidgeProbe().fit(layer, FORMS["mapping"](stimuli.ids, labels)).score(layer, labels),
    ]
    for call in calls:
        with pytest.warns(UserWarning, match="in another order than the recorded stimuli") as caught:
            call()
        assert {(each.filename, each.lineno) for each in caught} == {(__file__, call.__code__.co_firstlineno)}


def test_layers_that_do_not_know_their_labels_take_arrays_by_position(stimuli: Set) -> None:
    array = np.random.default_rng(0).normal(size=(N, 4))
    shuffled = stimuli.labels[in_another_order(stimuli)]
    plain = table({"h": array}, shuffled, stimuli.split)
    pd.testing.assert_frame_equal(table({"h": Layer(array, stimuli, knows=False)}, shuffled, stimuli.split), plain)
    series = pd.Series(shuffled, index=stimuli.ids), pd.Series(stimuli.split, index=stimuli.ids)
    pd.testing.assert_frame_equal(table({"h": array}, *series), plain)  # a Series of rows that have no ids
    pd.testing.assert_frame_equal(table({"h": array}, Set(stimuli.ids, shuffled, stimuli.split)), plain)


CHANGES: dict[str, tuple[Callable[..., Any], str]] = {
    "less": (lambda ids, y: (ids[1:], y[1:]), r"has no entry for 1 of 60 stimuli, such as '\d+'; give one entry"),
    "more": (lambda ids, y: ([*ids, "no"], [*y, 3]), "has entries for 1 stimuli that were not recorded, such as 'no'"),
    "twice": (lambda ids, y: ([*ids, ids[4]], [*y, 3]), r"has more than one entry for stimulus '\d+'; give one"),
    "numbers": (
        lambda ids, y: (ids.astype(int), y),
        r"has keys that are integers, such as \d+, but the ids of the stim",
    ),
    "places": (
        lambda ids, y: (range(N), y),
        "has keys that are integers, such as 0, but the ids of the stimuli are tex",
    ),
    "bytes": (lambda ids, y: (ids.astype(bytes), y), "has keys that are of type bytes, such as b'"),
    "None": (lambda ids, y: (ids, [None, *y[1:]]), r"is missing \(NaN\) for 1 of 60 stimuli, such as '\d+'; give"),
    "NaN": (lambda ids, y: (ids, [np.nan, *y[1:]]), r"is missing \(NaN\) for 1 of 60 stimuli, such as '\d+'"),
    "NaN and text": (lambda ids, y: (ids, [np.nan, *map(str, y[1:])]), r"is missing \(NaN\) for 1 of 60 stimuli"),
    "mixed": (lambda ids, y: (ids, ["a", *y[1:]]), r"has shape \(60,\) and dtype object; expected integers or str"),
    "fractions": (lambda ids, y: (ids, 0.5 + y), r"has shape \(60,\) and dtype float64; expected integers or strings"),
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("form", ["series", "mapping"])
def test_targets_that_do_not_match_the_stimuli_are_an_error(
    stimuli: Set, layers: dict[str, Layer], change: str, form: str
) -> None:
    order = in_another_order(stimuli, 1)
    changed, message = CHANGES[change]
    ids, labels = changed(stimuli.ids[order], stimuli.labels[order])
    if form == "mapping" and len(set(ids)) < len(ids):
        pytest.skip("keys of a mapping do not repeat")
    given = pd.Series(list(labels), index=list(ids)) if form == "series" else dict(zip(ids, labels, strict=True))
    with pytest.raises(ValueError, match=f"^labels {message}"):
        table(layers, given, stimuli.split)
    if change == "fractions":  # by name they are a continuous target
        return
    with pytest.raises(ValueError, match=f"^Target 'b': labels {message}"):
        table(layers, {"a": stimuli, "b": given}, stimuli.split)


def test_values_that_cannot_be_matched_are_an_error(stimuli: Set, layers: dict[str, Layer]) -> None:
    array, mapping = np.ones((N, 2)), FORMS["mapping"](stimuli.ids, stimuli.labels)
    with pytest.raises(ValueError, match=r"^labels is a mapping by stimulus id, but the layers have no stimulus ids"):
        table({"h": array}, mapping, stimuli.split)
    with pytest.raises(
        ValueError, match=r"^labels mixes single labels with whole targets; give a mapping of stimulus id to"
    ):
        table(layers, {"a": stimuli.labels, "17": 3}, stimuli.split)
    with pytest.raises(
        ValueError, match=r"^split is missing; give 'train', 'validation' or 'test' for each stimulus, or"
    ):
        table(layers, stimuli.labels)
    without = type("Bare", (), {"ids": stimuli.ids, "labels": stimuli.labels})()
    with pytest.raises(ValueError, match=r"^split is a set of stimuli without split\. Give an array, or a mapping by"):
        table(layers, stimuli, without)
    labels, split = (pd.Series(values, index=stimuli.ids) for values in (stimuli.labels, stimuli.split))
    with pytest.raises(ValueError, match="is a Series whose index differs from that of the preceding Series"):
        table({"h": array}, labels[::-1], split)


def test_layers_in_different_orders_in_one_call_are_an_error(stimuli: Set, layers: dict[str, Layer]) -> None:
    order = in_another_order(stimuli)
    other = Set(stimuli.ids[order], stimuli.labels[order], stimuli.split[order])
    moved = Layer(np.asarray(layers["fc1"]), other)
    message = (
        "^Layer 'fc1' of sg, seed 1 was recorded on the same stimuli as layer 'fc1' of bp, in another order, so their"
    )
    recordings = [
        NetworkLayers(layers=layers, network="bp"),
        NetworkLayers(layers={"fc1": moved}, network="sg", seed=1),
    ]
    with pytest.raises(ValueError, match=message):
        table(recordings, stimuli)
    strangers = Layer(np.asarray(layers["fc1"]), replace(stimuli, ids=np.char.add("x", stimuli.ids)))
    with pytest.raises(ValueError, match=r"^Layer 'b' was recorded on different stimuli from layer 'a', so their rows"):
        table({"a": layers["fc1"], "b": strangers}, stimuli)
    copied = Layer(np.asarray(layers["fc1"]), replace(stimuli, ids=stimuli.ids.copy()))
    assert table({"a": layers["fc1"], "b": copied}, stimuli)["status"].eq("ok").all()


# Estimators, codes and controls


PROBES = [LogisticProbe(0.1), RidgeProbe(), RegressionProbe(), NeighbourProbe(3)]


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("form", FORMS)
def test_estimators_take_the_targets_of_a_recorded_layer_by_id(
    stimuli: Set, layers: dict[str, Layer], probe: Any, form: str
) -> None:
    X, order = layers["fc1"], in_another_order(stimuli)
    expected = probe.fit(np.asarray(X), stimuli.labels).score(np.asarray(X), stimuli.labels)
    given = FORMS[form](stimuli.ids[order], stimuli.labels[order])
    assert probe.fit(X, given).score(X, given) == expected == probe.score(X, stimuli.labels)


@pytest.mark.parametrize("probe", PROBES)
def test_estimators_reject_the_runs_labels_in_another_order(stimuli: Set, layers: dict[str, Layer], probe: Any) -> None:
    X, shuffled = layers["fc1"], stimuli.labels[in_another_order(stimuli)]
    for use in (probe.fit, probe.fit(X, stimuli).score):
        with pytest.raises(ValueError, match=r"^y holds the run's own labels, but in another order than the"):
            use(X, shuffled)
        with pytest.raises(ValueError, match=r"^y has no entry for 1 of 60 stimuli"):
            use(X, FORMS["series"](stimuli.ids[1:], stimuli.labels[1:]))
    rows = np.asarray(X)[::2]  # a part of a layer is an array, whose rows have no names
    assert probe.fit(rows, shuffled[::2]).score(rows, shuffled[::2]) <= 1.0


def test_continuous_targets_may_have_columns(stimuli: Set, layers: dict[str, Layer]) -> None:
    X, order = layers["fc1"], in_another_order(stimuli)
    Y = np.random.default_rng(0).normal(size=(N, 2))
    by_id = dict(zip(stimuli.ids[order], Y[order], strict=True))
    probe, plain = RegressionProbe().fit(X, by_id), RegressionProbe().fit(X, Y)
    np.testing.assert_array_equal(probe.coef_, plain.coef_)


def test_the_online_code_takes_labels_by_id(stimuli: Set, layers: dict[str, Layer]) -> None:
    X, order = layers["fc1"], in_another_order(stimuli)
    by_id = FORMS["series"](stimuli.ids[order], stimuli.labels[order])
    settings: dict[str, Any] = {"fractions": (0.5, 1.0), "seed": 0}
    assert online_codelength(X, by_id, **settings) == online_codelength(X, stimuli.labels, **settings)
    with pytest.raises(ValueError, match=r"^y holds the run's own labels, but in another order"):
        online_codelength(X, stimuli.labels[order], **settings)


@pytest.mark.parametrize("form", FORMS)
def test_controls_match_their_split_by_id(stimuli: Set, form: str) -> None:
    order = in_another_order(stimuli)
    ids, labels, split = stimuli.ids[order], stimuli.labels[order], stimuli.split[order]
    given = FORMS[form](ids, labels)
    np.testing.assert_array_equal(random_labels(given, seed=0), random_labels(labels, seed=0))
    for parts in (stimuli, FORMS["mapping"](stimuli.ids, stimuli.split), split):
        np.testing.assert_array_equal(random_labels(given, parts, seed=0), random_labels(labels, split, seed=0))
        np.testing.assert_array_equal(control_task(given, parts, 2, seed=0), control_task(labels, split, 2, seed=0))
    with pytest.raises(ValueError, match=r"^split has no entry for 1 of 60 stimuli"):
        random_labels(given, FORMS["mapping"](ids[1:], split[1:]), seed=0)


def test_ids_of_values_are_found(stimuli: Set) -> None:
    assert ids_of(stimuli) is not None
    assert ids_of(Layer(np.ones((N, 1)), stimuli)) is not None
    assert ids_of([1, 2]) is None
    assert ids_of(np.ones(3)) is None
    numbers = {4: "a", 2: "b"}
    assert in_order(numbers, np.array([2, 4]), "labels").tolist() == ["b", "a"]
    assert in_order([1, 2], ["a", "b"], "labels") == [1, 2]


# Runs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A network on forty stimuli that were given in an order that is not that of their labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=40)
    X = rng.normal(size=(4, 5))[y] + 0.5 * rng.normal(size=(40, 5))
    split = np.resize(["train", "train", "validation", "test"], 40)
    network = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4))
    stimuli = Stimuli.of([f"image {k}" for k in range(40)], y, split, X)
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        capture = Capture(network, layers=["0", "1"])
        for step in (1, 2):
            run.checkpoint(step, network, capture=capture)
    return Run.open(tmp_path / "run")


def test_layers_of_a_run_know_their_stimuli(run: Run, tmp_path: Path) -> None:
    y = np.random.default_rng(0).integers(4, size=40)  # in the order of the data set
    split = np.resize(["train", "train", "validation", "test"], 40)
    names = [f"image {k}" for k in range(40)]
    layers, stimuli = run.last().activations, run.stimuli
    expected = table(layers, stimuli)
    assert layers["0"].stimuli is not None
    np.testing.assert_array_equal(layers["0"].stimuli.labels, stimuli.labels)
    pd.testing.assert_frame_equal(table(layers, stimuli.labels, stimuli.split), expected)
    by_id = pd.Series(y, index=names), dict(zip(names, split.tolist(), strict=True))
    pd.testing.assert_frame_equal(table(layers, *by_id), expected)
    with pytest.raises(ValueError, match=r"^labels holds the run's own labels, but in another order than the"):
        table(layers, y, split)
    recordings = [NetworkLayers(layers=run[step].activations, checkpoint=step) for step in (1, 2)]
    assert table(recordings, *by_id)["accuracy"].tolist() == [*expected["accuracy"]] * 2
    # A file outside its run knows ids only.
    apart = tmp_path / "a" / "b" / "c" / "activations.h5"
    apart.parent.mkdir(parents=True)
    apart.write_bytes((run.last().path / "activations.h5").read_bytes())
    assert type(layers)(apart)["0"].stimuli is None
