import copy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from repsim.learning import TrainingConfig, build_learner, build_optimizer
from repsim.learning.parallel import training_memory
from repsim.learning.parallel.training_memory import Footprint, available_memory, keep_freed_memory, measure_footprint

FEATURES, CLASSES, N, BATCH = 6, 3, 20, 10


def small(**settings: Any) -> tuple[Any, Any, torch.Tensor, torch.Tensor]:
    config = TrainingConfig.from_dict({"depth": 2, "width": 5, "norm": "none"} | settings)
    learner = build_learner(config, FEATURES, CLASSES)
    X = torch.randn(N, FEATURES, generator=torch.Generator().manual_seed(0))
    return learner, build_optimizer(learner, config), X, torch.arange(N) % CLASSES


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs /proc")
def test_available_memory_is_less_than_there_is():
    total = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]) * 1024
    available = available_memory()
    assert available is not None
    assert 0 < available <= total


def test_available_memory_is_that_of_the_system_in_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "read_text", lambda path: "MemTotal:  16 kB\nMemFree:  3 kB\nMemAvailable:   8 kB\n")
    assert available_memory("cpu") == 8 * 1024


def test_available_memory_of_a_gpu_is_that_of_its_driver(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7, 9) if device.index == 1 else (1, 9))
    assert available_memory("cuda:1") == 7


def test_available_memory_is_unknown_if_the_system_does_not_report_it(monkeypatch: pytest.MonkeyPatch):
    assert available_memory("meta") is None
    monkeypatch.setattr(Path, "read_text", lambda path: "MemFree: 3 kB\n")
    assert available_memory() is None

    def absent(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", absent)
    assert available_memory() is None


def test_glibc_is_told_to_keep_what_is_freed(monkeypatch: pytest.MonkeyPatch):
    told: dict[int, int] = {}

    def mallopt(parameter: int, value: int) -> int:
        told[parameter] = value
        return 1

    monkeypatch.setattr(training_memory.sys, "platform", "linux")
    monkeypatch.setattr(training_memory.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory()
    assert told == {-1: 2**30, -2: 2**26, -3: 2**25}


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training_memory.sys, "platform", "linux")
    monkeypatch.setattr(training_memory.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not keep_freed_memory()
    monkeypatch.setattr(training_memory.sys, "platform", "darwin")
    monkeypatch.setattr(training_memory.ctypes, "CDLL", None)  # not even asked for
    assert not keep_freed_memory()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_keeping_freed_memory_spares_page_faults():
    def faults(prepare: str) -> int:
        code = (
            "import ctypes, resource, sys\n"
            f"from repsim.learning.parallel.training_memory import keep_freed_memory\n{prepare}\n"
            "libc = ctypes.CDLL(None)\n"
            "libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (\n"
            "    ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p])\n"
            "size, before = 20 * 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
            "for _ in range(10):\n"
            "    several = [libc.malloc(size) for _ in range(2)]\n"
            "    [ctypes.memset(each, 1, size) for each in several]\n"
            "    [libc.free(each) for each in several]\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert 2 * faults("keep_freed_memory()") < faults("")


def test_the_footprint_of_a_small_network_can_be_counted_by_hand():
    footprint = measure_footprint(*small(), BATCH)
    weights = 4 * (6 * 5 + 5 + 5 * 5 + 5 + 5 * 3 + 3)
    assert footprint.weights == footprint.gradients == weights
    assert footprint.moments == 2 * weights + 4 * 6  # two moments, and the number of updates of six parameters
    one = 4 * FEATURES + 8 + 4 * 2 * 5 + 4 * CLASSES  # X, y, h_1, h_2 and the log of the probabilities
    assert footprint.batch == BATCH * one + BATCH // 2 * 4  # and a scalar, seen once for two examples
    assert footprint.total == 2 * weights + footprint.moments + footprint.batch


def test_the_total_is_the_sum():
    assert Footprint(weights=1, gradients=20, moments=300, batch=4000).total == 4321


def test_the_footprint_of_a_batch_is_proportional_to_it():
    learner, optimizer, X, y = small()
    ten, twenty = (measure_footprint(learner, optimizer, X, y, n) for n in (10, 20))
    assert twenty.batch == 2 * ten.batch
    assert twenty.weights == ten.weights
    assert measure_footprint(learner, optimizer, X[:1], y[:1], 10).batch == pytest.approx(ten.batch, rel=0.03)


def test_the_footprint_counts_what_estimators_hold_and_what_is_not_learned():
    plain = measure_footprint(*small(), BATCH)
    fixed = measure_footprint(*small(rule="direct-feedback-alignment"), BATCH)
    learning = measure_footprint(*small(rule="adaptive-skipped-backprop"), BATCH)
    feedback = 4 * 2 * CLASSES * 5
    assert fixed.weights == learning.weights == plain.weights + feedback
    assert fixed.gradients == plain.gradients
    assert learning.gradients == plain.gradients + feedback
    assert measure_footprint(*small(optimizer="sgd"), BATCH).moments == 0


@pytest.mark.parametrize("rule", ["synthetic-gradient", "target-propagation", "noise"])
def test_measuring_changes_nothing(rule: str):
    learner, optimizer, X, y = small(rule=rule, boundaries="all", norm="batch")
    learner.eval()
    before = copy.deepcopy(learner.state_dict())
    measure_footprint(learner, optimizer, X, y, BATCH)
    assert all(torch.equal(learner.state_dict()[name], values) for name, values in before.items())
    assert not optimizer.state
    assert not learner.training
    assert all(p.grad is None for p in learner.parameters())
