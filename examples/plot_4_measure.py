"""
A measure of similarity of your own
===================================

A measure takes two representations of the same stimuli, X of shape (n, d₁) and Y of shape (n, d₂), and returns a
number. ``pairwise`` accepts any function of two arrays. A ``Measure`` also declares the properties of such a function:
its range, whether it is a similarity or a distance, and to which transformations it is invariant.
"""

import matplotlib.pyplot as plt
import numpy as np

from repsim import pairwise
from repsim.similarity import About, Measure, shape_distance

# %%
# Data
# ----
#
# Three "networks" of three layers, each with activations for the same 120 stimuli of six classes. The third network
# differs from the second only by a rotation of each layer.


def layers_of(seed):
    """Return random tanh layers of the stimuli, by name."""
    rng, layers, h = np.random.default_rng(seed), {}, stimuli
    for depth in (1, 2, 3):
        h = np.tanh(h @ rng.normal(size=(h.shape[1], 24)) / 3)
        layers[f"{depth}"] = h
    return layers


rng = np.random.default_rng(0)
classes = np.repeat(np.arange(6), 20)
stimuli = rng.normal(size=(6, 10))[classes] + rng.normal(size=(120, 10))
rotation = np.linalg.qr(rng.normal(size=(24, 24)))[0]
networks = {"a": layers_of(1), "b": layers_of(2)}
networks["b rotated"] = {name: X @ rotation for name, X in networks["b"].items()}
layers = {f"{network}.{layer}": X for network, each in networks.items() for layer, X in each.items()}

# %%
# A plain function
# ----------------
#
# As an example, the RV coefficient without centring: the cosine of the matrices of inner products of stimuli.
#
# .. math:: s(X, Y) = \frac{\operatorname{tr}(X X^T Y Y^T)}{\lVert X X^T \rVert_F \, \lVert Y Y^T \rVert_F}
#
# Because of :math:`\operatorname{tr}(X X^T Y Y^T) = \lVert X^T Y \rVert_F^2` no matrix of size n × n is needed.


def inner_products(X, Y):
    """Return the cosine of X Xᵀ and Y Yᵀ, from 0 to 1."""
    return np.sum((X.T @ Y) ** 2) / np.linalg.norm(X.T @ X) / np.linalg.norm(Y.T @ Y)


table = pairwise(layers, measure=inner_products)
print(table.frame().head(3).round(3))

# %%
# ``pairwise`` checks that all layers are finite matrices with the same number of stimuli, and passes float64 arrays to
# the function. It evaluates both orders of each pair, as it does not know that the function is symmetric, and computes
# everything for each pair, as it does not know which steps depend on one layer only. A ``Measure`` declares both.
#
# Invariances
# -----------
#
# To interpret a similarity of two layers, one needs to know which differences it ignores. The following function
# transforms a representation and tests whether its similarity to another one changes.


def changes(X, rng):
    """Return changes of a representation, by name."""
    d = X.shape[1]
    return {
        "permutation": X[:, rng.permutation(d)],
        "orthogonal": X @ np.linalg.qr(rng.normal(size=(d, d)))[0],
        "isotropic scaling": 3.7 * X,
        "invertible linear": X @ (np.eye(d) + rng.normal(size=(d, d)) / 4),
        "translation": X + rng.normal(size=d),
    }


def invariances(function, X, Y, seed=0):
    """Return which changes of X leave function(X, Y) as it is, up to rounding."""
    before = function(X, Y)
    after = {name: function(Z, Y) for name, Z in changes(X, np.random.default_rng(seed)).items()}
    return {name: bool(np.isclose(value, before, rtol=1e-9, atol=1e-12)) for name, value in after.items()}


X, Y = networks["a"]["2"], networks["b"]["2"]
for name, ignored in invariances(inner_products, X, Y).items():
    print(f"{name:18} {'ignored' if ignored else 'not ignored'}")

# %%
# Translations are not ignored: two layers whose units all have a large mean are similar for that reason alone. That is
# why linear CKA centres first. A single example refutes an invariance, but none can prove one; the proof is algebra: a
# rotation Q of X cancels in X Q Qᵀ Xᵀ.
#
# A Measure with two steps
# ------------------------
#
# Centring makes the measure invariant to translation. A ``Measure`` has two steps. ``prepare`` is called once for each
# representation and computes all that depends on this representation only; ``compare`` is called for each pair of
# prepared representations. ``prepare`` returns None if the measure is not defined (a constant layer); ``pairwise`` then
# warns with the name of the layer and returns NaN.


def prepare(X, name):
    """Return X centred, and scaled so that its matrix of inner products has norm 1."""
    X = X - X.mean(axis=0)
    norm = np.linalg.norm(X.T @ X)
    return X / np.sqrt(norm) if norm > 1e-12 else None


def compare(x, y):
    """Return the angle between two prepared representations, in radians."""
    return np.arccos(np.clip(np.sum((x.T @ y) ** 2), 0.0, 1.0))


cka_angle = Measure(
    name="cka_angle",
    label="angle of CKA",
    prepare=prepare,
    compare=compare,
    range=(0.0, np.pi / 2),
    direction="distance",
    is_metric=True,
    invariances=frozenset({"permutation", "orthogonal", "isotropic scaling", "translation"}),
    about=About(
        formula="arccos tr(XXᵀYYᵀ) / (|XXᵀ| |YYᵀ|), centred columns",
        cost="n d²",
        use="where a distance is needed that obeys the triangle inequality",
        reference="the angle of two vectors; CKA is its cosine: Kornblith et al. (2019), section 3",
    ),
)

ignored = {name for name, is_ignored in invariances(cka_angle, X, Y).items() if is_ignored}
print("the declaration agrees with the test:", ignored == cka_angle.invariances)

# %%
# A measure can be called like a function, as above. Contradictions in its declaration are errors: a measure that is
# invariant to rotations must also be invariant to permutations. ``register_measure`` gives a function, or a
# ``Measure``, a name that the commands know, and checks on random data what it declares (see the page on your own
# parts). To add the measure to the package, put it into a file of ``repsim/similarity/measures/`` and list that file in
# its ``__init__.py``. The tests of the package then check all that it declares, also the triangle inequality.
#
# Comparison with other measures
# ------------------------------
#
# Layer b.k and its rotation have distance 0, also by :func:`~repsim.similarity.shape_distance`, which is between CCA
# and Procrustes; a measure that matches single units does not ignore the rotation. Which of them is appropriate depends
# on what reads the layer.

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
for ax, measure in zip(axes, (cka_angle, "shape", "permutation_procrustes"), strict=True):
    distances = pairwise(layers, measure=measure)
    image = ax.imshow(distances.values, vmin=0, vmax=1.4, cmap="magma_r")
    ax.set_xticks(range(len(layers)), list(layers), rotation=90, fontsize=8)
    ax.set_yticks(range(len(layers)), list(layers) if ax is axes[0] else [""] * len(layers), fontsize=8)
    ax.set_title(distances.measure, fontsize=10)
figure.colorbar(image, ax=axes, label="distance")

a, rotated = layers["b.2"], layers["b rotated.2"]
print(f"b.2 to its rotation: {cka_angle(a, rotated):.6f} (cka_angle), {shape_distance(a, rotated):.6f} (shape)")
plt.show()
