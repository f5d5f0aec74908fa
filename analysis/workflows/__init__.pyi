"""What the package offers; each is imported when it is asked for."""

from .comparing import Findings as Findings
from .comparing import Interrupted as Interrupted
from .comparing import analyze_run as analyze_run
from .comparing import analyze_runs as analyze_runs
from .comparing import compare_runs as compare_runs
from .demonstration import demo as demo
from .exporting import export as export
from .recording import record_model as record_model
from .recording import record_run as record_run
from .seeds import resume_seeds as resume_seeds
from .seeds import train_seeds as train_seeds
from .sweeping import Swept as Swept
from .sweeping import sweep as sweep
from .training import RecordingConfig as RecordingConfig
from .training import resume_run as resume_run
from .training import train_run as train_run
