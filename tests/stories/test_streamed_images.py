"""Someone has 20,000 images that never fit into memory together, and records them in less than 1 GB."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory_images.py"


def test_20000_images_are_recorded_below_one_gigabyte(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--images", "20000", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("20000 images recorded in ")
