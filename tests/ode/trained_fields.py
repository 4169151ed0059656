"""Vector fields after some training, and what their backward passes give, for the tests of all gradient modes.

They are trained because random weights hide errors of a gradient that trained ones show.
"""

import copy
import math
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from solver_variants import planned, solver_config
from timm.layers import DropPath
from torch import Tensor, nn

from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import SolverConfig, build_method, odeint
from odebackbones.ode.integrate import integrate
from odebackbones.ode.methods.two_step import LinearTwoStep
from odebackbones.ode.solvers import evaluation_times, has_fixed_cost

CHANNELS, STEPS = 4, 7


class ConvField(nn.Module):
    """Convolutions around a normalization and a non-linearity of choice, with a time-dependent gain."""

    def __init__(self, norm=None, dropout=0.0, drop_path=0.0):
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, 6, 3, padding=1)
        self.norm = norm or nn.Identity()
        self.conv2 = nn.Conv2d(6, CHANNELS, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, t, x):
        slope = self.conv2(self.dropout(torch.tanh(self.norm(self.conv1(x)))))
        return self.drop_path(math.cos(t) * slope)


FIELDS = {
    "convolutions": lambda nodes: ConvField(),
    "GroupNorm": lambda nodes: ConvField(nn.GroupNorm(2, 6)),
    "BatchNorm2d": lambda nodes: ConvField(nn.BatchNorm2d(6)),
    "dropout": lambda nodes: ConvField(dropout=0.3),
    "stochastic depth": lambda nodes: ConvField(drop_path=0.3),
    "TimeBatchNorm2d": lambda nodes: BasicField(
        CHANNELS, width=6, norm=norm_layer("batch", nodes=nodes, bases=2), bases=2
    ),
}
RANDOM = ("dropout", "stochastic depth")


def images(seed=1, dtype=torch.float32, size=6):
    return torch.randn(3, CHANNELS, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@cache
def trained(name, nodes):
    """The field after a few steps toward a flow that blurs and shifts the image."""
    torch.manual_seed(0)
    field, images_in = FIELDS[name](list(nodes)), images(0)
    target = F.avg_pool2d(images_in.roll(1, dims=3), 3, 1, 1)
    optimizer = torch.optim.Adam(field.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        end = odeint(field, images_in, solver=SolverConfig("midpoint", 3, "backprop")).state
        losses.append(F.mse_loss(end, target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.85 * losses[0]
    return field


def make(name, variant="midpoint"):
    """A trained field of one's own, whose statistics per time stand on the evaluation times of a method."""
    nodes = (0.0, 1.0)
    if name == "TimeBatchNorm2d" and planned([variant]):
        nodes = tuple(evaluation_times(solver_config(variant, STEPS)))
    return copy.deepcopy(trained(name, nodes))


class Problem(nn.Module):
    """A field and a method; an ``lm`` with coefficients as if they had been learned."""

    def __init__(self, field, solver, t_span=(0.0, 1.0)):
        super().__init__()
        self.method, self.field, self.solver = build_method(solver, t_span), field, solver
        if isinstance(self.method, LinearTwoStep):
            nn.init.uniform_(self.method.coefficients, -0.4, 0.6, generator=torch.Generator().manual_seed(0))

    def forward(self, x):
        """The end state and the cost."""
        return integrate(self.field, self.method, x, self.solver, parameters=tuple(self.parameters()))


class Pass(NamedTuple):
    """What a forward and backward pass leave behind."""

    problem: nn.Module
    end: Tensor
    slope: Tensor
    """The input's gradient."""
    random_state: Tensor

    @property
    def field(self):
        return self.problem.field


def passes(field, solver, *, seed=7, dtype=torch.float32):
    """A pass through a copy of ``field``."""
    t_span = (0.0, 1.0) if has_fixed_cost(solver) else (0.35, 0.65)  # so short that iterations converge; both bases
    problem = Problem(copy.deepcopy(field), solver, t_span)
    problem.zero_grad()
    x = images(dtype=dtype).requires_grad_()
    torch.manual_seed(seed)
    end, _ = problem(x)
    end.float().square().sum().backward()
    return Pass(problem, end.detach(), x.grad, torch.get_rng_state())


def assert_parameter_gradients_close(found, reference, *, tolerance):
    """Relative to each gradient's norm; those that are zero but for rounding are left out."""
    pairs = dict(zip(found.named_parameters(), reference.parameters(), strict=True))
    largest = max(q.grad.norm() for q in pairs.values())
    compared = 0
    for (name, p), q in pairs.items():
        if q.grad.norm() > 1e-5 * largest:
            error = (p.grad - q.grad).norm() / q.grad.norm()
            assert error <= tolerance, f"{name}: {error:.2e}"
            compared += 1
    assert compared >= len(pairs) - 1  # a bias before a norm


def assert_parameter_gradients_equal(found, reference):
    for (name, p), q in zip(found.named_parameters(), reference.parameters(), strict=True):
        assert p.grad.abs().max() > 0, name
        assert torch.equal(p.grad, q.grad), name


def assert_buffers_equal(found, reference):
    for key, buffer in reference.named_buffers():
        assert torch.equal(found.get_buffer(key), buffer), key


def relative_error(found, reference):
    """Norm of the difference over that of the reference, of all tensors together."""
    a, b = (torch.cat([tensor.detach().flatten() for tensor in tensors]) for tensors in (found, reference))
    return float((a - b).norm() / b.norm())


def gradients(module):
    """Those of all parameters."""
    return [p.grad for p in module.parameters()]
