"""What a bare root promises of the commands that run in it, with this machine's own programs in place of Debian's."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
try:
    from bare import NOBODY, BareRoot, _pip_settings, why_not
finally:
    sys.path.remove(str(HERE))

missing = why_not()
isolated = pytest.mark.skipif(bool(missing), reason=missing)


@pytest.fixture
def root(tmp_path: Path) -> BareRoot:
    tmp_path.chmod(0o755)
    for name in ("src", "proc", "dev/shm", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dev" / "null").touch()
    programs = [path for path in map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib64")) if path.is_dir()]
    for program in programs:
        (tmp_path / program.name).mkdir()
    return BareRoot(tmp_path, [(str(path), str(path), "ro") for path in programs])


def mounted(folder: Path) -> bool:
    return str(folder) in Path("/proc/mounts").read_text()


@isolated
def test_a_command_has_no_home_no_terminal_and_little_shared_memory(root: BareRoot) -> None:
    done = root.run("echo $HOME,$LANG,$PWD; df -k /dev/shm | tail -n 1; tty; test ! -e /usr/x", seconds=60)
    first, shared, terminal = done.output.splitlines()
    assert (done.status, first, shared.split()[1], terminal) == (0, ",C,/src", str(64 * 1024), "not a tty")
    assert not mounted(root.folder)


@isolated
def test_the_status_of_a_command_is_told(root: BareRoot) -> None:
    assert root.run("exit 3", seconds=60).status == 3


@isolated
def test_a_read_only_source_cannot_be_written_not_even_by_root(root: BareRoot) -> None:
    for user in (0, NOBODY):
        assert root.run("touch new", seconds=60, user=user, read_only=True).status == 1
    assert root.run("touch new", seconds=60).status == 0


@isolated
def test_a_process_that_a_command_leaves_behind_is_told(root: BareRoot) -> None:
    started = "for _ in $(seq 100); do grep -q python /proc/$!/comm && break; sleep 0.1; done"
    command = f"cp $(command -v sleep) python-sleep; ./python-sleep 30 >/dev/null & {started}"
    assert root.run(command, seconds=60).status == 124


@isolated
def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(root: BareRoot) -> None:
    started = time.monotonic()
    assert root.run("sleep 100.5 & sleep 100.5", seconds=2).status == 124
    assert time.monotonic() - started < 30
    assert not mounted(root.folder)
    assert "100.5" not in running()


def running() -> str:
    return "\n".join(path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())


def test_pips_settings_are_those_of_this_machine_and_its_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\ntimeout = 3\nextra-index-url =\n  file:///a/simple\n  file:///b/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_TIMEOUT", "7")
    settings = _pip_settings()
    assert settings["timeout"] == "7"
    assert settings["extra-index-url"].split() == ["file:///a/simple", "file:///b/simple"]


@pytest.fixture
def interpreter(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment without the programs that a root needs."""
    (tmp_path / "bin").mkdir()
    yield {**os.environ, "PATH": str(tmp_path / "bin")}


def test_without_what_it_needs_the_command_says_what_is_missing_and_is_skipped(interpreter: dict[str, str]) -> None:
    command = [sys.executable, str(HERE / "run.py")]
    done = subprocess.run(command, env=interpreter, capture_output=True, text=True, timeout=60)
    assert done.returncode == 77
    assert done.stdout.startswith("Skipped: a bare root ")
