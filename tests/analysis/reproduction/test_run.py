"""Reproduction as a whole, over two small experiments that stand in for the real ones."""

import dataclasses
import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import analysis.reproduction.report as reproduction_report
import analysis.reproduction.run as reproduction
from analysis.cli.reproduce import EXPERIMENT_NAMES
from analysis.config.execution import ExecutionConfig
from analysis.execution.interruption import Interrupted
from analysis.plots.axes import figure_of, new_axes
from analysis.plots.drawing import Drawing
from analysis.reproduction.claim import Tables
from analysis.reproduction.claims import EXPERIMENTS, Experiment, Part, Plan, Results, Section
from analysis.reproduction.run import reproduce
from checkpoints.storage.lock import Lock, Locked

CALLS: list[str] = []
SERIAL = ExecutionConfig(executor="serial")


def work(folder: Path, *, name: str, seed: int, fails: bool = False, stops: bool = False) -> Tables:
    CALLS.append(f"{name}-{seed}")
    if fails:
        raise ValueError("it went wrong")
    if stops:
        raise KeyboardInterrupt
    return {"numbers": pd.DataFrame([{"experiment": name, "seed": seed, "value": seed / 3}])}


def conclude(results: Results) -> Section:
    ax = new_axes(2.0, 1.5)
    ax.plot(results["numbers"]["seed"], results["numbers"]["value"])
    return Section(
        setting="Some <numbers>.",
        verdict="holds",
        findings=[f"The sum is {results['numbers']['value'].sum():.2f}."],
        drawings=[Drawing("values", "Values", "What they are.", figure_of(ax))],
        tables={"numbers": results["numbers"]},
        shown={"All": results["numbers"]},
    )


def experiment(name: str, shared: bool = False, **options: Any) -> Experiment:
    def parts(plan: Plan) -> list[Part]:
        group = "shared" if shared else name
        settings = {"name": group, **options}
        return [
            Part(name=f"seed-{s}", work=work, settings=settings | {"seed": s}, cost=1.0, group=group, stage=s % 2)
            for s in plan.seeds
        ]

    return Experiment(name=name, title=name.capitalize(), claim="[S] It is so.", parts=parts, conclude=conclude)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    CALLS.clear()

    def replace_all(*experiments: Experiment) -> None:
        by_name = {each.name: each for each in experiments}
        for module in (reproduction, reproduction_report):
            monkeypatch.setattr(module, "EXPERIMENTS", by_name)

    return replace_all


def test_every_experiment_gets_tables_figures_and_a_section(use: Callable[..., None], tmp_path: Path) -> None:
    use(experiment("first"), experiment("second"))
    done = reproduce(output=tmp_path / "out", execution=SERIAL)
    assert list(done.sections) == ["first", "second"]
    assert done.summary() == [f"{name}: holds. The sum is 3.33." for name in ("First", "Second")]
    for name in done.sections:
        assert (tmp_path / "out" / name / "numbers.csv").read_text().count("\n") == 6
        assert {path.name for path in (tmp_path / "out" / name / "figures").iterdir()} == {"values.png", "values.pdf"}
    page = done.report.read_text()
    assert "Some &lt;numbers&gt;." in page
    assert page.count('src="data:image/png;base64,') == 2
    assert re.search(r"(src|href)=\"(?!data:|#)", page) is None  # needs nothing beside it


def test_what_is_done_is_not_done_again(use: Callable[..., None], tmp_path: Path) -> None:
    use(experiment("first"), experiment("second"))
    reproduce(["first"], output=tmp_path, execution=SERIAL)
    assert len(CALLS) == 5
    done = reproduce(["all"], output=tmp_path, execution=SERIAL)
    assert len(CALLS) == 10
    assert list(done.sections) == ["first", "second"]


def test_parts_that_experiments_share_are_done_once(use: Callable[..., None], tmp_path: Path) -> None:
    use(experiment("first", shared=True), experiment("second", shared=True))
    done = reproduce(output=tmp_path, execution=SERIAL)
    assert len(CALLS) == 5
    assert list(done.sections) == ["first", "second"]


