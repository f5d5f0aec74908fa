"""Steps that a recording writes: the networks of saved weights, one after the other, into one run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import nn

from analysis.config.recording import CaptureConfig
from analysis.execution.interruption import Interrupted
from analysis.execution.progress import Reporter
from analysis.training.existing_runs import remove_replaced
from analysis.training.recording_checks import naming_the_network
from checkpoints import Capture, Run, Stimuli
from checkpoints.html_tables import abbreviated

__all__ = ["StepToRecord", "StepsToRecord", "steps_lacking"]


class _WithStep(Protocol):
    @property
    def step(self) -> int: ...


S = TypeVar("S", bound=_WithStep)


@dataclass(frozen=True)
class StepToRecord:
    """One step: its number, and a function that returns the module that is saved and the one that is recorded."""

    step: int
    load: Callable[[], tuple[nn.Module, nn.Module]]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepsToRecord:
    """All steps of a recording, how they are captured, and the number of steps of the training that they are of."""

    steps: Sequence[StepToRecord]
    capturing: Callable[[nn.Module], Capture]
    capture: CaptureConfig
    n_steps: int

    def write(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        stimuli: Stimuli,
        found: Run | None,
        exists: str,
        progress: Reporter,
    ) -> Run:
        """Write the steps that the run which was found at the path lacks, or all into a new run; return the run.

        Raises
        ------
        ValueError, OSError
            If the run records other stimuli, a network cannot be recorded, or a file cannot be written.
        Interrupted
            After Ctrl-C, if one step or more is recorded.
        """
        if found is not None:
            found.stimuli.with_inputs(stimuli)  # raises if they are others
        if not (pending := steps_lacking(self.steps, found)):
            return Run.open(path)
        if found is None:
            remove_replaced(path, exists)
        with (
            Run.create(path, config, stimuli) if found is None else Run.resume(path, stimuli) as run,
            _removed_if_empty(run),
            naming_the_network(),
            progress.task(run.path.name, len(pending) if len(pending) > 1 else None) as task,
        ):
            run.set_status("running", step=pending[0].step, n_steps=self.n_steps)
            for each in pending:
                self._write_step(run, each)
                task.advance()
            run.set_status("finished", step=run.steps[-1], n_steps=max(self.n_steps, run.steps[-1]))
        return Run.open(path)

    def _write_step(self, run: Run, step: StepToRecord) -> None:
        saved, recorded = step.load()
        run.checkpoint(
            step.step,
            saved,
            capture=self.capturing(recorded),
            weights="all" if self.capture.save_weights else None,
            extra=step.extra,
            compress=self.capture.compress,
        )


def steps_lacking(steps: Sequence[S], found: Run | None, say: Callable[[str], None] | None = None) -> list[S]:
    """Return the steps that a run lacks, or all if there is no run; ``say`` is called with a sentence about a run."""
    lacking = [each for each in steps if found is None or each.step not in found.steps]
    if found is not None and found.steps and say is not None:
        what = f"recording {len(lacking)} more" if lacking else "there is nothing to record"
        say(f"{found.path} holds steps {abbreviated(found.steps)} of these weights already; {what}.")
    return lacking


@contextmanager
def _removed_if_empty(run: Run) -> Iterator[None]:
    """Remove a run if the block fails before its first step; if it is interrupted later, say how it continues."""
    try:
        yield
    except BaseException as error:
        if not run.steps:
            shutil.rmtree(run.path)
            raise
        run.set_status("interrupted", step=run.steps[-1], n_steps=run.steps[-1])
        if isinstance(error, KeyboardInterrupt):
            steps = abbreviated(run.steps)
            raise Interrupted(f"Stopped; {run.path} holds steps {steps}. Continue with the same command.") from None
        raise
