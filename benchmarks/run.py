"""Run every ``bench_*.py`` beside this file, in a process each, and write RESULTS.md.

``python benchmarks/run.py bench_training bench_probes`` runs these alone, and leaves the other sections as they are.
"""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
UNTIMED = ("bench_rules", "bench_inference", "bench_sequences")  # these time nothing
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "h5py")


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(_measure(sys.argv[2])))
        return
    names = sorted(path.stem for path in HERE.glob("bench_*.py") if path.stem not in UNTIMED)
    chosen = sys.argv[1:] or names
    if unknown := sorted(set(chosen) - set(names)):
        raise SystemExit(f"There is no benchmark {unknown[0]!r}. Choose from: {', '.join(names)}.")
    sections = {} if chosen == names else _earlier_sections()
    for name in chosen:
        print(f"{name} ...", flush=True)
        command = [sys.executable, __file__, "--measure", name]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        sections[name] = _section(json.loads(result.stdout.splitlines()[-1]))
        print(sections[name], flush=True)
        RESULTS.write_text("\n".join([_header(), *(sections[each] for each in names if each in sections)]))


def _earlier_sections() -> dict[str, str]:
    """Return the sections of RESULTS.md by the name of their benchmark."""
    parts = RESULTS.read_text().split("\n## ")[1:] if RESULTS.exists() else []
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}


def _measure(name: str) -> dict[str, object]:
    """Run one benchmark in this process."""
    module = importlib.import_module(name)
    rows = [
        {**vars(result), "median": result.median, "low": min(result.values), "high": max(result.values)}
        for result in module.run()
    ]
    return {"name": name, "about": (module.__doc__ or "").strip(), "rows": rows}


def _header() -> str:
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return (
        "# Benchmark results\n\n"
        "Written by `make bench`. Every figure is a ratio, of two times that are taken in turn unless the row names "
        "something else; below 1 the work named first is the faster.\n\n"
        f"- Machine: {_processor()}, {_threads()} threads, {platform.system()} {platform.machine()}\n"
        f"- Python {platform.python_version()}, {packages}\n"
    )


def _section(result: dict) -> str:
    lines = [f"## {result['name']}\n", f"{result['about']}\n"]
    lines += ["| work | against | ratio (median) | lowest | highest | target |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['work']} | {row['against']} | {row['median']:.3g} | {row['low']:.3g} | {row['high']:.3g} "
        f"| {row['target']} |"
        for row in result["rows"]
    ]
    return "\n".join(lines) + "\n"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    main()
