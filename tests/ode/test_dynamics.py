"""Neural ODEs on plain dynamics: systems learned from samples go on beyond them, and what a flow can not learn."""

import pytest
import torch
import torchdiffeq
from torch import nn

from odebackbones.block import ODEBlock
from odebackbones.ode import SolverConfig, odeint

DOUBLE = torch.float64
SPIRAL = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=DOUBLE)
GROWTH = torch.tensor([1.3, -1.8], dtype=DOUBLE)


def tensor(rows):
    return torch.tensor(rows, dtype=DOUBLE)


def spiral(t, u):
    """The damped spiral of Chen et al. 2018: u' = u^3 A for rows u."""
    return u**3 @ SPIRAL


def interaction(z):
    """What predator and prey do to each other: -0.9 x y and 0.8 x y."""
    return z.prod(dim=-1, keepdim=True) * tensor([-0.9, 0.8])


def lotka_volterra(t, z):
    """Of Rackauckas et al. 2020: x' = 1.3 x - 0.9 x y, y' = -1.8 y + 0.8 x y."""
    return GROWTH * z + interaction(z)


def network(seed, features=2, width=32):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, features)).double()


class CubicField(nn.Module):
    """u' = network(u^3), as Chen et al.'s."""

    def __init__(self):
        super().__init__()
        self.network = network(0)

    def forward(self, t, u):
        return self.network(u**3)


class UniversalField(nn.Module):
    """Known growth and death, and a network in place of the interaction, as Rackauckas et al.'s."""

    def __init__(self):
        super().__init__()
        self.network = network(0)

    def forward(self, t, z):
        return GROWTH * z + self.network(z - 2.0)


def reference(field, starts, times):
    """The trajectories ``(T, B, 2)``, to nine digits."""
    return torchdiffeq.odeint(field, starts, torch.tensor(times, dtype=DOUBLE), rtol=1e-9, atol=1e-10, method="dopri5")


def every(step, until):
    return [i * step for i in range(round(until / step) + 1)]


def fit(field, samples, step, *, evaluations, length=5):
    """Fit to all pieces of ``length`` intervals between samples ``(T, B, 2)``; returns the loss before and after."""
    pieces = samples.unfold(0, length + 1, 1).permute(3, 0, 1, 2).flatten(1, 2)  # (length + 1, pieces, 2)
    optimizer = torch.optim.LBFGS(
        field.parameters(), max_eval=evaluations, max_iter=evaluations, line_search_fn="strong_wolfe"
    )

    def loss():
        optimizer.zero_grad()
        states = odeint(field, pieces[0], every(step, length * step), SolverConfig("rk4", 1, "checkpoint")).states
        error = (states - pieces).square().mean()
        error.backward()
        return error

    first = loss().item()
    optimizer.step(loss)
    return first, loss().item()


@pytest.mark.slow
def test_a_network_learns_the_spiral_and_follows_it_from_new_starts_and_for_longer():
    starts, new = tensor([[2.0, 0.0], [1.3, 0.5], [-1.0, 1.6]]), tensor([[1.7, 0.5], [0.0, -1.5], [-1.2, -1.0]])
    field = CubicField()
    before, after = fit(field, reference(spiral, starts, every(0.05, 1.5)), 0.05, evaluations=160)
    assert before > 0.1
    assert after < 1e-5
    times = every(0.05, 3.0)
    expected = reference(spiral, new, times)
    found = odeint(field, new, times, SolverConfig("rk4", 1, "backprop")).states
    assert (found - expected).abs().max() < 0.2
    assert (expected - new).norm(dim=-1).amax(dim=0).min() > 2.0  # they go a long way


@pytest.mark.slow
def test_a_network_learns_the_interaction_of_predator_and_prey_and_goes_on_from_new_starts():
    starts, new = tensor([[1.0, 1.0], [2.0, 1.5], [3.0, 2.0]]), tensor([[1.5, 1.2], [2.5, 2.0]])
    field, samples = UniversalField(), reference(lotka_volterra, starts, every(0.1, 4.0))
    before, after = fit(field, samples, 0.1, evaluations=200)
    assert before > 0.1
    assert after < 1e-5
    times = every(0.1, 8.0)  # two periods
    found = odeint(field, new, times, SolverConfig("rk4", 1, "backprop")).states
    assert (found - reference(lotka_volterra, new, times)).abs().max() < 0.1
    visited = samples.flatten(0, 1)  # and it is the interaction that was found
    assert (field.network(visited - 2.0) - interaction(visited)).abs().max() < 0.1 * interaction(visited).abs().max()


class SmallField(nn.Module):
    """A network of the state and the time."""

    def __init__(self, features):
        super().__init__()
        self.network = network(0, features + 1, 24)

    def forward(self, t: float, x: torch.Tensor) -> torch.Tensor:
        return self.network(torch.cat([x, torch.full_like(x[:, :1], t)], dim=1))[:, :-1]


def loss_of_turning_round(augment, *, images, steps=100):
    """The loss after training a block, with so many channels on top, to map x in [-1, 1] to -x."""
    x = torch.linspace(-1.0, 1.0, 21, dtype=DOUBLE)[:, None]
    field = SmallField(1 + augment)
    block = ODEBlock(PixelField(field) if images else field, SolverConfig("rk4", 4), augment=augment)
    optimizer = torch.optim.Adam(block.parameters(), lr=0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        end = block(x[:, :, None, None]).flatten(1) if images else block(x)
        loss = (end + x).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


class PixelField(nn.Module):
    """A field of rows ``(B, C)`` as one of single pixels ``(B, C, 1, 1)``."""

    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, t: float, x: torch.Tensor) -> torch.Tensor:
        return self.field(t, x.flatten(1))[:, :, None, None]


@pytest.mark.slow
@pytest.mark.parametrize("images", [False, True], ids=["rows", "pixels"])
def test_only_an_augmented_flow_turns_the_line_round(images):
    # Dupont et al. 2019, proposition 1: in one dimension trajectories can't cross, so that a flow keeps the order of
    # the points; the best that does, and comes close to -x, is the constant 0, with the loss mean(x^2).
    floor = torch.linspace(-1.0, 1.0, 21, dtype=DOUBLE).square().mean().item()
    plain, augmented = (loss_of_turning_round(augment, images=images) for augment in (0, 1))
    assert 0.99 * floor < plain < 1.3 * floor
    assert augmented < 0.01 * floor
