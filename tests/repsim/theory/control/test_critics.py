import pytest
import torch
from torch import nn

from repsim.learning import stream
from repsim.theory.control import Critic, LinearGradient, MLPGradient, MLPValue, Pendulum, QuadraticValue

CRITICS = {
    "quadratic value": lambda: QuadraticValue(2),
    "linear gradient": lambda: LinearGradient(2),
    "mlp value": lambda: MLPValue(Pendulum(), width=8, generator=stream(0, "critic")),
    "mlp gradient": lambda: MLPGradient(Pendulum(), width=8, generator=stream(0, "critic")),
}
X = Pendulum().draw_states(6, stream(0, "starts"))


def disturb(critic: nn.Module) -> None:
    with torch.no_grad():
        for index, parameter in enumerate(critic.parameters()):
            parameter += torch.randn(parameter.shape, dtype=torch.float64, generator=stream(0, "disturb", index))


@pytest.mark.parametrize("name", CRITICS)
def test_critics_start_at_zero(name: str) -> None:
    critic: Critic = CRITICS[name]()
    assert torch.equal(critic.gradient(X), torch.zeros_like(X))
    disturb(critic)
    assert float(critic.gradient(X).detach().abs().min()) > 0


@pytest.mark.parametrize("name", ["quadratic value", "mlp value"])
def test_the_gradient_of_a_value_agrees_with_finite_differences(name: str) -> None:
    critic = CRITICS[name]()
    disturb(critic)
    step = 1e-5 * torch.eye(2, dtype=torch.float64)
    with torch.no_grad():
        differences = [(critic(X + each) - critic(X - each)) / 2e-5 for each in step]
        torch.testing.assert_close(critic.gradient(X), torch.stack(differences, dim=-1), rtol=1e-5, atol=1e-7)


def test_the_linear_gradient_is_that_of_the_quadratic_value_of_a_symmetric_matrix() -> None:
    S = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    value, gradient = QuadraticValue(2), LinearGradient(2)
    with torch.no_grad():
        value.S.copy_(S)
        gradient.S.copy_(S)
    torch.testing.assert_close(value.gradient(X), gradient(X).detach())
    torch.testing.assert_close(value(X), -torch.einsum("ni,ij,nj->n", X, S, X), check_stride=False)
