"""Networks: chains of segments, architectures by name, and the true gradients at boundaries."""

from repsim.learning.networks.architectures import (
    ACTIVATIONS,
    NETWORKS,
    NORMS,
    Activation,
    Norm,
    conv_net,
    mlp,
    residual_net,
    transformer,
)
from repsim.learning.networks.chain import Chain, Readout, ResidualBlock, Segment
from repsim.learning.networks.equilibrium_network import EquilibriumNetwork
from repsim.learning.networks.recurrent_cells import CELLS
from repsim.learning.networks.recurrent_network import RecurrentNetwork, recurrent_net
from repsim.learning.networks.true_gradient import true_gradients

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "NETWORKS",
    "NORMS",
    "Activation",
    "Chain",
    "EquilibriumNetwork",
    "Norm",
    "Readout",
    "RecurrentNetwork",
    "ResidualBlock",
    "Segment",
    "conv_net",
    "mlp",
    "recurrent_net",
    "residual_net",
    "transformer",
    "true_gradients",
]
