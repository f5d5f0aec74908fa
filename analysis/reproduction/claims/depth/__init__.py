"""Claim: networks of up to fifty hidden layers train as well with one synthetic gradient in the middle."""

from analysis.reproduction.claim import Claim
from analysis.reproduction.claims.depth import conclude, figures, parts

__all__ = ["CLAIM"]

CLAIM = Claim(
    name="depth",
    title="Depth",
    statement="[S] On MNIST, relu networks with batch norm of up to 50 hidden layers, and networks of another "
    "activation, are trained with one synthetic gradient in the middle and by backprop; the question is whether they "
    "reach the same accuracy.",
    parts=parts.parts,
    conclude=conclude.conclude,
    figures=figures.figures,
)
