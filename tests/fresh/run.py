"""Run the two commands of the README on a bare machine, and the installed package from a read-only folder.

    python3 tests/fresh/run.py                 # make demo, make test: one core, about an hour
    python3 tests/fresh/run.py --cores 2 --tests "tests/analysis/test_executors.py"

It needs root, debootstrap and git; elsewhere it says what is missing and ends with 77. It tests a commit (HEAD, or
``--revision``), and ends with 1 if a command failed, left a process behind, or did not end in time. What it made is
unmounted and removed however it ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from bare import NOBODY, BareRoot, Done, bare_root, why_not

SKIPPED = 77
INSTALLED = """
set -e; umask 077; cd /; export PATH=/src/.venv/bin:$PATH PYTHONPATH=; place=$(mktemp -d)
for rule in backprop feedback-alignment; do
  repsim train $place/$rule --rule $rule --data digits --depth 3 --width 16 --epochs 1
done
repsim compare $place/backprop $place/feedback-alignment --output $place/comparison --executor processes --jobs 2
repsim export $place/backprop --format csv --output $place/csv
repsim verify $place/backprop
test -s $place/comparison/report.html
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=1, help="processors that commands may use")
    parser.add_argument("--tests", default="", help="what make test runs; everything by default")
    parser.add_argument("--revision", default="HEAD", help="what is tested")
    parser.add_argument("--minutes", type=float, default=80, help="after which a command is ended")
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"Skipped: {reason}.")
        sys.exit(SKIPPED)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    print(f"Making a bare root for {arguments.revision}", flush=True)
    try:
        with bare_root(arguments.revision) as root:
            wrong = check(root, arguments.tests, 60 * arguments.minutes)
    except RuntimeError as error:
        wrong = [str(error)]
    print("\n".join(wrong) or "Everything works on a bare machine.")
    sys.exit(bool(wrong))


def check(root: BareRoot, tests: str, seconds: float) -> list[str]:
    """Run each command, and return what was wrong."""
    wrong: list[str] = []

    def expect(title: str, command: Callable[[], Done], said: str = "") -> None:
        print(f"--- {title}", flush=True)
        done = command()
        print(f"--- {title}: status {done.status} after {done.seconds:.0f} s", flush=True)
        if done.status:
            wrong.append(f"{title} ended with {done.status} after {done.seconds:.0f} s; expected 0.")
        elif said and (said not in done.output or "Traceback" in done.output):
            wrong.append(f"{title} should print '{said}' and no traceback.")

    expect("make demo", lambda: root.run("make demo", seconds=seconds), "Report: runs/demo/comparison/report.html")
    expect("make test", lambda: root.run(f"make test TESTS='{tests}'", seconds=seconds), " passed")
    expect(
        "the package installed, read-only, for a user without a home",
        lambda: root.run(INSTALLED, seconds=seconds, user=NOBODY, read_only=True, env={"HOME": "/nonexistent"}),
    )
    return wrong


def _stop(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
