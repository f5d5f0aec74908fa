"""
A learning rule in thirty lines
===============================

A network is a chain of segments, and boundary k lies between segment k and the next. A learning rule chooses one thing
there: the vector g_k that stands in for the gradient of the loss with respect to the activation h_k. Everything else,
the chain rule inside the segments and the update, is the same for all rules.

So a rule is a small class, a subclass of ``Estimator``. Here is one that the package does not have.
"""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import nn

from analysis.plots import plot_lines
from repsim.learning import (
    ESTIMATORS,
    Estimator,
    TrainingConfig,
    build_learner,
    build_optimizer,
    count_steps,
    evaluate,
    load_dataset,
    locks,
    split_dataset,
    train,
)

# %%
# The idea
# --------
#
# Direct feedback alignment sends the error e at the output to every layer through a fixed random matrix: g_k = e B_k.
# The network comes to fit B. What if B came to fit the network? Let it learn by least squares to predict the gradient
# t_k that arrives from above, as the module of a synthetic gradient does:
#
# .. math:: g_k = e B_k, \qquad \min_{B_k} \; \operatorname{E} \lVert e B_k - t_k \rVert^2
#
# The class
# ---------
#
# ``gradient`` is given ``Signals``: what is known at this boundary in this step. All of them are detached. An estimator
# declares in ``needs`` which of them ``gradient`` reads, and must read no others: it is from this that its locks
# follow. What ``loss`` reads is not declared, as by the time that it is asked, everything is known.
#
# Gradients are per example, N · ∂L/∂h_k for a mean loss L, so that no rule depends on the batch size. Shapes are
# (\*lead, N, \*shape): boundaries, or seeds, may be stacked along leading axes, and a rule is written so that it does
# not mind, by counting axes from the last.


class LearnedFeedback(Estimator):
    """g_k = e B_k, where B_k learns to predict the gradient from above."""

    formula = "e B_k"
    learns = "B: ‖e B_k − t_k‖²"
    reference = "an example in the documentation of repsim"
    needs = frozenset({"error"})

    def __init__(self, site, *, generator=None, **options):
        super().__init__(site, **options)
        self.feedback = nn.Parameter(torch.zeros(site.n_outputs, site.size))

    def gradient(self, signals):
        """Return e B_k."""
        return (signals.error @ self.feedback).view(signals.activation.shape)

    def loss(self, gradient, signals):
        """Return the mean over examples of ‖e B_k − t_k‖²."""
        residual = (gradient - signals.target).flatten(-len(self.site.shape))
        return residual.square().sum(dim=-1).mean(dim=-1)


ESTIMATORS["learned-feedback"] = LearnedFeedback

# %%
# That is all. What is learned is a parameter, so that it is saved with the network and gets the optimizer's second
# learning rate, ``estimator_learning_rate``; what is random but fixed would be a buffer, drawn from ``generator``.
# Options would be a frozen dataclass ``Options``, a subclass of ``RuleOptions``, each of its fields made by
# ``option(default, meaning)``.
#
# ``ESTIMATORS`` is a plain dict: from here on, in this process, the rule has a name that a ``TrainingConfig``
# understands. In the package it is a file of ``repsim/learning/estimators/`` and a line in the dict, and ``repsim
# rules`` lists it.
#
# Train with it
# -------------
#
# At all boundaries of a network of four hidden layers, beside its parents. ``train`` yields a record for each update;
# at the steps in ``diagnosed`` it also has the chosen gradients compared with the true ones.

digits = load_dataset("digits")
split = split_dataset(digits, seed=0)
X, y = torch.from_numpy(digits.X), torch.from_numpy(digits.y)
epochs, batch_size = 15, 64
n_steps = count_steps(len(split["train"]), batch_size, epochs)


def trained(rule):
    """Train a network by a rule, and return the learner and a table of angles to the true gradient, in degrees."""
    config = TrainingConfig(
        data="digits", depth=4, width=48, rule=rule, boundaries="all", epochs=epochs, estimator_learning_rate=0.003
    )
    learner = build_learner(config, digits.shape, len(digits.classes))
    steps = train(
        learner,
        build_optimizer(learner, config),
        X[split["train"]],
        y[split["train"]],
        epochs=epochs,
        batch_size=batch_size,
        seed=0,
        diagnosed=range(10, n_steps + 1, 15),
    )
    angles = [
        {"rule": rule, "step": step.step, "boundary": k, "angle": diagnosis.angle}
        for step in steps
        for k, diagnosis in step.diagnoses.items()
    ]
    return learner, pd.DataFrame(angles)


names = ["direct-feedback-alignment", "learned-feedback", "synthetic-gradient"]
learners, tables = zip(*map(trained, names), strict=True)
for name, learner in zip(names, learners, strict=True):
    estimator = next(iter(learner.placed().values()))
    score = evaluate(learner.network, X[split["test"]], y[split["test"]])
    print(f"{name:26} test accuracy {score.accuracy:.3f}, locks: {', '.join(sorted(locks(estimator))) or 'none'}")

# %%
# The new rule is update locked, like direct feedback alignment: a layer must wait for the output's error, but for no
# backward pass. The declaration says so, nobody wrote it in a table.
#
# Look at the angle
# -----------------
#
# A step along g_k lowers the loss, if it is small, where the angle between g_k and the true gradient is below 90°.

table = pd.concat(tables)
figure, axes = plt.subplots(1, 4, figsize=(11, 3), sharey=True, layout="constrained")
for ax, (boundary, rows) in zip(axes, table.groupby("boundary"), strict=True):
    plot_lines(
        rows, "step", "angle", curve="rule", xlabel="step", ylabel="", markers=False, legend=boundary == 1, ax=ax
    )
    ax.set_title(f"boundary {boundary}", fontsize=10)
    ax.axhline(90, color="0.5", linestyle=":", linewidth=1)
    ax.set_ylim(0, 105)
axes[0].set_ylabel("angle to the true gradient (°)")

# %%
# At boundary 4 there is something to check. Above it lies the output segment, which is linear, h W + b, so that the
# true gradient there is exactly e Wᵀ: a linear function of the error. The rule can express it, and its angle falls
# towards zero, as W moves while B follows. Below, relus let through a different part of the error for each example, and
# no one matrix is right for all; angles stay larger. The synthetic gradient is further off here: it is told the
# activation and the label, from which the error has to be guessed. But it waits for nothing.

feedback = learners[1].estimators["1_2_3_4"].feedback[3].detach()  # boundaries that are alike are one stack
weight = learners[1].network.segments[-1].weight.detach()  # W transposed, (n_outputs, width)
centred = feedback - feedback.mean(dim=0), weight - weight.mean(dim=0)  # errors of a softmax sum to 0 over classes
print(f"correlation of B with W: {torch.corrcoef(torch.stack([each.flatten() for each in centred]))[0, 1]:.3f}")

# %%
# A theorem like this one, an oracle, or a number with its source: that is what a rule's tests are made of in this
# package. Besides, every rule is tested for what it declares: signals that it does not need may change without changing
# a bit of its gradient.

plt.show()
