"""DistributedDataParallel: two processes with half of the batch each get the gradients of one with all of it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from odebackbones import ODEBlock
from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import SolverConfig

PROCESSES, CHANNELS = 2, 32

SOLVERS = {
    "checkpoint of every step": SolverConfig("midpoint", 3),
    "checkpoint, sqrt": SolverConfig("heun", 9, checkpoints="sqrt"),
    "reversible": SolverConfig("leapfrog", 5, "reversible"),
    "lm": SolverConfig("lm", 3),
}


def make_model(solver):
    torch.manual_seed(0)
    field = BasicField(CHANNELS, width=CHANNELS, norm=norm_layer("group", nodes=[0.0], bases=1))
    return nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), ODEBlock(field, solver), nn.Conv2d(CHANNELS, 2, 1))


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2 * PROCESSES, 3, 6, 6, generator=generator), torch.randn(
        2 * PROCESSES, 2, 6, 6, generator=generator
    )


def gradients(model, images, targets):
    F.mse_loss(model(images), targets).backward()
    return [p.grad for p in model.parameters()]


def train_a_share(rank, address, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=PROCESSES)
    share = [tensor.chunk(PROCESSES)[rank] for tensor in batch()]
    found = {name: gradients(DistributedDataParallel(make_model(solver)), *share) for name, solver in SOLVERS.items()}
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def by_process(tmp_path_factory):
    """The gradients that each process ends up with, by solver."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(train_a_share, (f"file://{folder / 'meeting'}", folder), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_two_processes_get_the_gradients_of_one(by_process, name):
    expected = gradients(make_model(SOLVERS[name]), *batch())
    assert all(g.abs().max() > 0 for g in expected)
    for found in by_process:
        for ours, reference in zip(found[name], expected, strict=True):
            torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-6)
