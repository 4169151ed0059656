"""A plain field, and what both ways of training it give."""

import random

import torch
from fields_with_state import by_backprop, gradients_of, numbers, seeded
from torch import nn


class Plain(nn.Module):
    """tanh of a linear layer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, t, x):
        return torch.tanh(self.linear(x))


def both(make, solver, train):
    """The gradients of a training by a solver and by backpropagation."""
    found = []
    for config in (solver, by_backprop(solver)):
        torch.manual_seed(0)
        random.seed(0)
        field, x = seeded(make), numbers(4, 3).requires_grad_()
        others = train(field, x, config) or {}
        found.append({**gradients_of(field, x), **others})
    return found
