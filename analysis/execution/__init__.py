"""Where pieces of work run: here, in processes of this machine, or on the workers of a Dask cluster.

Whatever the executor, a task runs on one thread, and leaves what it finds out on disk: so no number depends on where.
"""

from analysis.execution.choice import EXECUTORS, Executor, make_executor
from analysis.execution.task import NotBegun, Task
from analysis.execution.threads import count_processors, one_thread

__all__ = ["EXECUTORS", "Executor", "NotBegun", "Task", "count_processors", "make_executor", "one_thread"]
