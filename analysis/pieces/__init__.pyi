"""What the package offers; each is imported when it is asked for."""

from .kinds import KINDS as KINDS
from .kinds import perform as perform
from .piece import Piece as Piece
from .piece import Request as Request
from .piece import Source as Source
from .planning import Planned as Planned
from .planning import plan as plan
from .planning import tasks_of as tasks_of
from .store import Found as Found
from .store import Store as Store
