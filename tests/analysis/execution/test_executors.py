import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from analysis import analyze_run
from analysis.config.analysis import AnalysisConfig
from analysis.config.execution import ExecutionConfig
from analysis.execution import EXECUTORS, NotStarted, Task, count_processors, make_executor, processes
from analysis.execution.interruption import Incomplete, TrainingInterrupted
from analysis.execution.progress import Reporter
from analysis.execution.serial import SerialExecutor
from analysis.execution.task import Outcome
from repsim.learning import Diverged

pytest.importorskip("distributed")
dask = pytest.importorskip("dask")

ROOT = Path(__file__).parents[3]


def completed(*, tasks: Sequence[Task], **settings: Any) -> Iterator[Outcome]:
    return make_executor(ExecutionConfig(**settings)).completed(tasks)


def apply(*, function: Callable[[Any], Any], argument: Any) -> None:
    function(argument)


def task_of(name: str, function: Callable[[Any], Any], argument: Any, after: Sequence[Task] = ()) -> Task:
    keys = tuple(task.key for task in after)
    return Task(name, apply, {"function": function, "argument": argument}, after=keys)


def tasks_of(function: Callable[[Any], Any], *arguments: Any) -> list[Task]:
    return [task_of(f"task-{index}", function, argument) for index, argument in enumerate(arguments)]


@pytest.mark.parametrize("name", ["serial", "processes"])
def test_every_task_ends_with_its_error_or_none(name: str) -> None:
    outcomes = completed(executor=name, jobs=1, tasks=tasks_of(math.sqrt, 4.0, -1.0, 9.0))
    done = {task.inputs["argument"]: error for task, error in outcomes}
    assert set(done) == {4.0, -1.0, 9.0}
    assert isinstance(done.pop(-1.0), ValueError)
    assert set(done.values()) == {None}


def diverge(step: int) -> None:
    raise Diverged(step, math.nan, " of the critic")


def stop(step: int) -> None:
    raise TrainingInterrupted(Path("run"), step, "--seeds 0-3")


@pytest.mark.parametrize(
    ("name", "fail"), [("serial", diverge), ("processes", diverge), ("processes", stop), ("dask", stop)]
)
def test_errors_keep_their_type_message_and_attributes(name: str, fail: Callable[[int], None]) -> None:
    ((_, error),) = completed(executor=name, jobs=1, tasks=tasks_of(fail, 3))
    with pytest.raises(type(error)) as here:
        fail(3)
    assert str(error) == str(here.value)
    assert vars(error)["step"] == 3


class MyExecutor(SerialExecutor):
    """An executor that is not part of the package."""

    names: ClassVar[list[str]] = []

    def completed(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        self.names += [task.name for task in tasks]
        yield from super().completed(tasks)


@pytest.mark.parametrize("entry", [MyExecutor, f"{__name__}:MyExecutor"], ids=["class", "import path"])
@pytest.mark.usefixtures("blank_figures")
def test_an_executor_of_a_script_runs_an_analysis(
    copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, entry: str | type
) -> None:
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(MyExecutor=MyExecutor))
    monkeypatch.setitem(EXECUTORS, "mine", entry)
    MyExecutor.names.clear()
    result = analyze_run(
        copied("backprop"), config=AnalysisConfig(steps="last"), execution=ExecutionConfig(executor="mine")
    )
    assert {"rdm", "probes", "similarity", "report"} <= set(MyExecutor.names)
    assert len(result.tables["probes"]) == 3


@pytest.mark.parametrize("name", EXECUTORS)
def test_no_tasks_give_no_outcomes(name: str) -> None:
    assert list(completed(executor=name, tasks=[])) == []


def note(argument: tuple[Path, str, tuple[str, ...]]) -> None:
    folder, name, needed = argument
    if name == "fails":
        raise ValueError("no good")
    for other in needed:
        assert (folder / other).exists(), f"{other} was to be done before {name}"
    (folder / name).touch()


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_task_starts_after_those_that_it_needs_unless_one_failed(name: str, tmp_path: Path) -> None:
    needs = {"a": (), "fails": (), "b": ("a",), "c": ("fails",), "d": ("a", "b"), "e": ("c", "a")}
    tasks: dict[str, Task] = {}
    for each, needed in needs.items():
        tasks[each] = task_of(each, note, (tmp_path, each, needed), [tasks[other] for other in needed])
    found = {task.name: error for task, error in completed(executor=name, jobs=2, tasks=list(tasks.values()))}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "d"]
    assert {key: type(error) for key, error in found.items() if error} == {
        "fails": ValueError,
        "c": NotStarted,
        "e": NotStarted,
    }
    assert "no good" in str(found["c"])


