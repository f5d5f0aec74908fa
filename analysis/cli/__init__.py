"""Command line interface of ``repsim``, and its exit codes."""

from __future__ import annotations

import codecs
import io
import os
import shlex
import sys
import warnings
from importlib.metadata import entry_points

import typer

from analysis.cli.analyze import analyze
from analysis.cli.compare import compare
from analysis.cli.demo import demo
from analysis.cli.durations import duration_of
from analysis.cli.export import export
from analysis.cli.figures import figures
from analysis.cli.info import info
from analysis.cli.power import power
from analysis.cli.record import record
from analysis.cli.reproduce import reproduce
from analysis.cli.rules import rules
from analysis.cli.sweep import sweep
from analysis.cli.train import train
from analysis.cli.verify import verify
from analysis.execution.interruption import Incomplete, Interrupted

__all__ = ["app", "main"]

app = typer.Typer(
    name="repsim",
    help="See what a learning rule does to the layers of a network.",
    epilog="Start with: repsim demo. Set REPSIM_TRACEBACK=1 to see where an error came from.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (train, sweep, record, analyze, compare, figures, power, reproduce, rules, info, verify, export, demo):
    app.command(epilog=duration_of(command.__name__))(command)

_OUR_MISTAKE = 1
_USER_MISTAKE = 2
_INTERRUPTED = 130


def main() -> None:
    """Run the command line.

    An error is printed as one sentence on standard error. The exit code is 2 for mistakes of the user, 1 for other
    errors and 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("repsim", _encode_anyway)
        sys.stdout.reconfigure(errors="repsim")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            _add_commands()
            app()
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            command = shlex.join(["repsim", *sys.argv[1:]])
            _fail(f"Interrupted; finished results are kept. Continue with the same command: {command}", _INTERRUPTED)
        raise
    except Exception as error:  # the library raises; the command prints
        if os.environ.get("REPSIM_TRACEBACK"):
            raise
        _fail(*_message_and_code(error))


def _add_commands() -> None:
    """Add the commands that other packages offer: functions under the entry points ``repsim.commands``."""
    for entry in entry_points(group="repsim.commands"):
        try:
            app.command(entry.name)(entry.load())
        except Exception as error:  # of a package that is not ours
            warnings.warn(f"The command {entry.name} cannot be loaded ({error}).", RuntimeWarning, stacklevel=1)


def _encode_anyway(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode the bytes of file names that are not text, and escape characters that the terminal's encoding lacks."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"repsim: warning: {message}", file=sys.stderr)


def _message_and_code(error: Exception) -> tuple[str, int]:
    """Return the sentence that describes an error, and the exit code."""
    if isinstance(error, Interrupted):
        return str(error), _INTERRUPTED
    if isinstance(error, Incomplete):
        return str(error), _OUR_MISTAKE
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}.", _USER_MISTAKE
    if isinstance(error, ValueError | OSError) or _has_diverged(error):
        return str(error), _USER_MISTAKE
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # of numpy, and of torch
        return f"There is not enough memory for this ({error}).", _USER_MISTAKE
    return f"Unexpected {type(error).__name__}: {error} (set REPSIM_TRACEBACK=1 to see where).", _OUR_MISTAKE


def _has_diverged(error: Exception) -> bool:
    """Return whether a training diverged, without importing ``repsim.learning``, which takes long."""
    learning = sys.modules.get("repsim.learning")
    return learning is not None and isinstance(error, learning.Diverged)


def _fail(message: str, code: int) -> None:
    print(f"repsim: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
