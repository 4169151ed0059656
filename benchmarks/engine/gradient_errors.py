"""Errors of the gradient modes against store-all backprop of the same solve, on trained weights."""

import copy
import warnings
from dataclasses import dataclass, replace
from itertools import chain

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from benchmarks.engine.crops import TRAIN_CROPS, batches, draw_crops
from benchmarks.engine.small_net import FieldMaker, SmallNet, basic_field, trained_net
from benchmarks.measurement import Claim, Part
from engine.report.records import Table
from odebackbones.ode import METHODS, SolverConfig
from odebackbones.ode.gradients.reversible import FixedPair
from odebackbones.ode.methods.fixed_point import in_fixed_point
from odebackbones.ode.solvers import fixed_method, has_fixed_cost

STEPS = 16
LONG_SOLVES = (64, 256)
REVERSIBLE = [name for name, method in METHODS.items() if method.reversible]


class Dropped(nn.Module):
    """A field with dropout on its input and drop path on its slope."""

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field
        self.dropout = nn.Dropout(0.1)
        self.drop_path = DropPath(0.1)

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``, with dropout and drop path applied."""
        return self.drop_path(self.field(t, self.dropout(x)))


FIELDS: dict[str, FieldMaker] = {
    "GroupNorm": basic_field("group"),
    "BatchNorm": basic_field("batch"),
    "BatchNorm, dropout, drop path": lambda nodes: Dropped(basic_field("batch")(nodes)),
}

MODES: dict[str, SolverConfig] = {
    "euler, checkpoint": SolverConfig("euler"),
    "euler, checkpoint sqrt": SolverConfig("euler", checkpoints="sqrt"),
    "midpoint, checkpoint 4": SolverConfig("midpoint", checkpoints=4),
    "rk4, checkpoint": SolverConfig("rk4"),
    "ab3, checkpoint sqrt": SolverConfig("ab3", checkpoints="sqrt"),
    **{f"{name}, reversible": SolverConfig(name, gradient="reversible", state_dtype="int32") for name in REVERSIBLE},
    "leapfrog, reversible float64": SolverConfig("leapfrog", gradient="reversible", state_dtype="float64"),
    "euler, adjoint": SolverConfig("euler", gradient="adjoint"),
    "midpoint, adjoint": SolverConfig("midpoint", gradient="adjoint"),
    "dopri5 at 1e-5, adjoint": SolverConfig("dopri5", gradient="adjoint", rtol=1e-5, atol=1e-5),
}


@dataclass(frozen=True)
class Outcome:
    """Outcome of a training step: end state, gradient of the input, gradients of the parameters, and buffers."""

    end: Tensor
    slope: Tensor
    gradients: list[Tensor]
    buffers: list[Tensor]


def training_step(net: SmallNet, solver: SolverConfig, features: Tensor, labels: Tensor) -> Outcome:
    """Run a forward and backward pass from the block's input, in training mode, with equal random draws every time."""
    net = copy.deepcopy(net).train()
    net.block.set_solver(replace(solver, steps=STEPS))
    net.zero_grad()
    state = features.clone().requires_grad_()
    torch.manual_seed(0)
    end = net.block(state)
    F.cross_entropy(net.classify(end), labels).backward()
    assert state.grad is not None
    gradients = [p.grad for p in net.block.parameters() if p.grad is not None]
    return Outcome(end.detach(), state.grad, gradients, [b.clone() for b in net.block.buffers()])


def relative_error(found: list[Tensor], reference: list[Tensor]) -> float:
    """Return the norm of the difference over the norm of the reference, for all tensors concatenated."""
    a, b = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (found, reference))
    return float((a - b).norm() / b.norm())


def errors(net: SmallNet, solver: SolverConfig, features: Tensor, labels: Tensor) -> tuple[str, float, float, str]:
    """Return whether the outputs are equal, the errors of the gradients, and whether the buffers are equal."""
    found = training_step(net, solver, features, labels)
    reference = training_step(net, replace(solver, gradient="backprop"), features, labels)
    same_buffers = all(map(torch.equal, found.buffers, reference.buffers))
    return (
        "bitwise" if torch.equal(found.end, reference.end) else "no",
        relative_error([found.slope], [reference.slope]),
        relative_error(found.gradients, reference.gradients),
        "bitwise" if same_buffers else "no",
    )