def test_the_report_keeps_experiments_that_were_done_before(use: Callable[..., None], tmp_path: Path) -> None:
    use(experiment("first"), experiment("second"))
    done = reproduce(["second"], output=tmp_path, execution=SERIAL)
    assert "Not done yet: First." in done.report.read_text()
    done = reproduce(["first"], output=tmp_path, execution=SERIAL)
    assert list(done.sections) == ["first", "second"]
    assert "Not done yet" not in done.report.read_text()


def test_stages_wait_for_one_another(use: Callable[..., None], tmp_path: Path) -> None:
    use(experiment("first"))
    reproduce(output=tmp_path, execution=SERIAL)
    assert [int(call[-1]) % 2 for call in CALLS] == [0, 0, 0, 1, 1]


def test_a_part_that_fails_does_not_stop_the_other_experiments(use: Callable[..., None], tmp_path: Path) -> None:
    use(experiment("first", fails=True), experiment("second"))
    with pytest.raises(RuntimeError, match=r"^3 parts failed \(first/seed-0-\w+: it went wrong; .* done and kept\.$"):
        reproduce(output=tmp_path, execution=SERIAL)
    assert "Not done yet: First." in (tmp_path / "report.html").read_text()
    assert (tmp_path / "second" / "numbers.csv").is_file()


def test_a_conclusion_that_fails_does_not_stop_the_other_experiments(use: Callable[..., None], tmp_path: Path) -> None:
    def fail(results: Results) -> Section:
        raise ValueError("it cannot be said")

    use(dataclasses.replace(experiment("first"), conclude=fail), experiment("second"))
    message = r"^1 parts failed \(the conclusion of first: it cannot be said\)\. The rest is done and kept\.$"
    with pytest.raises(RuntimeError, match=message):
        reproduce(output=tmp_path, execution=SERIAL)
    assert "Not done yet: First." in (tmp_path / "report.html").read_text()
    done = reproduce(["second"], output=tmp_path, execution=SERIAL)
    assert list(done.sections) == ["second"]


def test_two_do_not_reproduce_in_one_folder(use: Callable[..., None], tmp_path: Path) -> None:
    use(experiment("first"))
    lock = Lock(tmp_path / "lock")
    with pytest.raises(Locked, match="is being written by"):
        reproduce(output=tmp_path, execution=SERIAL)
    lock.release()
    assert list(reproduce(output=tmp_path, execution=SERIAL).sections) == ["first"]


@pytest.mark.parametrize(
    ("seeds", "option"),
    [((0, 1, 2, 3), "--seeds 0-3"), ((0, 2, 3, 9), "--seeds 0,2,3,9"), ((5, 6, 7, 8), "--seeds 5-8")],
)
def test_the_report_says_how_to_do_it_again(
    use: Callable[..., None], tmp_path: Path, seeds: tuple[int, ...], option: str
) -> None:
    use(experiment("first"))
    done = reproduce(output=tmp_path / "a b", plan=Plan(seeds=seeds, data_dir="/data"), execution=SERIAL)
    command = f"repsim reproduce first --scale quick {option} --data-dir /data --output '{tmp_path}/a b'"
    assert command in html.unescape(done.report.read_text())


