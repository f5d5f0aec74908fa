"""`repsim compare` from exec to exit, against a short script of its core numbers, an earlier commit, and its limits.

The networks have 8 hidden layers of 128 units, five seeds each of backprop and of a synthetic gradient in the middle,
trained for six epochs on mnist5k; 500 test stimuli are held out. The script, `by_hand.py`, uses NumPy, SciPy and
scikit-learn: CKA of all pairs of layers, pair by pair; RDMs and their Pearson and Spearman correlations with the first
ones; probes over three C in two processes. Its numbers are checked against the tables of the comparison. The comparison
of 3 networks of 20 layers and 1,000 test stimuli is that of the demo, against the code of an earlier commit.

Memory is the peak of the largest process, and the largest sum over all processes of the command (Linux).
``python benchmarks/bench_comparison.py --parts ends demo`` runs these alone; ``--folder`` keeps the networks for more.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from bench_report import page_rows, seconds_to_open
from harness import Ratio, ratio
from process_memory import MEASURED, watch

import analysis

EARLIER = "585950c"  # the commit that the comparison of the demo is timed against
MOST_MEGABYTES, MOST_SECONDS_AGAIN, MOST_SECONDS_TO_OPEN = 700.0, 1.0, 2.0
CODE, BY_HAND = Path(analysis.__file__).parents[1], Path(__file__).with_name("by_hand.py")
ARMS = {"bp": "backprop", "sg": "synthetic-gradient@4"}
DEMO = {
    "backprop": ["--rule", "backprop"],
    "sg-middle": ["--rule", "synthetic-gradient", "--boundaries", "middle"],
    "sg-every-boundary": ["--rule", "synthetic-gradient", "--boundaries", "inner"],
}
N_SEEDS, N_LAYERS, STEPS = 5, 8, "0%,15%,30%,45%,60%,80%,100%"
N_STEPS = STEPS.count(",") + 1
NUMBERS = {"cka": 1e-6, "pearson": 1e-6, "spearman": 1e-6, "accuracy": 0.02}  # how far the two sides may differ


def run(parts: Sequence[str] = ("ends", "steps", "demo"), folder: Path | None = None, repeats: int = 3) -> list[Ratio]:
    """Return the rows of some parts; networks that are in the folder already are not trained."""
    with tempfile.TemporaryDirectory() as name:
        return [row for part in parts for row in PARTS[part](folder or Path(name), repeats)]


def _ends(folder: Path, repeats: int) -> Iterator[Ratio]:
    runs = _arms(folder)
    what = f"compare, {len(runs)} runs x {N_LAYERS} layers x 500 stimuli, ends"
    ours, by_hand = Comparison(folder / "ends", runs), ByHand(folder / "ends.npz", runs, n_steps=1)
    yield ratio(what, ours, "a script of its core numbers", by_hand, repeats=repeats, target="<= 1.5")
    _check_numbers(ours, by_hand)
    yield from ours.memory("ends")
    seconds = [_timed(ours.again) for _ in range(repeats)]
    yield Ratio(
        "the same, nothing changed",
        f"{MOST_SECONDS_AGAIN:g} s",
        [each / MOST_SECONDS_AGAIN for each in seconds],
        "<= 1",
    )


def _steps(folder: Path, repeats: int) -> Iterator[Ratio]:
    runs = _arms(folder)
    ours = Comparison(folder / "steps", runs, "--steps", "all")
    by_hand = ByHand(folder / "steps.npz", runs, n_steps=N_STEPS)
    what = f"compare, the same at {N_STEPS} steps"
    yield ratio(what, ours, "the same script", by_hand, repeats=1, target="<= 0.6", warm_up=False)
    _check_numbers(ours, by_hand)
    yield from ours.memory(f"{N_STEPS} steps")
    page = ours.output / "report.html"
    opening = [seconds_to_open(page) for _ in range(repeats)]
    what = f"its report, {len(runs)} x {N_STEPS} x {N_LAYERS}"
    yield from page_rows(what, page.stat().st_size / 1e6, opening, MOST_SECONDS_TO_OPEN)


def _demo(folder: Path, repeats: int) -> Iterator[Ratio]:
    runs = [folder / "demo" / name for name in DEMO]
    for run, rule in zip(runs, DEMO.values(), strict=True):
        if not run.exists():
            _repsim(folder, "train", str(run), *rule, "--epochs", "4", "--quiet")
    ours = Comparison(folder / "demo now", runs)
    if code := _earlier_code(folder):
        earlier = Comparison(folder / "demo earlier", runs, code=code)
        what = "compare of the demo, 3 runs x 20 layers x 1,000 stimuli"
        yield ratio(what, ours, f"commit {EARLIER}", earlier, repeats=repeats, target="<= 0.4", warm_up=False)
    else:
        ours()
    yield from ours.memory("demo")


PARTS: dict[str, Callable[[Path, int], Iterator[Ratio]]] = {"ends": _ends, "steps": _steps, "demo": _demo}


# Networks


def _arms(folder: Path) -> list[Path]:
    """Train five seeds of either rule, once, and return their runs."""
    for name, rule in ARMS.items():
        if not (folder / name).exists():
            seeds = ["--seeds", f"0-{N_SEEDS - 1}", "--depth", str(N_LAYERS), "--epochs", "6", "--rule", rule]
            _repsim(folder, "train", str(folder / name), *seeds, "--record", STEPS, "--n-test", "500", "--quiet")
    return [folder / name / f"seed-{seed}" for name in ARMS for seed in range(N_SEEDS)]


def _earlier_code(folder: Path) -> Path | None:
    """Return a folder with the code of the earlier commit, or None, with a word, if it cannot be had."""
    command = ["git", "archive", EARLIER, "repsim", "probes", "checkpoints", "analysis"]
    try:
        found = subprocess.run(command, cwd=BY_HAND.parents[1], check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no comparison with commit {EARLIER}, as git does not give it: {error}", file=sys.stderr)
        return None
    with tarfile.open(fileobj=io.BytesIO(found)) as archive:
        archive.extractall(folder / "earlier", filter="data")
    return folder / "earlier"


# Commands


class Comparison:
    """A command that compares runs, always anew."""

    def __init__(self, output: Path, runs: list[Path], *options: str, code: Path = CODE) -> None:
        self.output, self.peaks, self._code = output, [], code
        self._arguments = ["compare", *map(str, runs), "--output", str(output), *options, "--quiet"]

    def __call__(self) -> None:
        """Compare in a new folder."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.again()

    def again(self) -> None:
        """Compare where there is a comparison already."""
        self.peaks.append(_repsim(self.output.parent, *self._arguments, code=self._code))

    def memory(self, what: str) -> Iterator[Ratio]:
        """Yield the peak memory so far beside its limit."""
        for name in ("largest", "total") if MEASURED else ():
            values = [getattr(each, name) / MOST_MEGABYTES for each in self.peaks]
            processes = {"largest": "its largest process", "total": "all its processes"}[name]
            yield Ratio(f"peak memory of {processes}, {what}", f"{MOST_MEGABYTES:g} MB", values, "<= 1")


