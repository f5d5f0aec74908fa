"""Names that the package offers; each is imported on first use."""

from .cache import Cache as Cache
from .cache import TaskResult as TaskResult
from .cache import Undefined as Undefined
from .executors import EXECUTORS as EXECUTORS
from .executors import Executor as Executor
from .executors import make_executor as make_executor
from .running import describe_error as describe_error
from .running import pending as pending
from .running import run_tasks as run_tasks
from .running import total_cost as total_cost
from .task import NotStarted as NotStarted
from .task import Task as Task
from .threads import count_processors as count_processors
from .threads import one_thread as one_thread