def test_needed_tasks_outside_of_the_set_count_as_finished() -> None:
    ((task, error),) = completed(executor="serial", tasks=[task_of("b", math.sqrt, 1.0, tasks_of(math.sqrt, 4.0))])
    assert (task.name, error) == ("b", None)


def note_threads(seen: list[int]) -> None:
    seen.append(torch.get_num_threads())


def test_the_serial_executor_uses_one_thread_and_restores_their_number() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen: list[int] = []
        list(completed(executor="serial", tasks=[task_of("t", note_threads, seen)]))
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def count_threads(path: Path) -> None:
    from threadpoolctl import threadpool_info

    path.write_text(json.dumps([torch.get_num_threads(), *(each["num_threads"] for each in threadpool_info())]))


@pytest.mark.parametrize("name", EXECUTORS)
def test_every_executor_gives_a_task_one_thread(name: str, tmp_path: Path) -> None:
    list(completed(executor=name, jobs=1, tasks=tasks_of(count_threads, tmp_path / "threads")))
    assert set(json.loads((tmp_path / "threads").read_text())) == {1}


def die_once(folder: Path) -> None:
    if not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "done").touch()


@pytest.mark.parametrize("name", ["processes", "dask"])
def test_the_task_of_a_killed_process_runs_again(name: str, tmp_path: Path) -> None:
    tasks = [task_of("dies", die_once, tmp_path), *tasks_of(math.sqrt, *range(6))]
    outcomes = list(completed(executor=name, jobs=2, tasks=tasks))
    assert sorted(task.key for task, _ in outcomes) == sorted(task.key for task in tasks)
    assert all(error is None for _, error in outcomes)
    assert (tmp_path / "done").exists()


@pytest.fixture
def few_failures() -> Iterator[None]:
    """Let a cluster give up a task when it has killed two workers."""
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        yield


def die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("name", ["processes", "dask"])
def test_a_task_that_kills_its_process_fails_alone(name: str, few_failures: None) -> None:
    dies = task_of("dies", die, None)
    tasks = [dies, *tasks_of(math.sqrt, *range(4)), task_of("waits", math.sqrt, 1.0, [dies])]
    found = {task.name: error for task, error in completed(executor=name, jobs=2, tasks=tasks)}
    types = {key: type(error) for key, error in found.items() if error}
    assert types.items() >= {"dies": Incomplete, "waits": NotStarted}.items()
    assert len(types) == 2 or name == "dask"  # which also blames what waited on the same worker
    assert len(found) == len(tasks)
    assert re.search(r"(died twice|Several workers died) .*dies-|dies-\w+ died twice", str(found["dies"]))
    assert "give the same command again" in str(found["dies"])


class Unpicklable(Exception):
    """An error that cannot be made again from its arguments."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def raise_unpicklable(_: object) -> None:
    raise Unpicklable(1, 2)


def test_an_error_that_cannot_be_pickled_comes_back_as_its_text() -> None:
    ((_, error),) = completed(executor="processes", jobs=1, tasks=tasks_of(raise_unpicklable, None))
    assert type(error) is RuntimeError
    assert str(error) == "Unpicklable: 1 and 2"
    assert "in raise_unpicklable" in error.__notes__[0]


def ask_to_stop(_: object) -> None:
    raise KeyboardInterrupt


def test_a_keyboard_interrupt_in_a_worker_stops_all() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(completed(executor="processes", jobs=1, tasks=tasks_of(ask_to_stop, None)))


def leave_a_process_and_die(folder: Path) -> None:
    descriptors = [int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists() and int(path.name) > 2]
    subprocess.Popen(["sleep", "20"], pass_fds=descriptors)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to list open files")
def test_a_dead_worker_is_noticed_even_if_its_child_lives(tmp_path: Path) -> None:
    ((_, error),) = completed(executor="processes", jobs=1, tasks=tasks_of(leave_a_process_and_die, tmp_path))
    assert type(error) is Incomplete


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def is_gone(process: int, within: float = 30.0) -> bool:
    deadline = time.monotonic() + within
    while exists(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not exists(process)


def processes_of(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("began-")) for path in folder.glob("began-*")]


def test_closing_the_outcomes_ends_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program of the system, such as pgrep, is needed for it."""
    monkeypatch.setenv("PATH", "")
    outcomes = completed(
        executor="processes", jobs=2, tasks=[*tasks_of(wait_long, tmp_path), task_of("t", math.sqrt, 1.0)]
    )
    assert next(outcomes)[0].name == "t"
    assert began(tmp_path)
    started = time.monotonic()
    outcomes.close()
    assert time.monotonic() - started < 5
    assert not any(exists(process) for process in processes_of(tmp_path))


