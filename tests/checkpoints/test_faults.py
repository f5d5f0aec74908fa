"""The guarantees of the store when processes die, disks fill up and fail, and bits flip; see tests/faults."""

import errno
import gc
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import checkpoints.metadata
import checkpoints.run
from analysis import train_run
from analysis.cli import main
from analysis.config.recording import RecordingConfig
from checkpoints import Run
from checkpoints.storage.hdf5_files.sink import Sink
from repsim.learning import TrainingConfig

FAULTS = Path(__file__).parents[1] / "faults"
injection, small = (SimpleNamespace(**runpy.run_path(str(FAULTS / name))) for name in ("injection.py", "small_run.py"))
EARLIER, LATER = small.EARLIER, small.LATER


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    """A run with one step, being written."""
    with small.create_run(folder / "run") as run:
        yield run


@pytest.fixture(autouse=True)
def quick_collections() -> None:
    """Exclude the objects of earlier tests from garbage collection, so that collections are quick."""
    gc.collect()
    gc.freeze()


def rehearsed(act: Callable[[], object]) -> list[str]:
    """Do it once without a failure and return the names of the calls."""
    with injection.intercepted(injection.passing) as calls:
        act()
    assert calls
    return calls.copy()


@contextmanager
def failed_call(number: int, calls: list[str]) -> Iterator[None]:
    """Add to an error which call had failed."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"when call {number} of {len(calls)}, {calls[number]}, had failed")
        raise


def disturbed(path: Path, act: Callable[[], object], number: int) -> None:
    """Do it while one call fails, as a broken or a full disk does: an OSError names the run, and the process lives."""
    code = (errno.EIO, errno.ENOSPC)[number % 2]
    with (
        pytest.raises(OSError, match=re.escape(str(path))) as caught,
        injection.intercepted(injection.failing(number, code)),
    ):
        act()
    assert caught.value.errno == code
    del caught
    gc.collect()


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_a_checkpoint_with_a_failed_call_is_absent_and_the_next_one_is_complete(run: Run) -> None:
    step = run.path / "checkpoints" / f"step_{LATER:08d}"
    calls = rehearsed(lambda: small.save(run))
    whole, descriptors = small.contents(step), open_descriptors()
    for number in range(len(calls)):
        shutil.rmtree(step)
        with failed_call(number, calls):
            disturbed(run.path, lambda: small.save(run), number)
            assert run.verify() == [EARLIER]
            assert small.leftovers(run.path) == []
            small.save(run)
            assert run.verify() == [EARLIER, LATER]
            assert small.contents(step) == whole
            assert open_descriptors() == descriptors


def test_a_log_line_with_a_failed_call_leaves_nothing_in_the_log(run: Run) -> None:
    def log() -> None:
        run.log({"step": LATER, "loss": 0.25})

    calls = rehearsed(log)
    for number in range(len(calls)):
        with failed_call(number, calls):
            before = run.metrics()
            disturbed(run.path, log, number)
            assert run.metrics() == before
            log()
            assert run.metrics() == [*before, {"step": LATER, "loss": 0.25}]
    small.save(run)
    assert run.verify() == [EARLIER, LATER]


def test_a_torn_line_is_removed_before_the_next_one_is_logged(run: Run) -> None:
    before = run.metrics()
    for number in range(5):
        with (
            pytest.raises(
                OSError, match=rf"{run.path}/(metrics\.jsonl could not be written|run\.lease-1 could not be read)"
            ),
            injection.intercepted(injection.failing(number, errno.EIO, lasting=True)),
        ):
            run.log({"step": LATER, "loss": 0.25})
        assert Run.open(run.path).verify() == [EARLIER]
    run.log({"step": LATER + 1})
    assert run.metrics() == [*before, {"step": LATER + 1}]
    small.save(run)
    assert run.verify() == [EARLIER, LATER]


def test_a_status_with_a_failed_call_is_the_old_or_the_new_one(run: Run) -> None:
    run.log({"step": LATER})
    calls = rehearsed(lambda: run.set_status("running"))
    for number in range(len(calls)):
        with failed_call(number, calls):
            disturbed(run.path, lambda: run.set_status("finished"), number)
            assert Run.open(run.path).status["state"] in ("running", "finished")
            assert run.verify() == [EARLIER]
            assert small.leftovers(run.path) == []
            run.set_status("running")
            assert Run.open(run.path).status["state"] == "running"
            assert run.verify() == [EARLIER]


def test_a_log_that_could_not_be_cut_can_be_cut_and_written_later(run: Run) -> None:
    def cut() -> None:
        run.cut_metrics(EARLIER)

    calls = rehearsed(cut)
    first = run.metrics()
    for number in range(len(calls)):
        with failed_call(number, calls):
            run.log({"step": LATER, "loss": 0.25})
            disturbed(run.path, cut, number)
            assert run.verify() == [EARLIER]
            assert small.leftovers(run.path) == []
            run.log({"step": LATER + 1})
            run.set_status("running")
            assert run.verify() == [EARLIER]
            cut()
            assert run.metrics() == first


def test_a_run_with_a_failed_call_is_not_created(folder: Path) -> None:
    path = folder / "run"

    def create() -> None:
        Run.create(path, {}, small.make_stimuli()).close()

    made: list[Run] = []
    calls = rehearsed(lambda: made.append(Run.create(path, {}, small.make_stimuli())))
    made[0].close()
    assert calls[0] == "mkdir"  # of the parent, which is there
    for number in range(1, len(calls)):
        shutil.rmtree(path)
        with failed_call(number, calls):
            disturbed(folder, create, number)
            assert list(folder.iterdir()) == []
            create()
            assert Run.open(path).verify() == []


def test_short_writes_of_the_system_are_continued(folder: Path) -> None:
    with injection.intercepted(injection.shortening):
        run = small.create_run(folder / "run")
        assert re.fullmatch(rb'\{"pid": \d+, "host": ".*"\}', (run.path / "run.lock").read_bytes())
        small.save(run)
        run.log({"step": LATER})
        run.set_status("finished")
        run.close()
    assert run.verify() == [EARLIER, LATER]
    assert run.metrics()[1:] == [{"step": LATER}]


def test_a_status_that_is_replaced_while_a_reader_verifies_is_not_damage(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoints.metadata.check_as_written

    def replaced_before(path: Path) -> None:
        run.set_status("running", step=LATER)
        real(path)

    monkeypatch.setattr(checkpoints.metadata, "check_as_written", replaced_before)
    assert Run.open(run.path).verify() == [EARLIER]


def test_a_file_that_could_not_be_created_is_closed(folder: Path) -> None:
    sink = Sink.__new__(Sink)
    with pytest.raises(OSError, match=f"{folder}/absent/file could not be written"):
        sink.__init__(folder / "absent" / "file")
    assert sink.closed


# The scripts, in short


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script of tests/faults in a process of its own, as it forks and kills."""
    command = [sys.executable, str(FAULTS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_run_killed_at_random_times_loses_no_step_and_ends_like_an_uninterrupted_one() -> None:
    done = script("kill.py", "--kills", 5, "--seed", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"^0 lost or damaged.*\n[1-9]\d* runs finished and compared, 0 differing", done.stdout, re.MULTILINE
    )


def test_a_process_killed_at_any_call_leaves_a_complete_step_or_nothing() -> None:
    done = script("calls.py", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    kills = dict(re.findall(r"^(\w+): (\d+) kills.*, 0 faults$", done.stdout, re.MULTILINE))
    assert kills.keys() == {"create", "checkpoint", "log", "set_status", "cut_metrics", "resume"}
    assert int(kills["checkpoint"]) > 50


def test_a_full_disk_is_an_error_and_not_a_crash() -> None:
    done = script("full_disk.py", "--room", 2**18)
    if done.returncode == 77:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"^(\d+) attempts that did not fit", done.stdout, re.MULTILINE)[1]) >= 32


def test_every_flipped_bit_and_every_truncation_of_every_file_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script starts no process and harms none, so that it can run in this one."""
    monkeypatch.setattr(sys, "argv", ["damage.py", "--flips", "150", "--truncations", "60"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(FAULTS / "damage.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert not stop.value.code, said
    assert "150 of 150 bit flips found\n60 of 60 truncations found" in said


def test_there_is_one_writer_and_readers_see_complete_steps_only() -> None:
    done = script("writers.py", "--steps", 10, "--readers", 3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "second writer: refused, files untouched" in done.stdout
    assert re.search(r"^taken over from process \d+ on .+; before, from None$", done.stdout, re.MULTILINE)


def test_processes_that_die_or_stall_never_hold_a_lease_together() -> None:
    done = script("leases.py", "--seconds", 8)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ times held, \d+ lines, [1-9]\d* holders killed", done.stdout, re.MULTILINE)


# Messages for users


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a finished run of two recorded steps."""
    path = tmp_path_factory.mktemp("trained") / "run"
    settings = TrainingConfig(data="digits", depth=2, width=8, epochs=1)
    return train_run(path, settings, RecordingConfig(n_train=60, n_validation=20, n_test=20)).path


@pytest.mark.parametrize("harm", ["flip", "cut"])
@pytest.mark.parametrize("name", ["activations.h5", "weights.safetensors", "optimizer.safetensors", "state.json"])
def test_the_analysis_of_a_damaged_step_names_the_file(
    trained: Path, name: str, harm: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Run.open(trained).last().path / name
    whole = file.read_bytes()
    half = len(whole) // 2
    file.write_bytes(whole[:half] + (bytes([whole[half] ^ 1]) + whole[half + 1 :] if harm == "flip" else b""))
    monkeypatch.setattr(sys, "argv", ["repsim", "analyze", str(trained)])
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        file.write_bytes(whole)
    assert stop.value.code == 2
    *_, sentence = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"repsim: {file} has (changed since|\d+ bytes; \d+ were).*\.", sentence)
    assert not (trained / "analysis").exists()
