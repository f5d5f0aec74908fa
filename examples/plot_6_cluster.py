"""
An analysis on a cluster
========================

An analysis is many small tasks: the probes, the matrices and the statistics of a layer at a step. Where they
are done is the choice of an *executor*: in this process, in several of this machine, or on the workers of a Dask
cluster. The tables are the same to the last bit wherever that is, as every piece runs on one thread and leaves what it
found on disk.

This example needs the extra ``cluster``: ``pip install 'repsim-sg[cluster]'``.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from distributed import LocalCluster

from analysis import AnalysisConfig, ExecutionConfig, RecordingConfig, analyze_run, train_run
from analysis.plots import plot_by_layer
from repsim.learning import TrainingConfig

# %%
# Three places to work
# --------------------
#
# .. list-table::
#    :header-rows: 1
#
#    * - executor
#      - for
#      - command
#    * - ``serial``
#      - small work, and a debugger
#      - ``repsim analyze runs/sg --executor serial``
#    * - ``processes``
#      - one machine
#      - ``repsim analyze runs/sg --executor processes --jobs 8``
#    * - ``dask``
#      - many machines
#      - ``repsim analyze runs/sg --executor dask --scheduler tcp://10.0.0.1:8786``
#
# Without ``--executor`` the work is done in processes if it is long enough to be worth their start, or by Dask if there
# is a ``--scheduler``. ``repsim compare`` takes the same options.
#
# Something to analyse
# --------------------

folder = TemporaryDirectory()
run = train_run(
    Path(folder.name) / "sg",
    TrainingConfig(data="digits", depth=3, width=16, rule="synthetic-gradient@2", epochs=4, batch_size=64),
    RecordingConfig(steps="last", diagnose="none", n_train=300, n_validation=80, n_test=120),
)
LAST = AnalysisConfig(steps="last")
here = analyze_run(
    run.path, config=LAST, output=Path(folder.name) / "here", execution=ExecutionConfig(executor="serial")
)
print(here.tables["probes"][["layer", "accuracy", "relative_gap"]].to_string(index=False))

# %%
# On a scheduler that runs somewhere
# ----------------------------------
#
# A Dask cluster is a scheduler, which hands out work, and workers, which do it. On machines that reach one another,
# start one of the first and some of the second, each worker with one thread, since that is what a task uses:
#
# .. code-block:: bash
#
#     dask scheduler                                                       # prints its address
#     dask worker tcp://10.0.0.1:8786 --nworkers 16 --nthreads 1           # on every machine
#     repsim analyze runs/sg --scheduler tcp://10.0.0.1:8786
#
# Only paths and settings travel. So every worker must see the run directories under the same path, as with a shared
# file system, and have the same repsim installed. Anyone who reaches the scheduler can run code on its workers: keep it
# in a network that you trust, or give it `certificates <https://distributed.dask.org/en/stable/tls.html>`_.
#
# Here a scheduler and one worker in this process stand for all that. In your own scripts, let a ``LocalCluster`` that
# starts processes stand below ``if __name__ == "__main__":``.

with LocalCluster(
    n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
) as cluster:
    elsewhere = ExecutionConfig(scheduler=cluster.scheduler_address)
    there = analyze_run(run.path, config=LAST, output=Path(folder.name) / "there", execution=elsewhere)

print("the same tables:", all(here.tables[name].equals(table) for name, table in there.tables.items()))

# %%
# In the queue of a computing centre
# ----------------------------------
#
# Where work has to be queued, `dask-jobqueue <https://jobqueue.dask.org>`_ asks for the workers. Describe the jobs in a
# TOML file and give it in place of the address. ``kind`` is a class of that package, ``jobs`` says how many are asked
# for, and all else goes to the class:
#
# .. code-block:: toml
#
#     [cluster]                       # cluster.toml
#     kind = "SLURMCluster"
#     jobs = 20
#     queue = "compute"
#     cores = 4                       # of a job
#     processes = 4                   # workers of a job: as many as cores
#     memory = "16GB"
#     walltime = "02:00:00"
#
# .. code-block:: bash
#
#     repsim analyze runs/sg --scheduler cluster.toml
#
# The command runs where jobs are submitted, and ends the jobs when it ends. Work begins with the first worker; those
# that come later help. Where the queue ends a job in the middle of its work, another worker does that piece again.
#
# If the command itself is stopped, give it again: what is done is kept beside the tables, and is not done twice.

figure, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
plot_by_layer(there.tables["probes"], "accuracy", ylabel="accuracy of a linear probe, test", ax=ax)
ax.set_title("computed by the cluster", fontsize=10)

plt.show()
folder.cleanup()
