import copy
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from repsim.learning import (
    NETWORKS,
    DisturbedGradient,
    Learner,
    Signals,
    Site,
    Step,
    TrainingConfig,
    build_learner,
    build_optimizer,
    diagnose,
    locks,
    parse_rules,
    train,
    train_replicas,
)
from tests.repsim.small_chains import assert_close, assert_same_bits, held_gradients, randn

N, CLASSES, STEPS = 12, 3, 8
SHAPES: dict[str, Any] = {"mlp": 6, "conv": (1, 8, 8), "residual": (1, 8, 8), "transformer": (1, 8, 8)}
SITE = Site((5,), CLASSES)
RULE = "disturbed-gradient"


def config(rule: str, **settings: Any) -> TrainingConfig:
    small = {"depth": 3, "width": 4, "batch_size": N, "epochs": STEPS, "learning_rate": 0.01}
    return TrainingConfig.from_dict(small | {"rule": rule} | settings)


def examples(settings: TrainingConfig) -> tuple[Tensor, Tensor]:
    X = randn(N, 6 if settings.network == "mlp" else 64, seed=1)
    return X, X[:, :CLASSES].argmax(dim=1)


def start(settings: TrainingConfig) -> tuple[Learner, torch.optim.Optimizer]:
    learner = build_learner(settings, SHAPES[settings.network], CLASSES).double()
    return learner, build_optimizer(learner, settings)


def trained(settings: TrainingConfig, **keywords: Any) -> tuple[Learner, list[Step]]:
    learner, optimizer = start(settings)
    return learner, list(train(learner, optimizer, *examples(settings), settings, **keywords))


def diagnosed(settings: TrainingConfig) -> list[dict[int, tuple[float, float]]]:
    """Return angle and ratio of norms of every update, by boundary."""
    _, steps = trained(settings, diagnosed=range(1, STEPS + 1))
    return [{k: (each.angle, each.norm / each.true_norm) for k, each in step.diagnoses.items()} for step in steps]


def gradient(rule: DisturbedGradient, t: Tensor) -> Tensor:
    return rule.gradient(Signals(torch.zeros_like(t), true_gradient=t))


# Angle and norm


@pytest.mark.parametrize(("angle", "norm"), [(45, 1), (20, 0.3), (90, 1), (140, 2.5)])
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_batch_has_the_angle_and_the_norm_at_every_boundary(kind: str, angle: float, norm: float) -> None:
    """Also where the gradients above are disturbed, and under batch norm."""
    found = diagnosed(config(f"{RULE}:angle={angle},norm={norm}@all", network=kind))
    assert len(found) == STEPS
    for of_boundary in found:
        assert list(of_boundary) == [1, 2, 3]
        for each in of_boundary.values():
            assert each == pytest.approx((angle, norm), rel=1e-9)


@pytest.mark.parametrize("above", ["feedback-alignment@3", "noise:scale=2@3", "synthetic-gradient@3"])
def test_the_angle_is_to_the_true_gradient_whatever_rule_acts_above(above: str) -> None:
    for of_boundary in diagnosed(config(f"{RULE}:angle=30@1,2 + {above}")):
        assert [of_boundary[k][0] for k in (1, 2)] == pytest.approx([30, 30])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_the_angle_is_exact_in_single_precision_at_any_scale(scale: float) -> None:
    """Squares of such numbers leave the range of float32."""
    t = (scale * randn(200, 5)).float()
    g = gradient(DisturbedGradient(SITE, angle=60, norm=0.5), t)
    assert g.dtype == torch.float32
    (found,) = diagnose({1: g}, {1: t})[1]
    assert found.angle == pytest.approx(60, abs=1e-4)
    assert found.norm / found.true_norm == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("kind", NETWORKS)
def test_without_angle_the_network_learns_by_backprop(kind: str) -> None:
    (ours, _), (theirs, _) = (trained(config(rule, network=kind)) for rule in (f"{RULE}:angle=0,norm=1", "backprop"))
    assert_close(ours.network.state_dict(), theirs.network.state_dict(), 1e-10)


