"""Similarity of representations of more stimuli than fit in memory."""

from repsim.similarity.streaming.minibatch import minibatch_cka
from repsim.similarity.streaming.moments import Moments
from repsim.similarity.streaming.one_pass import streamed_pairwise

__all__ = ["Moments", "minibatch_cka", "streamed_pairwise"]
