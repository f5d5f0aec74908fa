"""Networks: chains of segments, and architectures by name."""

from repsim.learning.networks.architectures import (
    ACTIVATIONS,
    NETWORKS,
    NORMS,
    Activation,
    Norm,
    conv_net,
    mlp,
    residual_net,
)
from repsim.learning.networks.chain import Chain, Readout, ResidualBlock, Segment

__all__ = [
    "ACTIVATIONS",
    "NETWORKS",
    "NORMS",
    "Activation",
    "Chain",
    "Norm",
    "Readout",
    "ResidualBlock",
    "Segment",
    "conv_net",
    "mlp",
    "residual_net",
]
