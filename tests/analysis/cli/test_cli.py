"""Every command as a person uses it, and what it says when they err."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sklearn.datasets
import typer

from analysis.cli import app, main
from analysis.execution import Task
from analysis.execution.serial import SerialExecutor
from analysis.training.setup import configurations, prepare
from checkpoints import Capture, Run
from repsim.learning import TrainingConfig

COMMANDS = typer.main.get_command(app).commands
Repsim = Callable[..., Any]
TINY = "--data digits --depth 2 --width 8 --epochs 1"


def module(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one command line in another process."""
    command = [sys.executable, "-m", "analysis", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


# Help


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_in_the_help_of_a_command_can_be_parsed(repsim: Repsim, name: str) -> None:
    said = repsim(f"{name} --help")
    assert (said.code, said.err) == (0, "")
    example = re.search(rf"Example: repsim {name} (.+?)\n\n", said.out, re.DOTALL)
    assert COMMANDS[name].make_context(name, example[1].split(), resilient_parsing=False).params


def test_help_lists_every_command_and_where_to_start(repsim: Repsim) -> None:
    said = repsim("--help")
    assert said.code == 0
    for name in ("train", "record", "analyze", "compare", "rules", "info", "verify", "export", "demo"):
        assert f"\n  {name} " in said.out
    assert "repsim demo" in said.out
    assert repsim("").err.partition("\n\n")[2] == said.out.partition("\n\n")[2]


# A person's first hour


def test_train_record_info_and_verify_work_together(
    repsim: Repsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = repsim(f"train runs/a {TINY} --record first,every:5")
    assert said.code == 0
    accuracy = Run.open("runs/a").status["test_accuracy"]
    assert said.out == f"Test accuracy {accuracy:.3f}. Next: repsim analyze runs/a\n"
    assert re.fullmatch(r"a: 9/9 in \d+ s, validation accuracy 0\.\d{3}\n", said.err)

    rules = "--rule synthetic-gradient:label_conditioned=false,hidden_layers=1 --rule noise@1"
    assert repsim(f"train runs/b {TINY} {rules} --boundaries all --layer output --compress --diagnose none").code == 0
    training = TrainingConfig.from_dict(Run.open("runs/b").config["training"])
    assert {k: (rule.name, rule.options) for k, rule in training.rules.items()} == {
        1: ("noise", {}),
        2: ("synthetic-gradient", {"label_conditioned": False, "hidden_layers": 1}),
    }
    recording = Run.open("runs/b").config["recording"]
    assert (recording["compress"], recording["diagnose"]) == (True, "none")

    said = repsim("train runs/a --resume")
    assert said.out == f"Test accuracy {accuracy:.3f}. Next: repsim analyze runs/a\n"

    said = repsim("record runs/a --output runs/a-logits --layer output --steps last")
    assert said.out == "Recorded steps 9. Next: repsim analyze runs/a-logits\n"
    assert list(Run.open("runs/a-logits").last().activations) == ["output"]

    assert "status:\n  state: finished" in repsim("info runs/a").out
    assert repsim("verify runs/a").out == "runs/a: 3 checkpoints intact (sha256).\n"


def test_runs_are_analyzed_and_compared(
    repsim: Repsim, runs: Mapping[str, Path], tmp_path: Path, blank_figures: None
) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    said = repsim("analyze --steps last --output", alone, runs["backprop"])
    assert said.code == 0
    assert re.match(r"Test accuracy on 359 held-out examples: 0\.\d{3} at step 38\.\n", said.out)
    assert said.out.endswith(f"Report: {alone}/report.html\n")
    assert re.search(r"analysis: \d+/\d+ in \d+ s, report\n$", said.err)

    said = repsim("compare --distance cosine --json --output", both, runs["backprop"], runs["synthetic"])
    result = json.loads(said.out)
    assert result["report"] == str(both / "report.html")
    assert Path(result["report"]).is_file()
    assert result["summary"][-1].startswith("Lowest CKA to the same layer of backprop: synthetic ")


def test_a_run_is_described_as_json(repsim: Repsim, runs: Mapping[str, Path]) -> None:
    facts = json.loads(repsim("info --json", runs["synthetic"]).out)
    assert facts["uuid"] == Run.open(runs["synthetic"]).info["uuid"]
    assert (facts["steps"], facts["recorded_steps"], facts["stimuli"]) == ([0, 38], [0, 38], 320)
    assert facts["layers"] == {"hidden.1": 16, "hidden.2": 16, "hidden.3": 16}
    assert facts["status"]["state"] == "finished"
    assert facts["config"]["training"]["rule"] == "synthetic-gradient"


def test_a_run_is_verified_as_json(repsim: Repsim, runs: Mapping[str, Path]) -> None:
    said = repsim("verify --level size --json", runs["backprop"])
    assert json.loads(said.out) == {"run": str(runs["backprop"]), "level": "size", "steps": [0, 38], "intact": True}


def test_a_run_without_steps_can_still_be_described(repsim: Repsim, copied: Callable[[str], Path]) -> None:
    path = copied("backprop")
    shutil.rmtree(path / "checkpoints")
    said = repsim("info", path)
    assert said.code == 0
    assert "\nsteps: -\n" in said.out
    assert repsim("verify", path).out == f"{path}: 0 checkpoints intact (sha256).\n"


def test_a_stopped_run_is_continued_by_its_own_settings(
    repsim: Repsim, runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(shutil.copytree(runs["backprop"], tmp_path / "run"))
    shutil.rmtree(run[38].path)
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(info | {"status": {"state": "interrupted", "step": 0}}))
    said = repsim("train --resume", run.path)
    assert said.err.startswith(f"{run.path} continues after step 0.\n")
    accuracy = Run.open(runs["backprop"]).status["test_accuracy"]
    assert said.out == f"Test accuracy {accuracy:.3f}. Next: repsim analyze {run.path}\n"


def test_the_demo_is_written_to_the_given_folder(
    repsim: Repsim, comparison: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("analysis.workflows.demo.demo", lambda folder, execution: asked.append(folder) or comparison)
    said = repsim("demo --output", tmp_path)
    assert asked == [tmp_path]
    assert said.out.endswith(f"Report: {comparison.tables.folder}/report.html\n")


# Analyses, task by task


@pytest.fixture
def tasks_done(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, int]]:
    """Count the tasks that analyses have run since the last count, by their kind."""
    kinds: Counter[str] = Counter()
    completed = SerialExecutor.completed

    def noting(executor: SerialExecutor, tasks: Sequence[Task]) -> Iterator[Any]:
        for task, error in completed(executor, tasks):
            kinds[task.name] += 1
            yield task, error

    def count() -> dict[str, int]:
        counted = dict(kinds)
        kinds.clear()
        return counted

    monkeypatch.setattr(SerialExecutor, "completed", noting)
    return count


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OF_RDMS = {"rdm": 2, "rdm_similarity": 1}  # two steps
AT_THE_END = {"tables": 1, "figures": 2, "page": 1, "report": 1}


@pytest.mark.usefixtures("blank_figures")
def test_several_runs_are_analyzed_each_in_a_folder_of_its_own(repsim: Repsim, copied: Callable[[str], Path]) -> None:
    paths = [copied("backprop"), copied("synthetic")]
    said = repsim("analyze --steps last --json", *paths)
    assert said.code == 0
    found = json.loads(said.out)
    assert [each["folder"] for each in found] == [str(path / "analysis") for path in paths]
    for path, each in zip(paths, found, strict=True):
        assert Path(each["report"]) == path / "analysis/report.html"
        assert f"<title>Analysis of {path.name}</title>" in Path(each["report"]).read_text()
        assert each["summary"][0].startswith("Test accuracy on 359 held-out examples: 0.")
    alone = json.loads(repsim("analyze --steps last --json", paths[0]).out)
    assert alone == found[0]


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ("--layers hidden.2", ["hidden.2"]),
        ("--layer hidden.3 --layers hidden.1", ["hidden.1", "hidden.3"]),
        ("--layers hidden.*", ["hidden.1", "hidden.2", "hidden.3"]),
    ],
)
def test_only_the_chosen_layers_are_analyzed(
    repsim: Repsim, copied: Callable[[str], Path], options: str, layers: list[str]
) -> None:
    path = copied("backprop")
    assert repsim(f"analyze --steps last --quiet {options}", path).code == 0
    for name, column in {"probes": "layer", "class_structure": "layer", "similarity": "layer_a"}.items():
        table = pd.read_csv(path / f"analysis/{name}.csv")
        assert sorted(set(table[column])) == layers


