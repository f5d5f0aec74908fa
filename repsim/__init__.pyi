"""Names that the package offers; each is imported on first use."""

from .similarity import COMPARATORS as COMPARATORS
from .similarity import DISTANCES as DISTANCES
from .similarity import MEASURES as MEASURES
from .similarity import class_structure as class_structure
from .similarity import compare_rdms as compare_rdms
from .similarity import linear_cka as linear_cka
from .similarity import pairwise as pairwise
from .similarity import rdm as rdm

__version__: str
