"""Flip single bits in, and truncate, every file of a finished run: ``verify`` must find each damage.

    python tests/faults/damage.py --flips 1000 --truncations 200

Files are taken in turn, so that small ones are hit as often as large ones; bits and lengths are drawn. ``run.lock``
must be empty, as nobody writes the run.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from analysis import train_run
from analysis.config.recording import RecordingConfig
from checkpoints import Damaged, Run
from repsim.learning import TrainingConfig

TRAINING = TrainingConfig(data="digits", depth=3, width=16, epochs=2, rule="synthetic-gradient")
RECORDING = RecordingConfig(steps="first,5,last", n_train=60, n_validation=20, n_test=20)

Harm = Callable[[bytes], tuple[bytes, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--truncations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dice, started = random.Random(arguments.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run")
        run = train_run(path, TRAINING, RECORDING)
        files = sorted(each for each in path.rglob("*") if each.is_file() and each.name != "run.lock")
        locked = (path / "run.lock").stat().st_size
        flips = _found(path, files, arguments.flips, lambda content: _flipped(content, dice))
        cuts = _found(path, files, arguments.truncations, lambda content: _cut(content, dice))
        assert run.verify() == run.steps  # all has been put back
    print(f"{len(files)} files; run.lock has {locked} bytes (target 0)")
    print(f"{flips['found']} of {arguments.flips} bit flips found", *_missed(flips), sep="\n")
    print(f"{cuts['found']} of {arguments.truncations} truncations found", *_missed(cuts), sep="\n")
    print(f"{time.monotonic() - started:.0f} s")
    found = flips["found"] + cuts["found"]
    raise SystemExit(bool(locked) or found != arguments.flips + arguments.truncations)


def _found(path: Path, files: list[Path], count: int, harm: Harm) -> Counter[str]:
    """Harm files in turn; count how often that was found, and each time that it was not."""
    verdicts: Counter[str] = Counter()
    for number in range(count):
        file = files[number % len(files)]
        whole = file.read_bytes()
        harmed, what = harm(whole)
        file.write_bytes(harmed)
        try:
            Run.open(path).verify()
            verdicts[f"{file.relative_to(path)}: {what} was not found"] += 1
        except Damaged as error:
            verdicts["found" if str(path) in str(error) else f"{file.relative_to(path)}: {what} named as {error}"] += 1
        except Exception as error:
            verdicts[f"{file.relative_to(path)}: {what} raised {type(error).__name__}: {error}"] += 1
        finally:
            file.write_bytes(whole)
    return verdicts


def _missed(verdicts: Counter[str]) -> Iterable[str]:
    return (verdict for verdict in verdicts if verdict != "found")


def _flipped(content: bytes, dice: random.Random) -> tuple[bytes, str]:
    bit = dice.randrange(8 * len(content))
    harmed = bytearray(content)
    harmed[bit // 8] ^= 1 << bit % 8
    return bytes(harmed), f"bit {bit}"


def _cut(content: bytes, dice: random.Random) -> tuple[bytes, str]:
    size = dice.randrange(len(content))
    return content[:size], f"a cut from {len(content)} to {size} bytes"


if __name__ == "__main__":
    main()
