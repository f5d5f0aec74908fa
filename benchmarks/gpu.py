"""The CUDA tests, and what a GPU is faster at: one script of at most ten minutes, to be run where there is a GPU.

``python benchmarks/gpu.py --output gpu.json`` prints a table and writes it as JSON. Each row runs in a process of its
own, with a time limit; a row that fails does not stop the others. The exit code is 1 if a row failed, ran out of time
or missed its target. With ``--device cpu`` everything is small and no target counts, which tests the script.
Figures are ratios of two times, taken in turn; below 1 the work named first is the faster.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from inspect import signature
from pathlib import Path

from harness import Ratio, ratio

ROOT = Path(__file__).parents[1]
MARK = "mark.cuda"  # of tests that need a GPU
FAILED = ("failed", "out of time", "missed")


@dataclass(frozen=True)
class Finding:
    """What a row has found.

    Attributes
    ----------
    row, status : str
        Name of the row, and what came of it: ok, missed, failed, out of time, not supported or not there.
    message : str
        The figure in words, or the reason that there is none.
    figure : float or None
        The median of the ratios.
    seconds : float
        Duration of the row, the start of its process included.
    """

    row: str
    status: str
    message: str
    figure: float | None = None
    seconds: float = 0.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 ..., or cpu to try the script")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seconds", type=float, default=600, help="time limit of all rows together")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    parser.add_argument("--one", choices=list(ROWS), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.one:
        print(json.dumps(asdict(measured(chosen.one, chosen.device))))
        return 0
    end, findings = time.perf_counter() + chosen.seconds, list[Finding]()
    for name in chosen.rows:
        findings.append(in_its_process(name, chosen.device, min(ROWS[name][1], end - time.perf_counter())))
        print("{row:10}  {status:13}  {seconds:5.0f} s  {message}".format(**asdict(findings[-1])), flush=True)
        if chosen.output:
            chosen.output.write_text(json.dumps([asdict(each) for each in findings], indent=1) + "\n")
    return int(any(each.status in FAILED for each in findings))


def in_its_process(name: str, device: str, limit: float) -> Finding:
    """Return what a row finds in a process of its own, within so many seconds."""
    started = time.perf_counter()
    try:
        command = [sys.executable, __file__, "--one", name, "--device", device]
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(limit, 0))
        found = Finding(**json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else None
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    except subprocess.TimeoutExpired:
        found = Finding(name, "out of time", f"not finished in {max(limit, 0):.0f} s")
    return replace(found or Finding(name, "failed", lines[-1]), seconds=time.perf_counter() - started)


def measured(name: str, device: str) -> Finding:
    """Return what a row finds on a device."""
    found = ROWS[name][0](device)
    if isinstance(found, Finding):
        return found
    spread = f"{min(found.values):.3g} to {max(found.values):.3g}"
    message = f"{found.work} / {found.against}: {found.median:.3g} ({spread}), target {found.target}"
    missed = found.target != "-" and device != "cpu" and found.median > float(found.target.removeprefix("<="))
    return Finding(name, "missed" if missed else "ok", message, found.median)


# Rows


def _tests(device: str) -> Finding:
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text(encoding="utf-8")]
    # quiet by the settings of the project; once more would leave no summary
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout, file=sys.stderr)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
    if done.returncode:
        return Finding("tests", "failed", lines[-1])
    if " passed" not in lines[-1]:
        return Finding("tests", "not there" if device == "cpu" else "failed", f"no test was run: {lines[-1]}")
    return Finding("tests", "ok", lines[-1])


def _replicas(device: str) -> Ratio:
    from bench_replicas import singly, together

    X, y, settings = _training(device)
    ten = together(X, y, range(10), **settings)
    return ratio("10 replicas as one", ten, "one network", singly(X, y, [0], **settings), repeats=3, target="<= 2")


def _synthetic_gradients(device: str) -> Ratio:
    from bench_replicas import singly

    X, y, settings = _training(device)
    sg = singly(X, y, [0], **settings, rule="synthetic-gradient", boundaries="inner")
    return ratio("SG at all inner boundaries", sg, "backprop", singly(X, y, [0], **settings), repeats=3)


def _training(device: str):
    """Return data on the device, and settings of the networks: 20 x 256, five epochs, or small ones."""
    from bench_replicas import examples

    small = {"depth": 3, "width": 8, "epochs": 1}
    return *examples(device, "digits" if device == "cpu" else "mnist5k"), small if device == "cpu" else {"width": 256}


def _probes(device: str) -> Ratio:
    import numpy as np

    from probes.solvers import LogisticProblem, lbfgs_layers

    n_layers, n, d = (2, 200, 8) if device == "cpu" else (20, 4000, 256)
    rng = np.random.default_rng(0)
    y, means = rng.integers(10, size=n), rng.normal(size=(10, d)) / d**0.5
    layers = [means[y] + rng.normal(size=(n, d)) for _ in range(n_layers)]

    def fits(where: str):
        found = lbfgs_layers(layers, [LogisticProblem(y=y, C=0.1)] * n_layers, tol=1e-6, device=where)
        assert all(fit.converged for fit in found)
        return found

    for ours, theirs in zip(fits(device), fits("cpu"), strict=True):
        np.testing.assert_allclose(ours.logits(layers[0]), theirs.logits(layers[0]), atol=0.1)
    what = f"{n_layers} probes of {n} x {d}, C = 0.1"
    return ratio(what, lambda: fits(device), "the CPU", lambda: fits("cpu"), repeats=3)


def _cka(device: str) -> Ratio:
    import numpy as np

    from repsim import pairwise

    layers = _layers(device)
    ours, theirs = pairwise(layers, device=device).values, pairwise(layers).values
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    what = f"CKA of all pairs of {len(layers)} layers"
    return ratio(what, lambda: pairwise(layers, device=device), "the CPU", lambda: pairwise(layers), repeats=5)


def _rdm(device: str) -> Ratio | Finding:
    import numpy as np

    from repsim import rdm

    if "device" not in signature(rdm).parameters:
        return Finding("rdm", "not supported", "rdm() has no device; RDMs are computed on the CPU")
    X = _layers(device)["0"].astype(np.float32)
    np.testing.assert_allclose(rdm(X, device=device), rdm(X), atol=1e-5)
    return ratio("a correlation RDM", lambda: rdm(X, device=device), "the CPU", lambda: rdm(X), repeats=5)


def _layers(device: str):
    """Return random layers: 20 of 5,000 x 256, or small ones."""
    import numpy as np

    n_layers, *shape = (3, 50, 8) if device == "cpu" else (20, 5000, 256)
    rng = np.random.default_rng(0)
    return {str(k): rng.standard_normal(shape) for k in range(n_layers)}


ROWS: dict[str, tuple[Callable[[str], Ratio | Finding], float]] = {  # with the time limit of each, in seconds
    "tests": (_tests, 240),
    "replicas": (_replicas, 150),
    "sg": (_synthetic_gradients, 150),
    "probes": (_probes, 120),
    "cka": (_cka, 90),
    "rdm": (_rdm, 60),
}

if __name__ == "__main__":
    raise SystemExit(main())
