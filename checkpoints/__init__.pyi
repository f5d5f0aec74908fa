"""Public names of the package, each imported on first use, because torch is slow to import."""

from .activations import Activations as Activations
from .activations import Layer as Layer
from .capture.capture import Capture as Capture
from .capture.reductions import REDUCTIONS as REDUCTIONS
from .capture.reductions import FirstToken as FirstToken
from .capture.reductions import LastToken as LastToken
from .capture.reductions import MaskedMean as MaskedMean
from .capture.reductions import Reduction as Reduction
from .capture.reductions import SparseProjection as SparseProjection
from .capture.reductions import SpatialMean as SpatialMean
from .capture.reductions import SpatialPool as SpatialPool
from .capture.reductions import Token as Token
from .capture.reductions import TokenMean as TokenMean
from .capture.reductions import parse_reduction as parse_reduction
from .capture.selection import match_layers as match_layers
from .capture.snapshots import SNAPSHOTS as SNAPSHOTS
from .capture.snapshots import Snapshot as Snapshot
from .checkpoint import Checkpoint as Checkpoint
from .errors import Damaged as Damaged
from .run import Run as Run
from .stimuli import Stimuli as Stimuli
from .storage.lock import Locked as Locked
from .storage.weights import read_weights as read_weights
