"""Blocks within other blocks, and within what recomputes them."""

from fields_with_state import ALL, assert_same, numbers
from plain_fields import Plain, both
from torch.utils.checkpoint import checkpoint

from odebackbones.block import ODEBlock
from odebackbones.ode import SolverConfig, odeint


@ALL
def test_a_block_within_a_checkpoint_of_torchs(solver):
    def train(field, x, config):
        checkpoint(ODEBlock(field, config), x, use_reentrant=False).square().sum().backward()

    assert_same(*both(Plain, solver, train))


def test_a_block_within_a_field_keeps_its_own_parameters():
    context = numbers(3).requires_grad_()

    class Nested(Plain):
        def __init__(self):
            super().__init__()
            self.block = ODEBlock(Plain(), SolverConfig("euler", 2), parameters=[context])
            self.pair = (self.linear.weight, self.linear.bias)

        def forward(self, t, x):
            return super().forward(t, self.block(x))

    def train(field, x, config):
        odeint(field, x, solver=config).state.square().sum().backward()

    assert_same(*both(Nested, SolverConfig("rk4", 3), train))
