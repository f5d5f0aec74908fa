"""Reproduction as a whole, over two small claims that stand in for the real ones."""

import html
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.config.execution import ExecutionConfig
from analysis.execution import Task
from analysis.execution.interruption import Interrupted
from analysis.plots.axes import figure_of, new_axes
from analysis.plots.drawing import Drawing
from analysis.reproduction import claims as registry
from analysis.reproduction.claim import Claim, Frames, Plan, Results, Section, claim_task
from analysis.reproduction.reproduce import reproduce
from checkpoints.storage.lock import Lock, Locked

CALLS: list[str] = []
SERIAL = ExecutionConfig(executor="serial")


def work(
    folder: Path, *, group: str, seed: int, fails: bool = False, stops: bool = False, warns: bool = False
) -> Frames:
    CALLS.append(f"{group}-{seed}")
    if warns:
        warnings.warn("a value is large", RuntimeWarning, stacklevel=2)
    if fails:
        raise ValueError("it went wrong")
    if stops:
        raise KeyboardInterrupt
    return {"numbers": pd.DataFrame([{"claim": group, "seed": seed, "value": seed / 3}])}


def conclude(results: Results) -> Section:
    return Section(
        setting="Some <numbers>.",
        verdict="holds",
        findings=[f"The sum is {results['numbers']['value'].sum():.2f}."],
        tables={"numbers": results["numbers"]},
        shown={"All": results["numbers"]},
    )


def figures(results: Results, section: Section) -> list[Drawing]:
    ax = new_axes(2.0, 1.5)
    ax.plot(section.tables["numbers"]["seed"], section.tables["numbers"]["value"])
    return [Drawing("values", "Values", "Their plot.", figure_of(ax))]


