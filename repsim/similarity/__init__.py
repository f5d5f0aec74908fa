"""Representational similarity of layers, from arrays in memory.

`rdm` and `compare_rdms` compare the distances between stimuli, `linear_cka` and `pairwise` compare representations, and
`class_structure` measures how far apart classes are. The dicts `MEASURES`, `DISTANCES`, `COMPARATORS` and `STATISTICS`
list the choices; each entry (`Measure`, `Distance`, `Comparator`, `Statistic`) documents itself. An entry of your own,
or a plain function, is accepted wherever a name is; `register_measure`, `register_distance`, `register_comparator` and
`register_statistic` give it a name.
"""

from repsim.registration import add_installed
from repsim.registry_kinds import KINDS
from repsim.similarity.class_structure import class_structure
from repsim.similarity.comparators import COMPARATORS, Comparator, compare_rdms
from repsim.similarity.distances import DISTANCES, Distance, poisson_distance
from repsim.similarity.entries import About
from repsim.similarity.inference import (
    GroupEffect,
    GroupTest,
    MantelTest,
    ModelEvaluation,
    adjust,
    compare_groups,
    evaluate_models,
    group_effect,
    mantel_test,
)
from repsim.similarity.measures import MEASURES, Measure
from repsim.similarity.measures.cca import mean_cca, pwcca, svcca
from repsim.similarity.measures.cka import linear_cka
from repsim.similarity.measures.distance_correlation import distance_correlation, distance_correlation_unbiased
from repsim.similarity.measures.eigenspace import eigenspace_overlap, gulp
from repsim.similarity.measures.matching import hard_matching, soft_matching
from repsim.similarity.measures.neighbourhoods import knn_jaccard, rank_similarity, second_order_cosine
from repsim.similarity.measures.pls import pls
from repsim.similarity.measures.procrustes import (
    angular_procrustes,
    permutation_procrustes,
    procrustes,
    shape_distance,
)
from repsim.similarity.measures.rbf import rbf_cka
from repsim.similarity.measures.regression import linear_regression
from repsim.similarity.measures.rsa import rsa
from repsim.similarity.measures.stochastic import stochastic_procrustes
from repsim.similarity.models.fitting import (
    FittedModels,
    Regression,
    fit_models,
    partial_rsa,
    regression_rsa,
)
from repsim.similarity.models.theories import categorical_rdm, ordinal_rdm
from repsim.similarity.own_entries import (
    register_comparator,
    register_distance,
    register_measure,
    register_statistic,
)
from repsim.similarity.pairwise import Pairwise, pairwise
from repsim.similarity.rdm import rdm
from repsim.similarity.rdm_array import RDM
from repsim.similarity.rdm_pairs import compare_rdm_pairs
from repsim.similarity.statistics import (
    STATISTICS,
    Statistic,
    class_separation,
    concentricity,
    intrinsic_dimension,
    magnitude,
    neural_collapse,
    participation_ratio,
    uniformity,
)
from repsim.similarity.streaming import Moments, minibatch_cka, streamed_pairwise

__all__ = [
    "COMPARATORS",
    "DISTANCES",
    "MEASURES",
    "RDM",
    "STATISTICS",
    "About",
    "Comparator",
    "Distance",
    "FittedModels",
    "GroupEffect",
    "GroupTest",
    "MantelTest",
    "Measure",
    "ModelEvaluation",
    "Moments",
    "Pairwise",
    "Regression",
    "Statistic",
    "adjust",
    "angular_procrustes",
    "categorical_rdm",
    "class_separation",
    "class_structure",
    "compare_groups",
    "compare_rdm_pairs",
    "compare_rdms",
    "concentricity",
    "distance_correlation",
    "distance_correlation_unbiased",
    "eigenspace_overlap",
    "evaluate_models",
    "fit_models",
    "group_effect",
    "gulp",
    "hard_matching",
    "intrinsic_dimension",
    "knn_jaccard",
    "linear_cka",
    "linear_regression",
    "magnitude",
    "mantel_test",
    "mean_cca",
    "minibatch_cka",
    "neural_collapse",
    "ordinal_rdm",
    "pairwise",
    "partial_rsa",
    "participation_ratio",
    "permutation_procrustes",
    "pls",
    "poisson_distance",
    "procrustes",
    "pwcca",
    "rank_similarity",
    "rbf_cka",
    "rdm",
    "register_comparator",
    "register_distance",
    "register_measure",
    "register_statistic",
    "regression_rsa",
    "rsa",
    "second_order_cosine",
    "shape_distance",
    "soft_matching",
    "stochastic_procrustes",
    "streamed_pairwise",
    "svcca",
    "uniformity",
]

for _kind in ("measures", "distances", "comparators", "statistics"):
    add_installed(KINDS[_kind])
