"""Training for several numbers of steps, so that one set of weights serves all of them."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from engine.config import AnytimeConfig
from engine.training.features import features, relative_error
from engine.training.sampling import seeded
from odebackbones.block import ODEBlock, take_budget

Losses = Mapping[str, Tensor]
"""Named losses, whose sum is minimized."""

Compute = Callable[[], Losses]
"""Forward pass of a batch."""

SELF_DISTILLATION = "loss_self_distillation"


def budget_passes(model: nn.Module, config: AnytimeConfig, compute: Compute) -> list[Compute]:
    """Return the forward passes of a batch, in order; their losses add up to the batch's.

    Without budgets this is the one pass with the model's own steps. With budgets, all ODE blocks take a number of steps
    drawn for this batch. With self-distillation there are two passes of half the weight, the first with the most steps,
    and the second with a smaller number, whose states at the ends of the ODE blocks are pulled toward the first's. Both
    draw the same random numbers (for mixed images, sizes, drop path), so that their inputs are the same.

    Args:
        model: The model itself, not its replica.
        config: Numbers of steps, and the weight of self-distillation.
        compute: Forward pass of the batch through the model or its replica.
    """
    if not config.budgets:
        return [compute]
    if not config.self_distillation:
        return [partial(with_budget, model, draw(config.budgets), compute)]
    fullest = max(config.budgets)
    cheaper = draw([steps for steps in config.budgets if steps < fullest])
    blocks = [name for name, module in model.named_modules() if isinstance(module, ODEBlock)]
    taught: dict[str, Tensor] = {}
    seed = int(torch.randint(2**63 - 1, ()))

    def teach() -> Losses:
        with features(model, blocks) as found, seeded(seed):
            losses = with_budget(model, fullest, compute)
        taught.update({name: state.detach() for name, state in found.items()})
        return {name: loss / 2 for name, loss in losses.items()}

    def learn() -> Losses:
        with features(model, blocks) as found, seeded(seed):
            losses = with_budget(model, cheaper, compute)
        errors = torch.stack([relative_error(found[name], taught[name]) for name in blocks])
        return {
            **{name: loss / 2 for name, loss in losses.items()},
            SELF_DISTILLATION: config.self_distillation * errors.mean(),
        }

    return [teach, learn]


def draw(budgets: list[int]) -> int:
    """Draw one of the numbers with torch's generator, which is seeded for every batch."""
    return budgets[int(torch.randint(len(budgets), ()))]


def with_budget(model: nn.Module, steps: int, compute: Compute) -> Losses:
    """Compute the losses with this number of steps in every ODE block."""
    with take_budget(model, steps):
        return compute()