class ByHand:
    """The command that computes the core numbers by hand."""

    def __init__(self, output: Path, runs: list[Path], n_steps: int) -> None:
        self.output = output
        self._command = [sys.executable, str(BY_HAND), str(n_steps), str(output), *map(str, runs)]

    def __call__(self) -> None:
        """Run the script."""
        _finish(self._command)


def _repsim(folder: Path, *arguments: str, code: Path = CODE):
    environment = {**os.environ, "PYTHONPATH": str(code)}
    return _finish([sys.executable, "-m", "analysis", *arguments], cwd=folder, env=environment)


def _finish(command: list[str], **options: object):
    """Run a command to its end and return its peak memory; raise if it fails."""
    with tempfile.TemporaryFile("w+") as said:
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=said, stderr=said, **options) as process, watch(process.pid) as memory:
            process.wait()
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{said.read()}")
    peak = f", {memory.largest:.0f} MB in one process, {memory.total:.0f} MB in all" if MEASURED else ""
    print(f"{' '.join(command[1:4])} ...: {time.perf_counter() - started:.1f} s{peak}", file=sys.stderr)
    return memory


# Numbers


def _check_numbers(ours: Comparison, by_hand: ByHand) -> None:
    """Check that the tables hold what the script has found."""
    tables, found = _core_numbers(ours.output), np.load(by_hand.output)
    for name, tolerance in NUMBERS.items():
        np.testing.assert_allclose(tables[name], found[name].ravel(), rtol=0, atol=tolerance, err_msg=name)


def _core_numbers(folder: Path) -> dict[str, np.ndarray]:
    rdms, columns = pd.read_csv(folder / "rdm_similarity.csv"), ("pearson", "spearman")
    similarity, probes = pd.read_csv(folder / "similarity.csv"), pd.read_csv(folder / "probes.csv")
    return {
        "cka": similarity["cka"].to_numpy(),
        "accuracy": probes["accuracy"].to_numpy(),
        **{name: rdms[name].to_numpy() for name in columns},
    }


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where networks are trained and kept; a temporary one by default")
    arguments = parser.parse_args()
    for row in run(arguments.parts, arguments.folder and arguments.folder.resolve(), arguments.repeats):
        print(f"{row.work} / {row.against}: {row.median:.3g} (target {row.target})", flush=True)
