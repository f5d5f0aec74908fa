"""Names that the package offers; each is imported on first use."""

from .comparison.attribution.arms import Arm as Arm
from .config.analysis import AnalysisConfig as AnalysisConfig
from .config.comparison_design import DesignConfig as DesignConfig
from .config.execution import ExecutionConfig as ExecutionConfig
from .config.recording import CaptureConfig as CaptureConfig
from .config.recording import ModelConfig as ModelConfig
from .config.recording import RecordingConfig as RecordingConfig
from .execution.interruption import Interrupted as Interrupted
from .own_parts.importing import import_parts as import_parts
from .own_parts.registries import register as register
from .training.fork import fork_run as fork_run
from .training.record import record_run as record_run
from .training.record_models import record_model as record_model
from .training.seed_runs import resume_seeds as resume_seeds
from .training.seed_runs import train_seeds as train_seeds
from .training.train import resume_run as resume_run
from .training.train import train_run as train_run
from .workflows.analyze import ComparisonResult as ComparisonResult
from .workflows.analyze import analyze_run as analyze_run
from .workflows.analyze import analyze_runs as analyze_runs
from .workflows.comparisons import compare_arms as compare_arms
from .workflows.comparisons import compare_design as compare_design
from .workflows.comparisons import compare_runs as compare_runs
from .workflows.demo import demo as demo
from .workflows.sweep import Swept as Swept
from .workflows.sweep import sweep as sweep
