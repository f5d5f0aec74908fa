"""What the package offers; each is imported when it is asked for, as torch is slow to import."""

from .activations import Activations as Activations
from .activations import Layer as Layer
from .capture import Capture as Capture
from .checkpoint import Checkpoint as Checkpoint
from .errors import Damaged as Damaged
from .lock import Locked as Locked
from .reductions import Reduction as Reduction
from .reductions import SparseProjection as SparseProjection
from .reductions import SpatialMean as SpatialMean
from .reductions import SpatialPool as SpatialPool
from .reductions import Token as Token
from .reductions import TokenMean as TokenMean
from .reductions import parse_reduction as parse_reduction
from .run import Run as Run
from .selection import match_layers as match_layers
from .stimuli import Stimuli as Stimuli
from .weights import read_weights as read_weights
