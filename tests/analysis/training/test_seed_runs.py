"""Runs of several seeds, trained together or one by one: each is the run that it would be alone."""

import io
import json
import os
import re
import shlex
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from analysis import Interrupted, analyze_run, compare_runs, resume_run, resume_seeds, train_run, train_seeds
from analysis.config.recording import RecordingConfig
from analysis.config.seed_list import parse_seeds
from analysis.execution.progress import Reporter
from analysis.training import setup
from checkpoints import Run
from repsim.learning import Diverged, TrainingConfig
from repsim.learning.parallel import replica_choice

AtUpdate = Callable[..., Reporter]
Learned = Callable[[Path], dict[str, Any]]
Repsim = Callable[..., Any]

LAST, STOPPED = 18, 11  # three epochs of six updates, stopped in the second
TRAINING = TrainingConfig(
    data="digits",
    depth=3,
    width=8,
    activation="tanh",
    epochs=3,
    batch_size=200,
    rule="synthetic-gradient:hidden_layers=1@1 + feedback-alignment@2",
    optimizer="momentum",  # Adam would turn the sign of a gradient that is zero but for rounding into a whole step
    learning_rate=0.01,
    schedule="cosine",
)
FEW = RecordingConfig(n_train=60, n_validation=20, n_test=40, steps="first,5,last", diagnose="1,last")
LINEAR = replace(TRAINING, norm="none", activation="linear", rule="backprop", optimizer="sgd")
HOW = ("stacked", "loop")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Each seed trained in a run of its own."""
    folder = tmp_path_factory.mktemp("alone")
    return {seed: train_run(folder / str(seed), replace(TRAINING, seed=seed), FEW).path for seed in (0, 2, 5)}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same seeds trained in one folder, either way."""
    folder = tmp_path_factory.mktemp("together")
    for how in HOW:
        train_seeds(folder / how, TRAINING, FEW, seeds="0,2,5", how=how)
    return {how: folder / how for how in HOW}


def states(folder: Path) -> dict[str, str]:
    return {path.name: Run.open(path).status["state"] for path in sorted(folder.iterdir())}


# The runs


@pytest.mark.parametrize("how", HOW)
def test_each_seed_has_an_ordinary_run(together: dict[str, Path], alone: dict[int, Path], how: str) -> None:
    assert states(together[how]) == {f"seed-{seed}": "finished" for seed in alone}
    for seed, path in alone.items():
        run, single = Run.open(together[how] / f"seed-{seed}"), Run.open(path)
        assert run.verify() == single.steps == [0, 5, LAST]
        assert run.stimuli.content_hash == single.stimuli.content_hash
        assert {name: part for name, part in run.config.items() if name != "replicas"} == single.config
        assert set(run.status) == set(single.status)


def test_a_loop_gives_the_bits_of_single_runs(
    together: dict[str, Path], alone: dict[int, Path], learned: Learned
) -> None:
    for seed, path in alone.items():
        assert learned(together["loop"] / f"seed-{seed}") == learned(path)


def test_a_stack_gives_single_runs_up_to_rounding(together: dict[str, Path], alone: dict[int, Path]) -> None:
    for seed, path in alone.items():
        run, single = Run.open(together["stacked"] / f"seed-{seed}"), Run.open(path)
        for step in single.steps:
            weights = run[step].weights()
            assert list(weights) == list(single[step].weights())
            for name, values in single[step].weights().items():
                scale = max(float(values.double().norm()), 1e-3)
                assert float((weights[name] - values).double().norm()) < 1e-4 * scale, (step, name)
            for name, layer in single[step].activations.items():
                np.testing.assert_allclose(run[step][name][:], layer[:], rtol=1e-3, atol=1e-4)
        for record, expected in zip(run.metrics(), single.metrics(), strict=True):
            assert record["loss"] == pytest.approx(expected["loss"], rel=1e-4)
            assert list(record) == list(expected)