@torch.no_grad()
def bits_lost(net: SmallNet, method: str, steps: int, state: Tensor) -> int:
    """Count the numbers that reconstruction under bfloat16 autocast gets wrong, over all updates of a solve."""
    block = copy.deepcopy(net.block)
    block.set_solver(SolverConfig(method, steps, "reversible"))
    reversible = in_fixed_point(fixed_method(block.solver, block.t_span))
    start = reversible.start(block.field, state)
    pair = FixedPair(reversible, [z.to(torch.int32) for z in start[:2]], start[2], state.dtype)
    updates = list(chain(*reversible.scheme.steps))
    history = []
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        for update in updates:
            history.append([z.clone() for z in pair.numbers])
            pair.apply(update, pair.evaluated(update, block.field).ends[0].detach())
        lost = 0
        for update, before in zip(reversed(updates), reversed(history), strict=True):
            pair.undo(update, pair.evaluated(update, block.field).ends[0].detach())
            lost += sum(int((a != b).sum()) for a, b in zip(pair.numbers, before, strict=True))
    return lost


def run(rounds: int) -> Part:
    """Train a network for each field, then measure; nothing is timed."""
    data = draw_crops(TRAIN_CROPS, seed=0)
    images, labels = batches(draw_crops(64, seed=1), size=64, seed=0)[0]
    rows, claims, lost = [], [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the adjoint's inexactness is what is measured
        for name, make_field in FIELDS.items():
            net = trained_net(make_field, SolverConfig("midpoint", 4), data, epochs=4, seed=0)
            features = net.stem(images).detach()
            random = isinstance(net.block.field, Dropped)  # no step is small enough for a field that jumps
            modes = {mode: solver for mode, solver in MODES.items() if has_fixed_cost(solver) or not random}
            found = {mode: errors(net, solver, features, labels) for mode, solver in modes.items()}
            rows += [(name, mode, *values) for mode, values in found.items()]
            claims += claims_of(name, found)
            lost |= {(name, m, n): bits_lost(net, m, n, features[:4]) for m in REVERSIBLE for n in LONG_SOLVES}
    columns = ("field", "mode", "outputs equal", "error of input gradient", "of parameters' gradients", "buffers equal")
    title = f"Errors against backprop of the same solve, trained weights, {STEPS} steps, float32"
    kept = Table(
        "Numbers reconstructed wrongly under bfloat16 autocast",
        ("field", "method", "steps", "wrong"),
        tuple((*key, wrong) for key, wrong in lost.items()),
    )
    claims.append(Claim("numbers reconstructed wrongly under bfloat16 autocast", sum(lost.values()), 0))
    return Part((Table(title, columns, tuple(rows)), kept), tuple(claims))


def claims_of(name: str, found: dict[str, tuple[str, float, float, str]]) -> list[Claim]:
    """Return the claims that bound one field's errors."""
    exact = {mode: values for mode, values in found.items() if "adjoint" not in mode}
    checkpointed = {mode: values for mode, values in exact.items() if "checkpoint" in mode}
    euler = [values for mode, values in checkpointed.items() if mode.startswith("euler")]
    others = [values for mode, values in checkpointed.items() if not mode.startswith("euler")]
    reversible = [values for mode, values in exact.items() if "reversible" in mode.split(", ")[1]]
    return [
        Claim(
            f"{name}: checkpoint, outputs not bitwise equal", sum(v[0] != "bitwise" for v in checkpointed.values()), 0
        ),
        Claim(f"{name}: checkpoint, error of input gradient", max(v[1] for v in checkpointed.values()), 0.0),
        Claim(f"{name}: checkpoint, error of Euler's parameter gradients", max(v[2] for v in euler), 0.0),
        Claim(f"{name}: checkpoint, error of other parameter gradients", max(v[2] for v in others), 5e-7),
        Claim(f"{name}: reversible, error of gradients", max(max(v[1:3]) for v in reversible), 1e-6),
        Claim(f"{name}: modes with other buffers than backprop", sum(v[3] != "bitwise" for v in found.values()), 0),
    ]
