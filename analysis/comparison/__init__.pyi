"""What the package offers; each is imported when it is asked for."""

from .compute import KINDS as KINDS
from .compute import perform as perform
from .piece import Piece as Piece
from .piece import Request as Request
from .piece import Source as Source
from .plan import Planned as Planned
from .plan import plan as plan
from .plan import tasks_of as tasks_of
from .store import Found as Found
from .store import Store as Store
