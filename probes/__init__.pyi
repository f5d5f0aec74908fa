"""Names that the package offers; each is imported on first use."""

from .codelength import OnlineCode as OnlineCode
from .codelength import online_codelength as online_codelength
from .codelength import v_information as v_information
from .controls import BASELINES as BASELINES
from .controls import control_task as control_task
from .controls import majority_rate as majority_rate
from .controls import random_labels as random_labels
from .controls import random_projection as random_projection
from .controls import selectivity as selectivity
from .estimators.logistic import LogisticProbe as LogisticProbe
from .estimators.nearest_neighbours import NeighbourProbe as NeighbourProbe
from .estimators.ridge import RegressionProbe as RegressionProbe
from .estimators.ridge import RidgeProbe as RidgeProbe
from .solvers import SOLVERS as SOLVERS
from .solvers import Fit as Fit
from .statistics import example_interval as example_interval
from .statistics import first_layer_reaching as first_layer_reaching
from .statistics import seed_bands as seed_bands
from .statistics import seed_differences as seed_differences
from .stimulus_groups import check_groups as check_groups
from .table.column_schema import read_probe_table as read_probe_table
from .table.layer_table import probe_layers as probe_layers
from .table.network_layers import FitKey as FitKey
from .table.network_layers import NetworkLayers as NetworkLayers
from .table.network_layers import baselines as baselines
from .table.probe_config import ProbeConfig as ProbeConfig