@pytest.mark.parametrize("how", HOW)
def test_a_run_stores_how_it_was_trained(together: dict[str, Path], how: str) -> None:
    facts = json.loads((together[how] / "seed-2" / "run.json").read_text())["config"]["replicas"]
    assert facts == {"seeds": [0, 2, 5], "how": how}


def test_the_number_of_threads_of_the_caller_is_restored(tmp_path: Path, at_update: AtUpdate) -> None:
    before, seen = torch.get_num_threads(), []
    watch = at_update(2, lambda: seen.append(torch.get_num_threads()))
    train_seeds(tmp_path, replace(TRAINING, threads=before + 1), FEW, seeds=[1, 0], how="stacked", progress=watch)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_the_faster_way_is_chosen_and_reported(tmp_path: Path) -> None:
    said = Console(file=io.StringIO(), width=1000)
    run, _ = train_seeds(tmp_path, TRAINING, FEW, seeds="0-1", progress=Reporter(said))
    way = {"stacked": "together", "loop": "one by one"}[run.config["replicas"]["how"]]
    words = rf"^2 seeds are trained {way}: batched: \S+ ms per update; one by one: \S+ ms\.\n"
    assert re.match(words, said.file.getvalue())


def test_one_seed_is_a_single_run(tmp_path: Path, alone: dict[int, Path], learned: Learned) -> None:
    said = Console(file=io.StringIO(), width=1000)
    (run,) = train_seeds(tmp_path, TRAINING, FEW, seeds="2", progress=Reporter(said))
    assert run.config["replicas"]["how"] == "loop"
    assert "seeds are trained" not in said.file.getvalue()
    assert learned(run.path) == learned(alone[2])