def test_a_norm_of_zero_gives_zero_gradients() -> None:
    settings = config(f"{RULE}:norm=0@2")
    learner, _ = start(settings)
    outcome = learner.compute_gradients(*examples(settings), watch=True)
    assert not outcome.gradients[2].any()
    below = [g for name, g in held_gradients(learner.network).items() if name.startswith(("hidden.1.", "hidden.2."))]
    assert below
    assert not any(g.any() for g in below)
    assert outcome.gradients[3].any()


def test_a_true_gradient_of_zero_is_not_disturbed() -> None:
    assert torch.equal(gradient(DisturbedGradient(SITE), torch.zeros(4, 5)), torch.zeros(4, 5))


def test_noise_is_all_that_is_left_of_the_gradient_at_90_degrees() -> None:
    """Its entries are normal: a fourth moment of 3, and as many above as below zero."""
    t = randn(500, 200)
    g = gradient(DisturbedGradient(Site((200,), CLASSES), angle=90), t)
    assert (g * t).sum().abs() < 1e-8 * t.square().sum()
    entries = (g / g.std()).flatten()
    assert entries.pow(4).mean().item() == pytest.approx(3.0, rel=0.05)
    assert (entries > 0).double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_noise_is_fresh_at_each_update_boundary_and_seed() -> None:
    t = randn(100, 5)
    rule = DisturbedGradient(SITE, angle=90)
    drawn = [gradient(rule, t), gradient(rule, t)]
    for site in (replace(SITE, boundary=2), replace(SITE, seed=1)):
        drawn.append(gradient(DisturbedGradient(site, angle=90), t))
    directions = torch.stack([(g / g.norm()).flatten() for g in drawn])
    products = directions @ directions.T
    assert (products - torch.eye(4)).abs().max() < 0.2  # of vectors of 500 independent entries
    assert torch.equal(gradient(DisturbedGradient(SITE, angle=90), t), drawn[0])


def test_it_waits_for_the_backward_pass() -> None:
    assert locks(DisturbedGradient(SITE)) == {"update", "backward"}


# As good as another run