@pytest.mark.usefixtures("blank_figures")
def test_another_measure_adds_a_column_and_recomputes_only_similarities(
    repsim: Repsim, copied: Callable[[str], Path], tasks_done: Callable[[], dict[str, int]]
) -> None:
    path = copied("backprop")
    repsim("analyze --executor serial", path)
    first = tasks_done()
    assert first == {**OF_RDMS, "probes": 2, "layers": 2, "similarity": 1, **AT_THE_END}
    before = pd.read_csv(path / "analysis/similarity.csv")
    assert repsim("analyze --executor serial --measures cka,procrustes", path).code == 0
    assert tasks_done() == {"similarity": 1, **AT_THE_END}
    after = pd.read_csv(path / "analysis/similarity.csv")
    assert list(after) == [*before, "procrustes"]
    pd.testing.assert_frame_equal(after[list(before)], before)


@pytest.mark.usefixtures("blank_figures")
def test_another_distance_recomputes_only_what_depends_on_it(
    repsim: Repsim, copied: Callable[[str], Path], tasks_done: Callable[[], dict[str, int]]
) -> None:
    path = copied("backprop")
    repsim("analyze --executor serial", path)
    before, _ = contents(path / "analysis"), tasks_done()
    assert repsim("analyze --executor serial --distance cosine", path).code == 0
    assert tasks_done() == {**OF_RDMS, **AT_THE_END}
    after = contents(path / "analysis")
    changed = {name for name, content in after.items() if before.get(name) != content and "cache/" not in name}
    assert {"class_structure.csv", "rdm_similarity.csv", "rdm.h5", "analysis.json", "report.html"} <= changed
    assert not changed & {"probes.csv", "similarity.csv", "training.csv", "gradients.csv"}