TWO_TASKS = """
import os, signal, sys, time
from pathlib import Path
from analysis import ExecutionConfig
from analysis.execution import Task, make_executor

signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with

def wait_long(*, folder, number):
    (Path(folder) / f"began-{os.getpid()}").touch()
    time.sleep(30)

executor = make_executor(ExecutionConfig(executor="processes", jobs=2))
print("ready", flush=True)
list(executor.completed([Task(str(n), wait_long, {"folder": sys.argv[1], "number": n}) for n in range(2)]))
"""


@contextmanager
def working(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a group of processes, one of which gives the others work."""
    command = [sys.executable, "-c", TWO_TASKS, str(folder)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **streams) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_ctrl_c_reaches_no_worker_even_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    start = processes._start

    def start_and_interrupt(descriptor: int) -> subprocess.Popen[bytes]:
        process = start(descriptor)
        process.send_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(processes, "_start", start_and_interrupt)
    outcomes = list(completed(executor="processes", jobs=1, tasks=tasks_of(interrupt_myself, 1, 2)))
    assert [error for _, error in outcomes] == [None, None]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def interrupt_myself(_: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_workers_print_nothing_when_their_group_is_interrupted(tmp_path: Path) -> None:
    with working(tmp_path) as process:
        assert began(tmp_path)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said.count("Traceback (most recent call last)") == 1  # of the process that asked, as any script has it
    assert said.endswith("KeyboardInterrupt\n")
    assert all(is_gone(worker) for worker in processes_of(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_silently_when_their_parent_is_killed(number: signal.Signals, tmp_path: Path) -> None:
    with working(tmp_path) as process:
        assert began(tmp_path)
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", "")  # which is when the last of them has closed it
    assert all(is_gone(worker) for worker in processes_of(tmp_path))


def test_workers_ignore_a_module_of_the_same_name_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "analysis.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert [error for _, error in completed(executor="processes", jobs=1, tasks=tasks_of(math.sqrt, 4.0))] == [None]


def test_one_cluster_runs_several_sets_of_tasks() -> None:
    with make_executor(ExecutionConfig(executor="dask", jobs=1)) as executor:
        before = executor._client.id
        for _ in range(2):
            assert [error for _, error in executor.completed(tasks_of(math.sqrt, 4.0))] == [None]
            assert executor._client.id == before


def test_the_scheduler_unpickles_nothing(scheduler: tuple[str, Any], tmp_path: Path) -> None:
    """It may run where neither the files nor this package are."""
    address, _ = scheduler
    worker = start_worker(address, tmp_path)
    try:
        outcomes = completed(scheduler=address, tasks=tasks_of(write_where_it_was_read, Told(tmp_path)))
        assert [error for _, error in outcomes] == [None]
    finally:
        worker.kill()
        worker.wait()
    assert (tmp_path / "read by").read_text() == str(worker.pid)


class Told:
    """Notes the process that unpickles it."""

    identity = "told"

    def __init__(self, folder: Path, reader: int = 0) -> None:
        self.folder, self.reader = folder, reader

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_by, (self.folder,)


def _read_by(folder: Path) -> Told:
    with (folder / "readers").open("a") as file:
        file.write(f"{os.getpid()} ")
    return Told(folder, os.getpid())


def write_where_it_was_read(told: Told) -> None:
    (told.folder / "read by").write_text((told.folder / "readers").read_text().strip())


def test_workers_of_several_threads_are_rejected(scheduler: tuple[str, Any], tmp_path: Path) -> None:
    address, _ = scheduler
    worker = start_worker(address, tmp_path, threads=2)
    try:
        with pytest.raises(
            ValueError, match=r"^A worker has 2 threads; tasks need one each\. Start workers with --nthr"
        ):
            list(completed(scheduler=address, tasks=tasks_of(math.sqrt, 1.0)))
    finally:
        worker.kill()
        worker.wait()


def test_one_or_more_processors_are_counted() -> None:
    assert 1 <= count_processors() <= (os.cpu_count() or 1)


# Which executor


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"executor": "slurm"}, r"^Unknown executor 'slurm'\. Choose one of: serial, processes, dask\.$"),
        ({"jobs": 0}, r"^jobs is 0; expected a whole number of 1 or more\.$"),
        ({"jobs": True}, r"^jobs is True; expected a whole number of 1 or more\.$"),
        (
            {"executor": "serial", "scheduler": "tcp://x:1"},
            r"^A scheduler belongs to the executor dask, not to serial\.",
        ),
        ({"jobs": 2, "scheduler": "tcp://x:1"}, r"^The cluster of tcp://x:1 decides how many workers there are"),
        ({"scheduler": "nowhere"}, r"^There is no scheduler at 'nowhere', nor a file of that name\."),
    ],
)
def test_settings_that_exclude_each_other_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_executor(ExecutionConfig(**arguments))


def test_little_work_runs_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.execution.executors.count_processors", lambda: 4)
    assert type(make_executor(cost=1.0)).__name__ == "SerialExecutor"
    assert type(make_executor(cost=100.0)).__name__ == "ProcessExecutor"
    assert type(make_executor(ExecutionConfig(jobs=1), cost=100.0)).__name__ == "SerialExecutor"


# Clusters

needs_jobqueue = pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="needs dask-jobqueue")


class Listener(Reporter):
    """Keeps messages in a list."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__(quiet=True)
        self.heard = heard

    def say(self, message: str) -> None:
        self.heard.append(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cluster", "is not a TOML file"),
        ("queue = 'x'", r"has queue; expected one table, \[cluster\]\."),
        ("[cluster]\njobs = 2", r"kind is None\. Choose one of: .*LocalCluster.*SLURMCluster"),
        ("[cluster]\nkind = 'JobQueueCluster'\njobs = 2", "kind is 'JobQueueCluster'"),
        ("[cluster]\nkind = 'LocalCluster'", "jobs is None; expected the number of jobs, such as jobs = 20"),
        ("[cluster]\nkind = 'LocalCluster'\njobs = true", "jobs is True"),
        ("[cluster]\nkind = 'LocalCluster'\njobs = 1\ncores = 8", "cores are 8 and processes 1; expected equal"),
        ("[cluster]\nkind = 'OARCluster'\njobs = 1", "OARCluster needs the command oarsub, which was not found"),
    ],
)
@needs_jobqueue
def test_an_invalid_cluster_file_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        make_executor(ExecutionConfig(scheduler=str(path)))


