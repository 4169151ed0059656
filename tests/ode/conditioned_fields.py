"""Fields that depend on tensors that no module of theirs holds."""

import torch
from torch import nn


class Conditioned(nn.Module):
    """A linear layer and something else, which a function applies."""

    def __init__(self, apply=lambda x: x):
        super().__init__()
        self.linear, self.apply_to = nn.Linear(3, 3), apply

    def forward(self, t, x):
        return torch.tanh(self.apply_to(self.linear(x)))