@pytest.mark.usefixtures("blank_figures")
def test_a_changed_checkpoint_recomputes_only_what_depends_on_it(
    repsim: Repsim, copied: Callable[[str], Path], tasks_done: Callable[[], dict[str, int]]
) -> None:
    path = copied("backprop")
    repsim("analyze --executor serial", path)
    before, _ = pd.read_csv(path / "analysis/probes.csv").set_index("view"), tasks_done()
    setup = prepare(*configurations(Run.open(path)))
    shutil.rmtree(path / "checkpoints/step_00000038")
    with Run.resume(path, setup.stimuli) as run:  # an untrained network in the place of the trained one
        run.checkpoint(38, setup.learner, capture=Capture(setup.learner.network, ["hidden.*"]))
    said = repsim("analyze --executor serial", path)
    assert (said.code, "Nothing has changed" in said.err) == (0, False)
    of_one_view = {"rdm": 1, "rdm_similarity": 1, "probes": 1, "layers": 1}
    assert tasks_done() == {**of_one_view, "similarity": 1, **AT_THE_END}
    after = pd.read_csv(path / "analysis/probes.csv").set_index("view")
    pd.testing.assert_frame_equal(after.loc["untrained"], before.loc["untrained"])
    assert (after.loc["step 38", "accuracy"] < before.loc["step 38", "accuracy"]).any()


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize("command", ["analyze", "compare"])
def test_a_second_call_changes_no_file(
    repsim: Repsim, copied: Callable[[str], Path], tmp_path: Path, command: str
) -> None:
    paths = [copied("backprop"), copied("synthetic")]
    line = f"{command} --steps last --measures cka,procrustes"
    first = repsim(line, *paths)
    before = listing(tmp_path), contents(tmp_path)
    second = repsim(line, *paths)
    assert second == (0, first.out, "Nothing has changed since the last analysis.\n")
    assert (listing(tmp_path), contents(tmp_path)) == before
    assert repsim(f"{line} --quiet", *paths) == (0, first.out, "")