@needs_jobqueue
def test_ctrl_c_means_the_same_after_a_cluster_file_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)  # so that it is imported anew
    path = tmp_path / "cluster.toml"
    path.write_text("[cluster]\njobs = 2")
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="kind is None"):
        make_executor(ExecutionConfig(scheduler=str(path)))
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # of its
@needs_jobqueue
def test_a_cluster_in_a_queue_runs_tasks(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text("[cluster]\nkind = 'LocalCluster'\njobs = 1\nmemory = '1 GB'\ninterface = 'lo'\n")
    heard: list[str] = []
    executor = make_executor(ExecutionConfig(scheduler=str(path), progress=Listener(heard)))
    assert [error for _, error in executor.completed(tasks_of(math.sqrt, 4.0, 9.0))] == [None, None]
    assert heard == ["1 jobs were asked for by LocalCluster; work begins with the first that starts."]


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler in a process of its own, without workers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    options = ["--host", address, "--no-dashboard", "--no-jupyter"]
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", *options], stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    yield address, process
    process.kill()
    process.wait()


def start_worker(address: str, folder: Path, threads: int = 1) -> subprocess.Popen[bytes]:
    options = [address, "--nthreads", str(threads), "--no-dashboard", "--no-nanny", "--local-directory", str(folder)]
    return subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_worker", *options], stderr=subprocess.DEVNULL)


def wait_long(folder: Path) -> None:
    (folder / f"began-{os.getpid()}").touch()
    time.sleep(30)


def began(folder: Path) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(folder.glob("began-*")):
            return True
        time.sleep(0.05)
    return False


def test_the_error_of_a_lost_scheduler_says_what_to_do(
    scheduler: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, process = scheduler
    heard: list[str] = []
    executor = make_executor(ExecutionConfig(scheduler=address, progress=Listener(heard)))
    worker = start_worker(address, tmp_path)
    try:
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(lambda: list(executor.completed(tasks_of(wait_long, tmp_path))))
            assert began(tmp_path)
            process.kill()
            with pytest.raises(
                Incomplete, match=r"^The scheduler at tcp://.* was lost\. Finished tasks are kept: start"
            ):
                outcome.result(timeout=60)
    finally:
        worker.kill()
        worker.wait()
