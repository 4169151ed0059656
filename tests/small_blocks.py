"""Small ODE blocks and images for them."""

import torch

from odebackbones.block import ODEBlock
from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import SolverConfig
from odebackbones.ode.solvers import evaluation_times

CHANNELS = 4


def images(batch=2, dtype=torch.float32, seed=1):
    return torch.randn(batch, CHANNELS, 6, 7, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make_block(solver=None, channels=CHANNELS, **kwargs):
    torch.manual_seed(0)
    solver = solver or SolverConfig("midpoint", 2)
    nodes = evaluation_times(solver, budgets=kwargs.get("budgets", ()))
    field = BasicField(channels, width=6, norm=norm_layer("batch", nodes=nodes, bases=1))
    return ODEBlock(field, solver, **kwargs)