@pytest.mark.usefixtures("blank_figures")
def test_quiet_hides_progress(repsim: Repsim, copied: Callable[[str], Path], tmp_path: Path) -> None:
    a, b = copied("backprop"), copied("synthetic")
    for line, *arguments in [
        (f"train {TINY} --quiet", tmp_path / "new"),
        ("analyze --steps last --quiet", a),
        ("compare --quiet --output", tmp_path / "both", a, b),
        ("record --quiet --layers output --output", tmp_path / "recorded", a),
        ("export --quiet --format npz --output", tmp_path / "a.npz", a),
    ]:
        said = repsim(line, *arguments)
        assert (said.code, said.err) == (0, "")
        assert said.out


# Another process


def test_python_m_analysis_is_the_same_command(runs: Mapping[str, Path]) -> None:
    done = module("verify", runs["backprop"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{runs['backprop']}: 2 checkpoints intact (sha256).\n"


def test_another_package_adds_a_command_and_an_executor_by_entry_points(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "greeting.py": "def greet(name: str) -> None:\n    print('Hello', name)\n"
        "def execute(execution: object) -> None:\n    raise ValueError(f'Made for {execution.jobs} jobs.')\n",
        "greeting-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        "greeting-1.0.dist-info/entry_points.txt": "[repsim.commands]\ngreet = greeting:greet\nbroken = nothing:here\n"
        "[repsim.executors]\nmine = greeting:execute\n",
    }
    (tmp_path / "greeting-1.0.dist-info").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    warning = "repsim: warning: The command broken cannot be loaded (No module named 'nothing').\n"
    done = module("greet", "you")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello you\n", warning)
    assert "\n  greet" in module("--help").stdout
    done = module("analyze", runs["backprop"], "--executor", "mine", "--jobs", 3, "--output", tmp_path / "new")
    assert (done.returncode, done.stderr) == (2, f"{warning}repsim: Made for 3 jobs.\n")


def test_a_mistake_in_another_process_is_one_line_too(tmp_path: Path) -> None:
    done = module("info", tmp_path / "missing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"repsim: There is no run at {tmp_path}/missing.\n"


def test_undecodable_paths_are_printed_unchanged(runs: Mapping[str, Path], tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/run\xff"
    shutil.copytree(runs["backprop"], os.fsdecode(path))
    done = subprocess.run([sys.executable, "-m", "analysis", "verify", path], capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == path + b": 2 checkpoints intact (sha256).\n"


def test_a_character_that_the_terminal_cannot_show_is_escaped(runs: Mapping[str, Path], tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + "/größe".encode()
    shutil.copytree(runs["backprop"], os.fsdecode(path))
    only_ascii = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for words, said in ((["rules"], b"\\xb7"), (["verify", path], path)):
        command = [sys.executable, "-m", "analysis", *words]
        done = subprocess.run(command, env=only_ascii, capture_output=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, b"")
        assert said in done.stdout


# Mistakes


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    entries = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in entries}


DIGITS = "train new --data digits"
MISTAKES = {
    # settings
    "unknown data": ("train new --data birds", "Unknown data set 'birds'. Choose one of: mnist5k, digits, mnist"),
    "boundary out of range": (
        f"{DIGITS} --rule synthetic-gradient --boundaries 4,21",
        "boundaries '4,21' names boundary 21; a network with 20 hidden layers has boundaries 1 to 20",
    ),
    "half a layer": (f"{DIGITS} --depth 2.5", "depth is '2.5'; expected a whole number of 1 or more."),
    "depth of text": (f"{DIGITS} --depth abc", "depth is 'abc'; expected a whole number of 1 or more."),
    "too large": (
        f"{DIGITS} --depth 10000 --width 1000000",
        "A network of depth 10000 and width 1000000 needs about 4e+07 GB of memory, and ",
    ),
    "too many steps": (
        f"{DIGITS} --epochs 100000000 --record every:2",
        "steps 'every:2': 'every:2' names 450000000 steps; at most 10000000 are taken.",
    ),
    "large batch": (f"{DIGITS} --batch-size 5000", "batch_size is 5000 but there are only 1259 training examples"),
    "unknown step": (
        f"{DIGITS} --record first,sometimes",
        "steps 'first,sometimes': 'sometimes' is not understood.",
    ),
    "step too late": (f"{DIGITS} --epochs 1 --record 10", "steps '10' name step 10; this training ends at step 9."),
    "unknown layer": (f"{DIGITS} --layer hiden.3", "No layer matches 'hiden.3'. Similar names: hidden.3,"),
    # recording
    "no source": ("record --output new", "Give either a trained run or --model module:factory."),
    "two sources": ("record x* --model a:b --output new", "Both --model and a run, x*, were given; leave one out"),
    "step of text": ("record --model a:b --step x --output new", "step is 'x'; expected a whole number of 0 or more."),
    "no stimuli": ("record --model a:b --output new", "--data is missing; give a file or folder with the stimuli"),
    "misplaced": ("record trained --rows tokens --output new", "--rows belongs to --model; leave it out."),
    "key of a run": ("record trained --key ema --output new", "--key belongs to --model; leave it out."),
    "steps-from of a run": ("record trained --steps-from key:step --output new", "--steps-from belongs to --model;"),
    "several runs": ("record trained other --output new", "2 runs were given; record one at a time."),
    "unquoted pattern": (
        "record --model a:b --weights e_1.pt e_2.pt e_3.pt --output new",
        "--weights was followed by other files, such as e_2.pt. Put a pattern in quotes, such as --weights 'ckpt/",
    ),
    "steps of a model": (
        "record --model a:b --steps 3 --output new",
        "--steps belongs to a trained run; leave it out.",
    ),
    # data
    "no such data": ("train new --data missing.npz", "There is no file missing.npz; expected an .npz file"),
    "NaN": ("train new --data nan.npz", "X in nan.npz has 5 values that are NaN, infinite or too large"),
    "no IDX files": ("train new --data mnist --data-dir .", "There is no train-images-idx3-ubyte or train-images"),
    # runs and folders
    "existing run": (
        "train run --data digits",
        "run exists already. Choose another name, or give --exists resume to continue it or --exists replace to rem",
    ),
    "replaced file": (
        "train file --data digits --exists replace",
        "file is not a run directory, so it is not replaced.",
    ),
    "other settings": ("train run --data digits --exists resume", "run was made with other settings (training."),
    "resumed twice": ("train run --resume --exists resume", "--resume continues with the run's own settings, and"),
    "unknown choice": ("compare run other --exists overwrite", "Unknown exists 'overwrite'. Choose one of: error, res"),
    "file as run": ("train file --data digits", "file exists already."),
    "file as parent": ("train file/new --data digits", "file is a file; file/new cannot be made inside it."),
    "resumed anew": ("train run --resume --epochs 9", "continues with the run's own settings; leave out --epochs."),
    "recorded anew": ("train run --resume --record last", "leave out --record."),
    "resumed from a file": ("train run --resume --config any.toml", "leave out --config."),
    "fork without a step": ("train new --from run", "--from names the run to fork and --step its step; give both or"),
    "step without a fork": ("train new --step 38", "give both or neither."),
    "fork of no run": ("train new --from missing --step 38", "There is no run at missing."),
    "fork of recordings": ("train new --from recorded --step 38", "recorded holds recordings of"),
    "fork of no step": (
        "train new --from run --step 7 --rule noise",
        "Step 7 is not among the committed steps 0, 38 of run.",
    ),
    "fork at the end": ("train new --from run --step 38", "Step 38 is not before the end of this training, step 38;"),
    "fork of another network": (
        "train new --from run --step 0 --width 9",
        "A fork keeps the settings of its source except --rule, --boundaries, --estimator-learning-rate, --epochs; "
        "leave out --width.",
    ),
    "fork recorded anew": ("train new --from run --step 0 --record all", "leave out --record."),
    "fork from a file": ("train new --from run --step 0 --config any.toml", "leave out --config."),
    "fork of several": ("train new --from run --step 0 --seeds 0-1", "--from forks one run; leave out --seeds"),
    "fork resumed": ("train run --resume --from run --step 0", "--from starts a fork; leave it out to continue one"),
    "fork in place": ("train run --from run --step 0", "run exists already. Choose another name"),
    "fork at no boundary": (
        "train new --from run --step 0 --rule noise@4",
        "names boundary 4; a network with 3 hidden layers has boundaries 1 to 3",
    ),
    "nothing to resume": ("train new --resume", "There is no run at new."),
    "recordings to resume": ("train recorded --resume", "recorded holds recordings of"),
    "no run": ("info missing", "There is no run at missing."),
    "file as a run": ("info file", "file is a file; expected the directory of a run."),
    "folder as a run": ("verify .", ". is not a run directory: it has no run.json."),
    "garbled run": ("info garbled", "garbled/run.json is not readable JSON"),
    "future run": ("info future", "future has format version 99; this version of repsim reads 1."),
    "unknown level": ("verify run --level md5", "Unknown level 'md5'. Choose one of: size, sha256."),
    "damaged": ("verify damaged", "damaged/checkpoints/step_00000038/activations.h5 has changed since it was"),
    # analyses
    "analysis of nothing": ("analyze missing", "There is no run at missing."),
    "analysis of a file": ("analyze file", "file is a file; expected the directory of a run."),
    "analysis of damage": ("analyze damaged", "damaged/checkpoints/step_00000038/activations.h5 has changed"),
    "unknown measure": ("analyze run --measures cka,hsik", "Unknown measure 'hsik'. Choose one of: "),
    "unrecorded layer": ("analyze run --layers hiden.*", "No layer matches 'hiden.*'. Similar names: hidden."),
    "unknown executor": ("analyze run --executor slurm", "Unknown executor 'slurm'. Choose one of: serial, proc"),
    "no processes": ("analyze run --jobs 0", "jobs is 0; expected a whole number of 1 or more."),
    "scheduler of processes": ("analyze run --executor serial --scheduler tcp://x:1", "belongs to the executor dask"),
    "no scheduler": ("analyze run --scheduler nowhere", "There is no scheduler at 'nowhere', nor a file of that name."),
    "two runs into one folder": ("analyze run other --output new", "One output was given for 2 runs."),
    "unknown distance": ("analyze run --distance city", "Unknown distance 'city'. Choose one of: correlation, cosine"),
    "unrecorded step": ("analyze run --steps 7", "'7' is not a recorded step. Use first, last, all or any of: 0, 38."),
    "analysis over a file": ("analyze run --output file", "file is a file; the results need a folder."),
    "analysis in a file": ("analyze run --output file/new", "file is a file; the results need a folder."),
    "analysis over a run": ("analyze run --output other", "other is a run; choose another folder with --output."),
    "no measure": ("analyze run --measures cka,,rsa", "Unknown measure ''. Choose one of: cka, "),
    "penalty of text": ("analyze run --Cs 1,x", "Cs is 'x'; expected a number above 0."),
    "no penalty": ("compare run other --Cs 0", "Cs is 0.0; expected a number above 0."),
    "jobs of a scheduler": (
        "compare run other --scheduler tcp://x:1 --jobs 2",
        "The cluster of tcp://x:1 decides how many workers there are",
    ),
    # sweeps
    "no sweep": ("sweep missing.toml", "missing.toml: No such file or directory."),
    "a folder as sweep": ("sweep run", "run: Is a directory."),
    "sweep of words": ("sweep file", "file is not a TOML file (Expected '=' after a key"),
    "sweep of nothing": ("sweep fixed.toml", "fixed.toml has neither [grid] nor [cases.NAME] nor [arms.NAME]: nothing"),
    "sweep over a run": ("sweep seeds.toml --output run", "run is a run; choose another folder with --output."),
    "one run": ("compare run", "1 run was given; a comparison needs two or more."),
    "one run twice": ("compare run ./run", "The same run was given twice; each run can be compared once."),
    "a run and nothing": ("compare run missing", "There is no run at missing."),
    "other stimuli": ("compare run elsewhere", "elsewhere and run recorded different stimuli: "),
    # recordings
    "other features": ("record run --output new --data narrow.npz", "narrow.npz has 5 features; the network of run"),
    "other layer": ("record run --output new --layer conv", "No layer matches 'conv'. Similar names:"),
    "other step": ("record run --output new --steps 7", "'7' is not a recorded step."),
    "recording over a run": ("record run --output other", "other was made with other settings (training.rule"),
    "recording over a file": ("record run --output file", "file is a file; expected the directory of a run."),
    "recording in a file": ("record run --output file/new", "file is a file; file/new cannot be made inside it."),
    "recording of nothing": ("record missing --output new", "There is no run at missing."),
    "recording of damage": (
        "record lightweight --output new",
        "weights.safetensors has changed since it was committed",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    repsim: Repsim, workplace: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    line, words = MISTAKES[mistake]
    monkeypatch.chdir(workplace)
    before = listing(workplace)
    said = repsim(line)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("repsim: ")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    assert "Traceback" not in said.err
    assert listing(workplace) == before


def test_mnist_offline_names_both_alternatives(repsim: Repsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", offline)
    said = repsim("train --data mnist", tmp_path / "new")
    assert said.code == 2
    assert said.err.startswith(
        "repsim: mnist could not be fetched from OpenML (Name or service not known). Set --data-dir"
    )
    assert "use mnist5k" in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["train new --colour red", "analyze", "paint", "record run"])
def test_invalid_command_lines_point_to_help(
    repsim: Repsim, workplace: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(workplace)
    before = listing(workplace)
    said = repsim(line)
    assert said.code == 2
    assert "--help' for help." in said.err
    assert "Traceback" not in said.err
    assert listing(workplace) == before


# What nobody expected


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("first\n\tsecond"),
            "Unexpected RuntimeError: first second (set REPSIM_TRACEBACK=1 to see where).",
        ),
        (KeyError("name"), "Unexpected KeyError: 'name' (set REPSIM_TRACEBACK=1 to see where)."),
        (MemoryError("Unable to allocate 80 TiB"), "There is not enough memory for this (Unable to allocate 80 TiB)."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "There is not enough memory for this (DefaultCPU"),
        (OSError(28, "No space left on device", "runs/a"), "runs/a: No space left on device."),
        (ValueError("two\nlines"), "two lines"),
    ],
)
def test_an_unexpected_error_is_one_line(
    repsim: Repsim, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    monkeypatch.setattr("analysis.workflows.analyze.analyze_runs", raising(error))
    monkeypatch.delenv("REPSIM_TRACEBACK", raising=False)
    code = 1 if words.startswith("Unexpected") else 2
    said = repsim("analyze run")
    assert (said.code, said.out, said.err.count("\n")) == (code, "", 1)
    assert said.err.startswith(f"repsim: {words}")


def test_an_environment_variable_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.workflows.analyze.analyze_runs", raising(RuntimeError("boom")))
    monkeypatch.setenv("REPSIM_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["repsim", "analyze", "run"])
    with pytest.raises(RuntimeError, match="boom"):
        main()


def test_ctrl_c_before_the_first_task_names_the_command_that_continues(
    repsim: Repsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.workflows.analyze.analyze_runs", raising(KeyboardInterrupt()))
    sentence = "Interrupted; finished results are kept. Continue with the same command: repsim analyze 'my run'"
    assert repsim("analyze", "my run") == (130, "", f"repsim: {sentence}\n")


def test_ctrl_c_in_an_export_does_not_promise_partial_results(repsim: Repsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.export.exporting.export", raising(KeyboardInterrupt()))
    sentence = "Stopped; out.npz was not written. The same command starts again."
    assert repsim("export run --format npz --output out.npz --quiet") == (130, "", f"repsim: {sentence}\n")


def test_a_warning_is_one_line_without_code(repsim: Repsim, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object, **__: object) -> None:
        warnings.warn("Layer 'x' is constant.", RuntimeWarning, stacklevel=1)
        raise ValueError("enough")

    monkeypatch.setattr("analysis.workflows.analyze.analyze_runs", warn)
    shown = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        said = repsim("analyze run")
        assert warnings.showwarning is shown
    assert said.err == "repsim: warning: Layer 'x' is constant.\nrepsim: enough\n"


def raising(error: BaseException) -> Callable[..., None]:
    def function(*_: object, **__: object) -> None:
        raise error

    return function
