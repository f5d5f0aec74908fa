"""Workflows: the plain functions behind the commands."""

from analysis.findings import Findings
from analysis.interruption import Interrupted
from analysis.settings import RecordingConfig
from analysis.workflows.comparing import analyze_run, compare_runs
from analysis.workflows.demo import demo
from analysis.workflows.recording import record_model, record_run
from analysis.workflows.seeds import resume_seeds, train_seeds
from analysis.workflows.training import resume_run, train_run

__all__ = [
    "Findings",
    "Interrupted",
    "RecordingConfig",
    "analyze_run",
    "compare_runs",
    "demo",
    "record_model",
    "record_run",
    "resume_run",
    "resume_seeds",
    "train_run",
    "train_seeds",
]
