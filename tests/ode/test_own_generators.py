"""Random generators that a field has of its own."""

import random

import numpy as np
import pytest
import torch
from conditioned_fields import Conditioned
from fields_with_state import ALL, assert_same, by_backprop, gradients_of, numbers, seeded

from odebackbones.ode import odeint


class Noisy(Conditioned):
    """Multiplies its slopes by numbers from a source."""

    def __init__(self, source):
        super().__init__()
        self.source = source

    def forward(self, t, x):
        return super().forward(t, x) * self.source()


class OwnGenerators(Conditioned):
    """Draws from a generator of its own, and from one in a dictionary."""

    def __init__(self):
        super().__init__()
        self.generator, self.others = torch.Generator().manual_seed(3), {"b": torch.Generator().manual_seed(4)}

    def forward(self, t, x):
        scale = torch.rand(3, generator=self.generator) + torch.rand(3, generator=self.others["b"])
        return super().forward(t, x) * scale


GENERATORS = {
    "generators of its own": OwnGenerators,
    "Python's": lambda: Noisy(random.random),
    "NumPy's": lambda: Noisy(np.random.rand),
}


@ALL
@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_a_recomputation_draws_from_every_generator_as_the_solve_did(make, solver):
    found = []
    for config in (solver, by_backprop(solver)):
        if config.method in ("dopri5", "implicit_euler") and config.degree is None:
            pytest.skip("an adaptive solver finds no steps for a random field")
        random.seed(5)
        np.random.seed(5)
        field, x = seeded(make), numbers(4, 3).requires_grad_()
        end = odeint(field, x, solver=config).state
        drawn_next = random.random(), float(np.random.rand())
        end.square().sum().backward()
        found.append((gradients_of(field, x), drawn_next, random.random()))
    assert_same(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]