def test_seeds_of_the_networks_that_others_are_compared_with_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^Seed 1000000 is too large; expected seeds below 1,000,000\.$"):
        Plan(seeds=(0, 1, 2, 1_000_000))


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(use: Callable[..., None], tmp_path: Path) -> None:
    use(experiment("first"), experiment("second", stops=True))
    with pytest.raises(Interrupted, match=r"^Stopped; of 10 parts 5 are done and kept\. Continue with the same com"):
        reproduce(output=tmp_path, execution=SERIAL)
    use(experiment("first"), experiment("second"))
    CALLS.clear()
    reproduce(output=tmp_path, execution=SERIAL)
    assert len(CALLS) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"claims": ["third"]}, r"experiment.*'third'.*first, second, all"),
        ({"execution": ExecutionConfig(executor="slurm")}, r"Unknown executor 'slurm'"),
        ({"plan": Plan(device="nowhere")}, r"There is no device 'nowhere' here"),
    ],
)
def test_what_will_not_do_is_told_before_anything_is_written(
    use: Callable[..., None], tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    use(experiment("first"), experiment("second"))
    with pytest.raises(ValueError, match=message):
        reproduce(output=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_file_or_a_run_in_the_way_is_left_alone(use: Callable[..., None], tmp_path: Path) -> None:
    use(experiment("first"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"file is a file; the results need a folder"):
        reproduce(output=tmp_path / "file")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"is a run; choose another folder"):
        reproduce(output=tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_command_names_every_experiment() -> None:
    assert tuple(EXPERIMENTS) == EXPERIMENT_NAMES


def test_each_experiment_says_what_is_claimed_and_by_whom() -> None:
    for name, each in EXPERIMENTS.items():
        assert name == each.name
        assert re.match(r"\[[SM]\] .+\.$", each.claim, re.DOTALL), name


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_the_parts_of_all_experiments_are_told_apart_and_can_be_kept(scale: str) -> None:
    plan = Plan(scale=scale)
    for each in EXPERIMENTS.values():
        parts = list(each.parts(plan))
        assert len({part.key for part in parts}) == len(parts)
        for part in parts:
            assert json.loads(json.dumps(part.settings)) == part.settings, part.key
            assert re.fullmatch(r"[\w./-]+", part.key), part.key
            assert part.cost > 0
            assert part.stage >= 0


def test_parts_follow_from_the_seeds() -> None:
    for each in EXPERIMENTS.values():
        few, others = (
            {part.key for part in each.parts(Plan(seeds=seeds))} for seeds in ((0, 1, 2, 3), (10, 11, 12, 13))
        )
        assert not few & others, each.name


SCRIPT = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the parent of the tests did with it
from pathlib import Path
import pandas as pd
import analysis.reproduction.run as reproduction
import analysis.reproduction.report as reproduction_report
from analysis.reproduction.claims import Experiment, Part, Section

def work(folder, *, seed):
    (folder / f"pid-{os.getpid()}").touch()
    time.sleep(0.15)
    return {"numbers": pd.DataFrame({"seed": [seed], "value": [seed / 3]})}

def parts(plan):
    return [Part(name=f"seed-{s}", work=work, settings={"seed": s}, cost=1.0, group="slow") for s in plan.seeds]

def conclude(results):
    return Section(setting="-", verdict="holds", findings=["-"], drawings=[], tables=results.tables)

slow = Experiment(name="slow", title="Slow", claim="-", parts=parts, conclude=conclude)
for module in (reproduction, reproduction_report):
    module.EXPERIMENTS = {"slow": slow}
if __name__ == "__main__":
    from analysis import ExecutionConfig
    from analysis.reproduction.claims import Plan
    reproduction.reproduce(output=sys.argv[1], plan=Plan(seeds=tuple(range(16))), execution=ExecutionConfig(jobs=2))
"""


@contextmanager
def started(script: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, script, output]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the table of a reproduction that nobody stops."""
    folder = tmp_path_factory.mktemp("undisturbed")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    with started(script, folder / "out") as process:
        assert process.wait(timeout=120) == 0
    return (folder / "out" / "slow" / "numbers.csv").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_it_goes_on_and_ends_the_same(tmp_path: Path, number: int, undisturbed: bytes) -> None:
    script, output = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    with started(script, output) as process:
        wait_for(lambda: len(list(output.glob("parts/slow/seed-*"))) >= 3)
        process.send_signal(number)
        process.wait(timeout=60)
    workers = [int(path.name.removeprefix("pid-")) for path in output.glob("pid-*")]
    assert workers
    wait_for(lambda: not any(map(is_running, workers)), 30.0)
    assert not (output / "slow").exists()
    with started(script, output) as process:
        assert process.wait(timeout=120) == 0
    table = output / "slow" / "numbers.csv"
    assert table.read_bytes() == undisturbed
    assert pd.read_csv(table)["seed"].tolist() == list(range(16))