def log(path: Path, *gradients: dict[str, Any], steps: Sequence[int] = (2, 4)) -> str:
    """Write a log with the gradients of diagnosed updates, between updates that were not diagnosed."""
    records = [{"step": 1, "loss": 2.0}]
    records += [{"step": step, "loss": 1.0, "gradients": each} for step, each in zip(steps, gradients, strict=True)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def quality(angle: float | None, norm: float, true_norm: float = 2.0) -> dict[str, float | None]:
    cosine = None if angle is None else math.cos(math.radians(angle))
    return {"norm": norm * true_norm, "true_norm": true_norm, "cosine": cosine, "angle": angle}


def of_updates(rule: DisturbedGradient, n: int = 6) -> list[tuple[float, float]]:
    t = randn(30, 5)
    found = [diagnose({1: gradient(rule, t)}, {1: t})[1][0] for _ in range(n)]
    return [(each.angle, each.norm / each.true_norm) for each in found]


def test_angle_and_norm_are_interpolated_between_diagnosed_updates(tmp_path: Path) -> None:
    """Golden: 20 and 60 degrees at updates 2 and 4; constant before and after."""
    like = log(tmp_path / "metrics.jsonl", {"1": quality(20, 0.5)}, {"1": quality(60, 1.5, true_norm=3)})
    expected = [(20, 0.5), (20, 0.5), (40, 1.0), (60, 1.5), (60, 1.5), (60, 1.5)]
    for path in (like, str(tmp_path)):  # a log, or the directory of its run
        for found, (angle, norm) in zip(of_updates(DisturbedGradient(SITE, like=path)), expected, strict=True):
            assert found == pytest.approx((angle, norm), rel=1e-9)


def test_a_log_with_one_diagnosed_update_is_constant(tmp_path: Path) -> None:
    like = log(tmp_path / "log", {"1": quality(25, 0.75)}, steps=[3])
    for found in of_updates(DisturbedGradient(SITE, like=like)):
        assert found == pytest.approx((25, 0.75), rel=1e-9)


def test_a_logged_gradient_of_zero_has_the_angle_of_its_neighbours(tmp_path: Path) -> None:
    """As synthetic gradients are at the start: from 0 on, the norm rises at the first angle that was defined."""
    like = log(tmp_path / "log", {"1": quality(None, 0.0)}, {"1": quality(70, 0.8)})
    found = of_updates(DisturbedGradient(SITE, like=like))
    assert [norm for _, norm in found] == pytest.approx([0, 0, 0.4, 0.8, 0.8, 0.8])
    assert [angle for angle, _ in found[2:]] == pytest.approx([70] * 4)


def test_a_log_of_zero_gradients_alone_gives_zero_gradients(tmp_path: Path) -> None:
    like = log(tmp_path / "log", {"1": quality(None, 0.0)}, {"1": quality(None, 0.0)})
    assert not gradient(DisturbedGradient(SITE, like=like), randn(30, 5)).any()


def test_each_boundary_has_the_quality_that_was_logged_for_it(tmp_path: Path) -> None:
    of_boundaries = {str(k): quality(20 * k, 0.5 * k) for k in (1, 2, 3)}
    like = log(tmp_path / "log", of_boundaries, steps=[1])
    for of_boundary in diagnosed(config(f"{RULE}:like={like}@all")):
        for k, found in of_boundary.items():
            assert found == pytest.approx((20 * k, 0.5 * k), rel=1e-9)


def record(path: Path, steps: Sequence[Step]) -> str:
    """Write the log of a training, with null in place of NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for step in steps:
            gradients = {
                k: {
                    name: None if value is None or not math.isfinite(value) else value
                    for name, value in asdict(each).items()
                }
                for k, each in step.diagnoses.items()
            }
            file.write(json.dumps({"step": step.step} | ({"gradients": gradients} if gradients else {})) + "\n")
    return str(path)


def test_gradients_are_as_good_as_synthetic_gradients_were_at_that_update(tmp_path: Path) -> None:
    settings = config("synthetic-gradient@2", estimator_learning_rate=0.05)
    _, steps = trained(settings, diagnosed=[1, 3, 8])
    like = record(tmp_path / "log", steps)
    _, control = trained(replace(settings, rule=f"{RULE}:like={like}@2"), diagnosed=[1, 3, 8])
    assert math.isnan(control[0].diagnoses[2].cosine)  # both are zero at the start
    for i in (2, 7):
        ours, theirs = control[i].diagnoses[2], steps[i].diagnoses[2]
        assert ours.angle == pytest.approx(theirs.angle, rel=1e-6)
        assert ours.norm / ours.true_norm == pytest.approx(theirs.norm / theirs.true_norm, rel=1e-9)
    assert control[7].loss != steps[7].loss


def test_a_resumed_run_continues_at_the_right_update(tmp_path: Path) -> None:
    at_both = [{"1": quality(angle, 1), "2": quality(90 - angle, 1)} for angle in (20, 40)]
    like = log(tmp_path / "log", *at_both, steps=[2, 6])
    settings = config(f"{RULE}:like={like}@1,2")
    whole, _ = trained(settings)
    first, optimizer = start(settings)
    for step in train(first, optimizer, *examples(settings), settings):
        if step.step == 3:
            break
    resumed, continued = start(settings)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    seen = list(train(resumed, continued, *examples(settings), settings, start=3, diagnosed=[4, 5]))
    assert [seen[i].diagnoses[1].angle for i in (0, 1)] == pytest.approx([30, 35])
    assert_same_bits(resumed.state_dict(), whole.state_dict())


@pytest.mark.parametrize("kind", NETWORKS)
def test_seeds_with_logs_of_their_own_are_trained_together(kind: str, tmp_path: Path) -> None:
    for seed in range(3):
        of_boundaries = [{str(k): quality(20 * k + seed + 5 * i, 1 - 0.1 * seed) for k in (1, 2, 3)} for i in range(2)]
        log(tmp_path / f"seed-{seed}", *of_boundaries)
    configs = [config(f"{RULE}:like={tmp_path}/seed-{{seed}}@all", network=kind, seed=seed) for seed in range(3)]
    (learners, optimizers) = zip(*map(start, configs), strict=True)
    steps = list(
        train_replicas(
            learners, optimizers, [examples(configs[0])] * 3, configs, how="stacked", diagnosed=range(STEPS + 1)
        )
    )
    for seed, settings in enumerate(configs):
        alone, _ = trained(settings)
        assert_close(learners[seed].state_dict(), alone.state_dict(), 1e-9)
        for k in (1, 2, 3):
            assert steps[3][seed].diagnoses[k].angle == pytest.approx(20 * k + seed + 5, rel=1e-9)
            assert steps[0][seed].diagnoses[k].angle == pytest.approx(20 * k + seed, rel=1e-9)


@pytest.mark.parametrize("is_named", [True, False])
def test_seeds_whose_logs_cannot_be_stacked_are_trained_one_by_one(is_named: bool, tmp_path: Path) -> None:
    """Logs with different numbers of diagnosed updates, and logs that are named one by one."""
    for seed in range(2):
        log(tmp_path / f"seed-{seed}", *[{"1": quality(30, 1)}] * (2 + seed), steps=range(1, 3 + seed))
    names = [f"seed-{i}" if is_named else "seed-{seed}" for i in range(2)]
    configs = [config(f"{RULE}:like={tmp_path}/{name}@1", seed=seed) for seed, name in enumerate(names)]
    (learners, optimizers) = zip(*map(start, configs), strict=True)
    training = train_replicas(learners, optimizers, [examples(configs[0])] * 2, configs)
    assert training.choice.how == "loop"
    list(training)
    for learner, settings in zip(learners, configs, strict=True):
        assert_same_bits(learner.state_dict(), trained(settings)[0].state_dict())


# What is refused


def test_a_missing_log_is_refused(tmp_path: Path) -> None:
    for like, path in ((tmp_path / "none", tmp_path / "none"), (tmp_path, tmp_path / "metrics.jsonl")):
        with pytest.raises(ValueError) as caught:
            DisturbedGradient(SITE, like=str(like))
        assert str(caught.value) == (
            f"like is '{like}', but {path} cannot be read (No such file or directory). Name a run directory or a "
            "metrics.jsonl."
        )


def test_a_log_without_diagnoses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"whose log has no diagnosed gradients\. Record it with --diagnose, such as"):
        DisturbedGradient(SITE, like=log(tmp_path / "log", steps=[]))


def test_a_log_without_the_boundary_is_refused(tmp_path: Path) -> None:
    like = log(tmp_path / "log", {"1": quality(20, 1), "2": quality(20, 1)}, steps=[1])
    message = r"whose log has no gradients at boundary 3, only at 1, 2\. Name the run of a network that has boundary 3"
    with pytest.raises(ValueError, match=message):
        build_learner(config(f"{RULE}:like={like}@3"), 6, CLASSES)


@pytest.mark.parametrize(
    "text",
    [
        b'{"step": 1, "gradients": {"1": \n',
        b'{"gradients": {}}\n',
        b'{"step": 1, "gradients": "large"}\n',
        b'{"step": 1, "gradients": {"1": {"angle": 3}}}\n',
        b'{"step": 1, "gradients": {"1": {"cosine": 2, "norm": 1, "true_norm": 1}}}\n',
        b'{"step": 1, "gradients": {"1": {"cosine": 1, "norm": null, "true_norm": 1}}}\n',
        b'{"step": 1, "gradients": {"1": {"cosine": 1, "norm": 1, "true_norm": 0}}}\n',
        b'["gradients"]\n',
        b'\xff\xfe "gradients"\n',
    ],
)
def test_a_file_that_is_not_a_log_is_refused(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(text)
    with pytest.raises(ValueError, match=r"log is not the log of a training by repsim\.$"):
        DisturbedGradient(SITE, like=str(tmp_path / "log"))


def test_an_incomplete_last_line_is_ignored(tmp_path: Path) -> None:
    like = log(tmp_path / "log", {"1": quality(20, 1)}, steps=[1])
    with Path(like).open("a") as file:
        file.write('{"step": 2, "gradients": {"1"')
    assert of_updates(DisturbedGradient(SITE, like=like), 1)[0] == pytest.approx((20, 1))


@pytest.mark.parametrize(("name", "value"), [("angle", 30.0), ("norm", 2.0)])
def test_an_angle_or_norm_beside_a_log_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} is {value} and like is 'x', .* Leave out either {name} or like"):
        parse_rules(f"{RULE}:{name}={value},like=x", None, 3)