@pytest.mark.parametrize("network", ["conv", "residual", "transformer"])
def test_networks_of_maps_and_of_sequences_are_stacked_too(tmp_path: Path, network: str) -> None:
    settings = replace(TRAINING, network=network, width=4, epochs=1, rule="synthetic-gradient@1 + sign-symmetric@2")
    runs = train_seeds(tmp_path, settings, FEW, seeds="0-1", how="stacked")
    single = train_run(tmp_path / "single", replace(settings, seed=1), FEW)
    for name, values in single.last().weights().items():
        torch.testing.assert_close(runs[1].last().weights()[name], values, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("blank_figures")
def test_runs_of_several_seeds_are_analyzed_and_compared(together: dict[str, Path], tmp_path: Path) -> None:
    paths = sorted(together["stacked"].iterdir())
    result = compare_runs(paths, output=tmp_path / "both")
    assert [view.label for view in result.tables.views] == [
        f"{paths[0].parent.name}/{name}" for name in ("seed-0", "seed-2", "seed-5")
    ]
    assert (analyze_run(paths[0], output=tmp_path / "alone").tables.folder / "report.html").is_file()


# Divergence


@pytest.fixture
def seed_1_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poison the initial weights of seed 1, and of it alone."""

    build = setup.build_learner

    def poisoned(config: TrainingConfig, *rest: Any, **options: Any) -> Any:
        learner = build(config, *rest, **options)
        if config.seed == 1:
            with torch.no_grad():
                learner.network.output.weight.fill_(1e25)
        return learner

    monkeypatch.setattr(setup, "build_learner", poisoned)


@pytest.mark.usefixtures("seed_1_diverges")
@pytest.mark.parametrize("how", HOW)
def test_a_seed_that_diverges_does_not_stop_the_others(tmp_path: Path, learned: Learned, how: str) -> None:
    said = Console(file=io.StringIO(), width=1000)
    runs = train_seeds(tmp_path / "three", LINEAR, FEW, seeds="0-2", how=how, progress=Reporter(said))
    assert [run.status["state"] for run in runs] == ["finished", "diverged", "finished"]
    with pytest.raises(Diverged):
        train_run(tmp_path / "alone", replace(LINEAR, seed=1), FEW)
    single = Run.open(tmp_path / "alone")
    assert runs[1].status["step"] == single.status["step"]
    assert runs[1].status["message"] == single.status["message"]
    assert runs[1].verify() == single.steps
    assert f"{tmp_path}/three/seed-1: Training diverged: the loss is " in said.file.getvalue()
    train_run(tmp_path / "first", replace(LINEAR, seed=0), FEW)
    if how == "loop":
        assert learned(tmp_path / "three" / "seed-0") == learned(tmp_path / "first")
    for name, values in Run.open(tmp_path / "first").last().weights().items():
        torch.testing.assert_close(runs[0].last().weights()[name], values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("how", HOW)
def test_if_every_seed_diverges_that_is_an_error(tmp_path: Path, how: str) -> None:
    with pytest.raises(Diverged, match=r"^Training diverged: the loss is (nan|inf) at step"):
        train_seeds(tmp_path, replace(LINEAR, learning_rate=1e30), FEW, seeds="0-1", how=how)
    assert states(tmp_path) == {"seed-0": "diverged", "seed-1": "diverged"}


@pytest.mark.usefixtures("seed_1_diverges")
@pytest.mark.parametrize("how", HOW)
def test_a_seed_that_diverges_again_does_not_stop_those_that_are_continued(
    tmp_path: Path, at_update: AtUpdate, learned: Learned, how: str
) -> None:
    train_seeds(tmp_path / "whole", LINEAR, FEW, seeds="0-2", how=how)
    with pytest.raises(Interrupted, match=r"--seeds 0,2 --resume$"):
        train_seeds(tmp_path / "parts", LINEAR, FEW, seeds="0-2", how=how, progress=at_update(STOPPED))
    assert list(states(tmp_path / "parts").values()) == ["interrupted", "diverged", "interrupted"]
    resume_seeds(tmp_path / "parts", "0-2")
    assert states(tmp_path / "parts") == states(tmp_path / "whole")
    for seed in (0, 2):
        assert learned(tmp_path / f"parts/seed-{seed}") == learned(tmp_path / f"whole/seed-{seed}")


def test_continued_runs_that_all_diverge_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        train_seeds(tmp_path, replace(LINEAR, learning_rate=1e30), FEW, seeds="0-1")
    with pytest.raises(Diverged):
        resume_seeds(tmp_path, "0-1")


# Interruption


@pytest.mark.parametrize("how", HOW)
def test_ctrl_c_commits_all_and_the_command_it_names_finishes_them_bit_for_bit(
    together: dict[str, Path],
    tmp_path: Path,
    at_update: AtUpdate,
    learned: Learned,
    repsim: Repsim,
    how: str,
) -> None:
    folder = tmp_path / "parts"
    message = rf"^Stopped at step {STOPPED}, which is committed\. Continue with: repsim train .+ --seeds 0,2,5 --resume"
    with pytest.raises(Interrupted, match=message) as stopped:
        train_seeds(folder, TRAINING, FEW, seeds="0,2,5", how=how, progress=at_update(STOPPED))
    assert set(states(folder).values()) == {"interrupted"}
    for path in folder.iterdir():
        assert Run.open(path).verify() == [0, 5, STOPPED]
        assert len(Run.open(path).metrics()) == STOPPED
    _, *command = shlex.split(str(stopped.value).partition("Continue with: ")[2])
    assert repsim("", *command).code == 0
    for path in together[how].iterdir():
        assert learned(folder / path.name) == learned(path)


def test_ctrl_c_while_runs_are_created_leaves_runs_that_continue(
    together: dict[str, Path], tmp_path: Path, learned: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted_create(path: Path, *arguments: Any) -> Run:
        if path.name == "seed-0":
            os.kill(os.getpid(), signal.SIGINT)
        return create(path, *arguments)

    create = Run.create
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=r"^Stopped at step 1, which is committed"):
        patch.setattr(Run, "create", interrupted_create)
        train_seeds(tmp_path / "runs", TRAINING, FEW, seeds="0,2,5", how="stacked")
    resume_seeds(tmp_path / "runs", "0,2,5")
    for path in together["stacked"].iterdir():
        assert learned(tmp_path / "runs" / path.name) == learned(path)


@pytest.mark.parametrize("rule", ["synthetic-gradient-prop", "sign-symmetric:magnitude=resampled", "noise"])
def test_a_stack_can_be_stopped_again_and_again(
    tmp_path: Path, at_update: AtUpdate, learned: Learned, rule: str
) -> None:
    settings = replace(TRAINING, rule=rule, boundaries="all", optimizer="adam")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_seeds(whole, settings, FEW, seeds="0,2,5", how="stacked")
    with pytest.raises(Interrupted):
        train_seeds(parts, settings, FEW, seeds="0,2,5", how="stacked", progress=at_update(2))
    for update in (9, LAST):
        with pytest.raises(Interrupted):
            resume_seeds(parts, "0,2,5", progress=at_update(update))
    resume_seeds(parts, "0,2,5")
    for path in whole.iterdir():
        assert learned(parts / path.name) == learned(path)


def test_one_run_of_a_stack_can_be_resumed_before_the_others(
    together: dict[str, Path], tmp_path: Path, at_update: AtUpdate
) -> None:
    with pytest.raises(Interrupted):
        train_seeds(tmp_path, TRAINING, FEW, seeds="0,2,5", how="stacked", progress=at_update(STOPPED))
    resume_run(tmp_path / "seed-2")
    said = Console(file=io.StringIO(), width=1000)
    resume_seeds(tmp_path, "0,2,5", progress=Reporter(said))
    assert set(states(tmp_path).values()) == {"finished"}
    assert f"{tmp_path}/seed-5 continues after step {STOPPED}.\n" in said.file.getvalue()
    for path in together["stacked"].iterdir():
        expected = Run.open(path).last().weights()
        for name, values in Run.open(tmp_path / path.name).last().weights().items():
            torch.testing.assert_close(values, expected[name], rtol=1e-3, atol=1e-4)


def test_resuming_finished_runs_changes_nothing(together: dict[str, Path]) -> None:
    before = {path: path.stat().st_mtime_ns for path in together["loop"].rglob("*")}
    assert [run.status["state"] for run in resume_seeds(together["loop"], "0,2")] == ["finished"] * 2
    assert {path: path.stat().st_mtime_ns for path in together["loop"].rglob("*")} == before


def test_runs_continue_in_the_way_in_which_they_were_trained(tmp_path: Path, at_update: AtUpdate) -> None:
    with pytest.raises(Interrupted):
        train_seeds(tmp_path, TRAINING, FEW, seeds="0-1", how="loop", progress=at_update(2))
    with pytest.raises(ValueError, match=r"^These runs were not trained with --how stacked; leave --how out to contin"):
        resume_seeds(tmp_path, "0-1", "stacked")
    with pytest.raises(ValueError, match=r"^Unknown how 'fast'\. Choose one of: auto, stacked, loop\.$"):
        resume_seeds(tmp_path, "0-1", "fast")
    resume_seeds(tmp_path, "0-1", "loop")
    assert set(states(tmp_path).values()) == {"finished"}


# Seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0", (0,)), ("0-3", (0, 1, 2, 3)), ("5,0-1", (0, 1, 5)), (" 3 , 1", (1, 3)), ("2-2", (2,)), ([4, 1], (1, 4))],
)
def test_seeds_are_numbers_and_ranges(text: str | list[int], seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


BAD_SEEDS = {
    "": "seeds '' are not understood at ''. Use whole numbers and ranges: 0-9 or 0,3,5.",
    "0-": "seeds '0-' are not understood at '0-'. Use whole numbers and ranges",
    "-1": "seeds '-1' are not understood at '-1'.",
    "a": "seeds 'a' are not understood at 'a'.",
    "1,,2": "seeds '1,,2' are not understood at ''.",
    "0.5": "seeds '0.5' are not understood at '0.5'.",
    "5-2": "seeds '5-2' are not understood at '5-2': write the smaller number first.",
    "1,5-2": "seeds '1,5-2' are not understood at '5-2'",
    "1,1": "seeds '1,1' name a seed twice.",
    "0-4,3": "seeds '0-4,3' name a seed twice.",
    "0-99999": "seeds '0-99999' are too many; expected at most 10000.",
}


@pytest.mark.parametrize("text", BAD_SEEDS)
def test_seeds_that_are_not_understood_are_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(BAD_SEEDS[text])}"):
        parse_seeds(text)


# Mistakes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--seeds few", "seeds 'few' are not understood at 'few'."),
        ("--seeds 3-1 --resume", "seeds '3-1' are not understood at '3-1'"),
        ("--seeds 0-1 --seed 3", "--seed and --seeds were both given; leave one out."),
        ("--how loop", "--how chooses how several seeds are trained; give --seeds too."),
        ("--seeds 0-1 --how fast", "Unknown how 'fast'. Choose one of: auto, stacked, loop."),
        ("--seeds 0-1 --resume", "There is no run at new/seed-0."),
        ("--seeds 0-1 --resume --depth 3", "--resume continues with the run's own settings; leave out --depth."),
        ("--seeds 0-1 --rule hebb", "Unknown rule 'hebb'."),
        ("--seeds 0-1 --data birds", "Unknown data set 'birds'."),
        ("--seeds 0-1 --data digits --layer conv", "No layer matches 'conv'."),
        ("--seeds 0-1 --data digits --batch-size 9999", "batch_size is 9999 but there are only 1259"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    repsim: Repsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = repsim(f"train new {options}")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert said.err.startswith(f"repsim: {words}")
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_a_seed_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "seed-1").mkdir()
    with pytest.raises(FileExistsError, match=r"seed-1 exists already\. Choose another name, or give --exists resu"):
        train_seeds(tmp_path, TRAINING, FEW, seeds="0-1")
    assert [path.name for path in tmp_path.iterdir()] == ["seed-1"]


def test_seeds_can_be_added_to_a_folder(tmp_path: Path) -> None:
    for seeds in ("0-1", "3"):
        train_seeds(tmp_path, replace(TRAINING, epochs=1), FEW, seeds=seeds, how="loop")
    assert list(states(tmp_path)) == ["seed-0", "seed-1", "seed-3"]


def test_a_run_cannot_hold_runs_of_seeds(alone: dict[int, Path]) -> None:
    before = sorted(alone[0].iterdir())
    with pytest.raises(FileExistsError, match=r"0 is a run; choose another folder for the runs of several seeds\.$"):
        train_seeds(alone[0], TRAINING, FEW, seeds="0-1")
    assert sorted(alone[0].iterdir()) == before


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            "stacked",
            r"^Training 2 replicas together needs about .* GB of memory, and 1e-06 GB is available\. Use how='loop",
        ),
        (
            "loop",
            r"^Training 2 replicas one by one needs about .* GB of memory, and 1e-06 GB is available\. Use fewer ",
        ),
        (
            None,
            r"^Training 2 replicas one by one needs about .* GB of memory, and 1e-06 GB is available\. Use fewer re",
        ),
    ],
)
def test_too_little_memory_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str | None, words: str
) -> None:
    monkeypatch.setattr(replica_choice, "available_memory", lambda device: 1000)
    with pytest.raises(ValueError, match=words):
        train_seeds(tmp_path / "new", TRAINING, FEW, seeds="0-1", how=how)
    assert list(tmp_path.iterdir()) == []


# The command


@pytest.mark.parametrize(
    ("options", "seeds", "then"),
    [("--seeds 0,3 --how stacked", (0, 3), "compare new/seed-*"), ("--seeds 4", (4,), "analyze new/seed-4")],
)
def test_a_command_trains_a_folder_of_seeds_and_says_what_comes_next(
    repsim: Repsim,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    seeds: tuple[int, ...],
    then: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = repsim(f"train new --data digits --depth 2 --width 8 --epochs 1 {options}")
    trained = [Run.open(f"new/seed-{seed}") for seed in seeds]
    assert [run.config["training"]["seed"] for run in trained] == list(seeds)
    accuracies = ", ".join(f"{run.status['test_accuracy']:.3f}" for run in trained)
    assert (said.code, said.out) == (0, f"Test accuracy {accuracies}. Next: repsim {then}\n")