def claim(name: str, shared: bool = False, **options: Any) -> Claim:
    """Return a claim whose tasks of odd seeds need those of even seeds."""

    def parts(plan: Plan) -> list[Task]:
        def task(seed: int, after: Sequence[Task] = ()) -> Task:
            group = "shared" if shared else name
            return claim_task(f"{group}-seed-{seed}", work, cost=1.0, after=after, group=group, seed=seed, **options)

        even = [task(seed) for seed in plan.seeds if seed % 2 == 0]
        return [*even, *(task(seed, even) for seed in plan.seeds if seed % 2)]

    return Claim(
        name=name, title=name.capitalize(), statement="[S] It is so.", parts=parts, conclude=conclude, figures=figures
    )


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Register the given claims alone."""
    CALLS.clear()

    def register(*claims: Claim) -> None:
        monkeypatch.setattr(registry, "CLAIMS", {each.name: each for each in claims})

    return register


def test_every_claim_gets_tables_figures_and_a_section(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first"), claim("second"))
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


def test_finished_tasks_do_not_run_again(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first"), claim("second"))
    reproduce(["first"], output=tmp_path, execution=SERIAL)
    assert len(CALLS) == 5
    done = reproduce(["all"], output=tmp_path, execution=SERIAL)
    assert len(CALLS) == 10
    assert list(done.sections) == ["first", "second"]


def test_warnings_of_tasks_are_repeated_with_their_results(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first", warns=True))
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match=r"^first-seed-\d: a value is large$"):
            reproduce(output=tmp_path, execution=SERIAL)
    assert len(CALLS) == 5


def test_tasks_that_claims_share_run_once(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first", shared=True), claim("second", shared=True))
    done = reproduce(output=tmp_path, execution=SERIAL)
    assert len(CALLS) == 5
    assert list(done.sections) == ["first", "second"]


def test_the_report_keeps_claims_that_were_finished_before(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first"), claim("second"))
    done = reproduce(["second"], output=tmp_path, execution=SERIAL)
    assert "Not finished yet: First." in done.report.read_text()
    done = reproduce(["first"], output=tmp_path, execution=SERIAL)
    assert list(done.sections) == ["first", "second"]
    assert "Not finished yet" not in done.report.read_text()


def test_tasks_run_after_those_that_they_need(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first"))
    reproduce(output=tmp_path, execution=SERIAL)
    assert [int(call[-1]) % 2 for call in CALLS] == [0, 0, 0, 1, 1]


def test_a_task_that_fails_does_not_stop_the_other_claims(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first", fails=True), claim("second"))
    with pytest.raises(RuntimeError, match=r"^3 tasks failed \(first-seed-0-\w+: it went wrong; .* stored"):
        reproduce(output=tmp_path, execution=SERIAL)
    assert "Not finished yet: First." in (tmp_path / "report.html").read_text()
    assert (tmp_path / "second" / "numbers.csv").is_file()


def test_a_conclusion_that_fails_does_not_stop_the_other_claims(use: Callable[..., None], tmp_path: Path) -> None:
    def fail(results: Results) -> Section:
        raise ValueError("no conclusion")

    use(replace(claim("first"), conclude=fail), claim("second"))
    message = r"1 tasks failed \(the conclusion of first: no conclusion\).* stored"
    with pytest.raises(RuntimeError, match=message):
        reproduce(output=tmp_path, execution=SERIAL)
    assert "Not finished yet: First." in (tmp_path / "report.html").read_text()
    done = reproduce(["second"], output=tmp_path, execution=SERIAL)
    assert list(done.sections) == ["second"]


def test_a_folder_is_locked_against_a_second_reproduction(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first"))
    lock = Lock(tmp_path / "lock")
    with pytest.raises(Locked, match="is being written by"):
        reproduce(output=tmp_path, execution=SERIAL)
    lock.release()
    assert list(reproduce(output=tmp_path, execution=SERIAL).sections) == ["first"]


@pytest.mark.parametrize(
    ("seeds", "option"),
    [((0, 1, 2, 3), "--seeds 0-3"), ((0, 2, 3, 9), "--seeds 0,2,3,9"), ((5, 6, 7, 8), "--seeds 5-8")],
)
def test_the_report_has_the_command_that_repeats_it(
    use: Callable[..., None], tmp_path: Path, seeds: tuple[int, ...], option: str
) -> None:
    use(claim("first"))
    done = reproduce(output=tmp_path / "a b", plan=Plan(seeds=seeds, data_dir="/data"), execution=SERIAL)
    command = f"repsim reproduce first --scale quick {option} --data-dir /data --output '{tmp_path}/a b'"
    assert command in html.unescape(done.report.read_text())


def test_ctrl_c_reports_what_is_stored_and_how_to_continue(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first"), claim("second", stops=True))
    with pytest.raises(Interrupted, match=r"3 of 10 tasks are done and kept\. Continue with the same command"):
        reproduce(output=tmp_path, execution=SERIAL)
    use(claim("first"), claim("second"))
    CALLS.clear()
    reproduce(output=tmp_path, execution=SERIAL)
    assert len(CALLS) == 7


def test_ctrl_c_during_the_conclusions_keeps_all_tasks(
    use: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    use(replace(claim("first"), conclude=interrupted))
    with pytest.raises(Interrupted, match=r"^Stopped; the results of all tasks are kept\. Continue with the same com"):
        reproduce(output=tmp_path, execution=SERIAL)
    use(claim("first"))
    CALLS.clear()
    assert list(reproduce(output=tmp_path, execution=SERIAL).sections) == ["first"]
    assert CALLS == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"claims": ["third"]}, r"claim 'third'.*first, second, all"),
        (
            {"execution": ExecutionConfig(executor="serial", scheduler="tcp://x")},
            r"A scheduler belongs to the executor dask",
        ),
        ({"plan": Plan(device="nowhere")}, r"There is no device 'nowhere' here"),
    ],
)
def test_mistakes_are_reported_before_anything_is_written(
    use: Callable[..., None], tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    use(claim("first"), claim("second"))
    with pytest.raises(ValueError, match=message):
        reproduce(output=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_or_a_run_is_rejected(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"file is a file; the results need a folder"):
        reproduce(output=tmp_path / "file")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"is a run; choose another folder"):
        reproduce(output=tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


def test_claim_objects_are_reproduced_beside_registered_claims(use: Callable[..., None], tmp_path: Path) -> None:
    use(claim("first"))
    own = claim("own")
    done = reproduce([own, "first"], output=tmp_path, execution=SERIAL)
    assert list(done.sections) == ["first", "own"]
    assert done.summary()[1] == "Own: holds. The sum is 3.33."
    assert (tmp_path / "own" / "figures" / "values.png").is_file()
    assert 'id="own"' in done.report.read_text()


def test_one_file_and_one_entry_in_claims_add_a_claim_to_the_command(
    repsim: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "reproduction.md").read_text()
    (module,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "odd.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.CLAIMS, "odd", "odd")
    output = tmp_path / "out"
    said = repsim("reproduce odd --seeds 0-3 --executor serial --output", output)
    assert said.out.splitlines()[0] == "Odd seeds: holds in part. 2 of 4 seeds are odd."
    assert pd.read_csv(output / "odd" / "numbers.csv")["value"].tolist() == [0, 1, 0, 1]
    assert 'id="odd"' in (output / "report.html").read_text()


SCRIPT = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the parent of the tests did with it
from pathlib import Path
import pandas as pd
from analysis.reproduction.claim import Claim, Plan, Section, claim_task
from analysis.reproduction.claims import CLAIMS
from analysis.reproduction.reproduce import reproduce

def work(folder, *, seed):
    (folder / f"pid-{os.getpid()}").touch()
    time.sleep(0.15)
    return {"numbers": pd.DataFrame({"seed": [seed], "value": [seed / 3]})}

def parts(plan):
    return [claim_task(f"slow-seed-{seed}", work, cost=1.0, seed=seed) for seed in plan.seeds]

def conclude(results):
    return Section(setting="-", verdict="holds", findings=["-"], tables=results.tables)

def figures(results, section):
    return []

slow = Claim(name="slow", title="Slow", statement="-", parts=parts, conclude=conclude, figures=figures)
CLAIMS.clear()
CLAIMS["slow"] = slow
if __name__ == "__main__":
    from analysis import ExecutionConfig
    reproduce(output=sys.argv[1], plan=Plan(seeds=tuple(range(16))), execution=ExecutionConfig(jobs=2))
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


def test_a_killed_reproduction_continues_to_the_same_numbers(tmp_path: Path) -> None:
    script, output = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    with started(script, output) as process:
        wait_for(lambda: len(list(output.glob("cache/slow-seed-*"))) >= 3)
        process.kill()
        process.wait(timeout=60)
    workers = [int(path.name.removeprefix("pid-")) for path in output.glob("pid-*")]
    assert workers
    wait_for(lambda: not any(map(is_running, workers)), 30.0)
    assert not (output / "slow").exists()
    with started(script, output) as process:
        assert process.wait(timeout=120) == 0
    undisturbed = pd.DataFrame({"seed": range(16), "value": [seed / 3 for seed in range(16)]})
    pd.testing.assert_frame_equal(pd.read_csv(output / "slow" / "numbers.csv"), undisturbed, rtol=1e-15)
