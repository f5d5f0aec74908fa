import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from analysis import compare_runs
from analysis.comparison.attribution.arms import Arm, open_arms
from analysis.comparison.result import ComparisonResult
from analysis.comparison.stimulus_matching import match_stimuli
from analysis.comparison.view import views_of_runs
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from checkpoints import Capture, Run, Stimuli

N = 40
RNG = np.random.default_rng(0)
IDS = [f"s{k:02d}" for k in range(N)]
LABELS = np.arange(N) % 2
SPLIT = np.array(["train", "train", "validation", "test", "test"] * 8)
INPUTS = (RNG.normal(size=(N, 6)) + 2 * LABELS[:, None]).astype(np.float32)
COARSE = INPUTS.reshape(N, 3, 2).mean(2)  # at half the resolution
BACKWARDS = np.arange(N)[::-1]

Record = Callable[..., Run]
Measure = Callable[..., ComparisonResult]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Record one linear network of a seed on some of the stimuli, in a given order and form."""

    def recorded(
        name: str,
        rows: Sequence[int] | NDArray[Any] = range(N),
        *,
        inputs: NDArray[Any] = INPUTS,
        labels: Any = LABELS,
        split: Any = SPLIT,
        config: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> Run:
        rows = np.asarray(rows)
        stimuli = Stimuli.of([IDS[row] for row in rows], labels[rows], split[rows], inputs[rows])
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(inputs.shape[1], 8), nn.Tanh(), nn.Linear(8, 4))
        with Run.create(tmp_path / name, config or {}, stimuli) as run:
            run.checkpoint(1, model, capture=Capture(model, ["*"]))
        return Run.open(tmp_path / name)

    return recorded


def without_digests(run: Run) -> Run:
    """Rewrite the stimuli of a run as an earlier version wrote them."""
    stimuli, path = run.stimuli, run.path / "stimuli.h5"
    path.unlink()
    replace(stimuli, digests=None).write(path)
    opened = Run.open(run.path)
    opened.info.pop("stimuli_sha256")
    return opened


def test_equal_stimuli_need_no_matching(record: Record) -> None:
    assert match_stimuli([record("a"), record("b", seed=1)]) is None
    assert match_stimuli([record("c"), record("d", seed=1)], "ids") is None


def test_stimuli_in_another_order_are_realigned_by_id(record: Record) -> None:
    first, second = record("a"), record("b", BACKWARDS)
    assert first.stimuli.ids.tolist() != second.stimuli.ids.tolist()
    a, b = views_of_runs([first.path, second.path])
    assert b.stimuli.ids.tolist() == first.stimuli.ids.tolist()
    assert b.stimuli.labels.tolist() == first.stimuli.labels.tolist()
    np.testing.assert_array_equal(b.listed["1"].stimulus_ids, first.stimuli.ids)
    for read in (slice(None), slice(3, 9), 4, [5, 2, 2], np.arange(N) > 20):
        np.testing.assert_allclose(b.listed["1"][read], a.listed["1"][read], atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(list(b.listed["1"].blocks(7))), b.listed["1"][:])
    np.testing.assert_array_equal(b.listed["1"][2:4, 1:3], b.listed["1"][2:4][:, 1:3])


def test_tables_of_realigned_runs_are_those_of_runs_in_one_order(
    record: Record, measure: Measure, tmp_path: Path
) -> None:
    a, b, turned = (record(*each, seed=seed).path for each, seed in ((["a"], 0), (["b"], 1), (["c", BACKWARDS], 1)))
    found = [
        measure(views_of_runs([a, other]), tmp_path / other.name, Cs=(1.0,), measures=("cka", "procrustes"))
        for other in (b, turned)
    ]
    for name in ("rdm_similarity", "similarity", "class_structure", "layer_quantities", "probes"):
        frames = [each.tables[name].select_dtypes("number").drop(columns="n_iter", errors="ignore") for each in found]
        numbers = [frame.to_numpy(np.float64, na_value=np.nan) for frame in frames]
        np.testing.assert_allclose(numbers[1], numbers[0], atol=1e-5)
    np.testing.assert_allclose(found[1].tables.rdm(1, "1"), found[0].tables.rdm(1, "1"), atol=1e-5)
    said = "The runs recorded the same stimuli in different orders; all are compared in that of a."
    assert [said in each.summary() for each in found] == [False, True]


def test_runs_that_saw_other_inputs_are_refused_with_the_ids_that_differ(record: Record) -> None:
    runs = [record("fine"), record("coarse", BACKWARDS, inputs=COARSE)]
    with pytest.raises(
        ValueError,
        match=r"coarse and .*fine recorded different stimuli: the inputs of 40 of 40 ids differ "
        r"\('s00', 's02', 's04', …\)\. If .* such as another resolution, give --match ids; otherwise train or record",
    ):
        match_stimuli(runs)
    changed = INPUTS.copy()
    changed[[4, 7]] = 0
    with pytest.raises(ValueError, match=r"the inputs of 2 of 40 ids differ \('s04', 's07'\)"):
        match_stimuli([runs[0], record("changed", inputs=changed)])


def test_the_same_ids_in_another_form_are_compared_on_request(record: Record, measure: Measure, tmp_path: Path) -> None:
    first, second = record("fine"), record("coarse", BACKWARDS, inputs=COARSE)
    views = views_of_runs([first.path, second.path], match="ids")
    found = measure(views, tmp_path / "out", Cs=(1.0,), distance="euclidean")
    order = [second.stimuli.ids.tolist().index(each) for each in first.stimuli.ids.tolist()]
    test = first.stimuli.split == "test"
    layers = first.last().activations["2"][:][test], second.last().activations["2"][:][order][test]
    distances = [
        np.linalg.norm(layer[:, None] - layer[None], axis=2)[np.triu_indices(test.sum(), 1)] for layer in layers
    ]
    table = found.tables["rdm_similarity"].set_index("layer")
    assert table.loc["2", "pearson"] == pytest.approx(np.corrcoef(*distances)[0, 1], abs=1e-5)
    own = measure(
        views_of_runs([second.path, record("twin", BACKWARDS, inputs=COARSE).path]), tmp_path / "own", Cs=(1.0,)
    )
    accuracies = [each.tables["probes"].set_index(["view", "layer"])["accuracy"]["coarse"] for each in (found, own)]
    np.testing.assert_allclose(*accuracies)


@pytest.mark.usefixtures("blank_figures")
def test_report_json_and_command_state_that_stimuli_were_matched_by_id(record: Record, tmp_path: Path) -> None:
    paths = [record("fine").path, record("coarse", inputs=COARSE).path]
    config = AnalysisConfig(Cs=(1.0,), layers=("2",))
    found = compare_runs(paths, config=config, design=DesignConfig(match="ids"), output=tmp_path / "out")
    assert found.summary()[:2] == ["Stimuli are matched by id: 40 are compared.", "coarse saw other inputs than fine."]
    outcome = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert outcome["stimuli"] == {
        "match": "ids",
        "n": 40,
        "runs": [
            {"run": str(path), "n_recorded": 40, "inputs": inputs}
            for path, inputs in zip(paths, ("same", "other"), strict=True)
        ],
    }
    assert "--match ids" in outcome["command"]
    assert "Stimuli are matched by id: 40 are compared." in (tmp_path / "out" / "report.html").read_text()


def test_only_the_ids_that_all_runs_have_are_compared(record: Record, measure: Measure, tmp_path: Path) -> None:
    paths = [record("all").path, record("some", range(5, N)).path, record("others", BACKWARDS[5:]).path]
    with pytest.raises(
        ValueError,
        match=r"some and .*all recorded different stimuli: 5 of 40 ids are only in \S*all "
        r"\('s00', 's02', 's04', …\)\. .* To compare the 35 ids that both have, give --match ids\.",
    ):
        views_of_runs(paths)
    found = measure(views_of_runs(paths, match="ids"), tmp_path / "out", Cs=(1.0,))
    assert "Stimuli are matched by id: 30 are compared, of 40 of all, 35 of some, 35 of others." in found.summary()
    assert found.tables.n_test == sum(SPLIT[5:35] == "test")
    assert set(found.tables["probes"]["n_train"]) == {sum(SPLIT[5:35] == "train")}
    assert found.tables["rdm_similarity"]["pearson"].to_numpy() == pytest.approx(1)  # one network, three times


@pytest.mark.usefixtures("blank_figures")
def test_targets_are_needed_for_the_stimuli_that_are_compared_only(record: Record, tmp_path: Path) -> None:
    few = np.arange(N)[:1:-1]
    runs = [record("a").path, record("b", few).path]
    lines = [f"{IDS[row]},{INPUTS[row].sum()}" for row in few]
    (tmp_path / "targets.csv").write_text("\n".join(["id,size", *lines]))
    config = AnalysisConfig(layers=("0",), targets=str(tmp_path / "targets.csv"))
    design, output = DesignConfig(match="ids"), tmp_path / "out"
    probes = compare_runs(runs, config=config, design=design, output=output).tables["probes"]
    of_size = probes[probes["target"] == "size"]
    assert of_size["r2"].iloc[0] == pytest.approx(of_size["r2"].iloc[1], abs=1e-4)
    assert of_size["r2"].iloc[0] > 0.9


def test_ids_with_other_labels_are_refused_however_they_are_matched(record: Record) -> None:
    labels = LABELS.copy()
    labels[[3, 8]] = 7
    runs = [record("a"), record("b", labels=labels)]
    for by in ("inputs", "ids"):
        with pytest.raises(
            ValueError,
            match=r"the label differs for 2 of 40 common ids \('s08', 's03'\); 's08' has '7' "
            r"in \S*b and '0' in \S*a\.",
        ):
            match_stimuli(runs, by)


def test_labels_are_compared_by_the_names_of_their_classes(record: Record) -> None:
    """A run without stimuli of class 0 numbers the others from 0."""
    labels = np.arange(N) % 4
    owls = np.flatnonzero(labels)
    rest = labels - 1
    classes = ["cat", "dog", "owl", "yak"]
    first = record("a", labels=labels, config={"data": {"classes": classes}})
    second = record("b", owls, labels=rest, config={"data": {"classes": classes[1:]}})
    matching = match_stimuli([first, second], "ids")
    assert matching is not None
    assert sorted(set(matching.stimuli.labels.tolist())) == [1, 2, 3]
    other = record("c", owls, labels=rest, config={"data": {"classes": ["cat", "dog", "owl"]}})
    with pytest.raises(
        ValueError, match=r"the label differs for 30 of 30 common ids .* has 'cat' in \S*c and 'dog' in"
    ):
        match_stimuli([first, other], "ids")


def test_ids_in_other_parts_of_the_split_are_refused_however_they_are_matched(record: Record) -> None:
    split = SPLIT.copy()
    split[4] = "train"
    for by in ("inputs", "ids"):
        with pytest.raises(ValueError, match=r"the part of the split differs for 1 of 40 common ids \('s04'\)"):
            match_stimuli([record(f"a-{by}"), record(f"b-{by}", split=split)], by)


def test_runs_without_common_ids_are_refused(record: Record) -> None:
    runs = [record("a", range(20)), record("b", range(20, N))]
    with pytest.raises(
        ValueError, match=r"20 of 20 ids are only in \S*b \(.*\) and 20 of 20 ids are only in \S*a"
    ) as raised:
        match_stimuli(runs, "ids")
    assert "--match" not in str(raised.value)


def test_common_ids_without_a_part_of_the_split_are_refused(record: Record) -> None:
    runs = [record("a"), record("b", np.flatnonzero(SPLIT != "validation"))]
    with pytest.raises(
        ValueError, match=r"have 32 stimulus ids in common, and none for validation\. Record them with m"
    ):
        match_stimuli(runs, "ids")


def test_an_earlier_run_in_another_order_is_matched_on_request_only(record: Record) -> None:
    runs = [record("a"), without_digests(record("b", BACKWARDS))]
    with pytest.raises(
        ValueError, match=r"the same ids, labels and split, but .* as an earlier version stored no hash"
    ):
        match_stimuli(runs)
    matching = match_stimuli(runs, "ids")
    assert matching is not None
    assert matching.rows(runs[1].stimuli).tolist() != list(range(N))


def test_repeated_ids_in_a_file_are_refused(record: Record) -> None:
    first, second = record("a"), record("b", BACKWARDS)
    ids = second.stimuli.ids.copy()
    ids[0] = ids[1]
    stimuli = replace(second.stimuli, ids=ids)
    (second.path / "stimuli.h5").unlink()
    stimuli.write(second.path / "stimuli.h5")
    with pytest.raises(ValueError, match=r"b has stimuli of the same id, so it cannot be matched"):
        match_stimuli([first, Run.open(second.path)], "ids")


def test_arms_are_matched_too(record: Record, tmp_path: Path) -> None:
    arms = [
        Arm("bp", "reference", tuple(record(f"bp-{seed}", seed=seed).path for seed in range(3))),
        Arm(
            "sg",
            "method",
            tuple(record(f"sg-{seed}", BACKWARDS, seed=seed, inputs=2 * INPUTS).path for seed in (3, 4, 5)),
        ),
    ]
    with pytest.raises(
        ValueError, match=r"^Arm 'sg': \S*sg-3 and \S*bp-0 recorded different stimuli: the inputs of 40"
    ):
        open_arms(arms)
    _, method = open_arms(arms, "ids")
    assert all(each is not None and each.by == "ids" for each in method.matchings)


def test_an_unknown_way_of_matching_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown match 'names'. Choose one of: inputs, ids"):
        DesignConfig(match="names")
