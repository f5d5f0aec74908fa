"""Claim: synthetic gradients lead to other representations, layer by layer."""

from analysis.reproduction.claim import Claim
from analysis.reproduction.claims.rdm import conclude, figures
from analysis.reproduction.kit.deep_networks import compared_tasks

__all__ = ["CLAIM"]

CLAIM = Claim(
    name="rdm",
    title="Representations by layer",
    statement="[S] On practical problems synthetic gradients lead to drastically different layer-wise representations, "
    "seen in representational dissimilarity matrices over the layers of deep networks on a label-ordered sample of "
    "MNIST; [M] of networks with 20 hidden layers trained by backprop, with one SG in the middle, and with an SG at "
    "every boundary.",
    parts=compared_tasks,
    conclude=conclude.conclude,
    figures=figures.figures,
)
