"""The ODE block: a vector field and a solver in place of the identity blocks of a ResNet stage."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odebackbones.checks import is_whole
from odebackbones.errors import InputError, name_prefix
from odebackbones.ode.evaluation import TensorTime, is_recording
from odebackbones.ode.initial_value import Solution
from odebackbones.ode.integrate import fixed_cost, integrate
from odebackbones.ode.methods.adaptive import AdaptiveMethod
from odebackbones.ode.methods.base import Method
from odebackbones.ode.methods.two_step import LinearTwoStep
from odebackbones.ode.solvers import (
    SolverConfig,
    build_method,
    evaluation_times,
    has_fixed_cost,
    require_budgets,
    with_steps,
)
from odebackbones.ode.stats import SolverStats
from odebackbones.old_names import rename_old


class ODEBlock(nn.Module):
    r"""The flow of a vector field over ``t_span``: :math:`x(t_1) = x(t_0) + \int f(t, x(t))\,dt`.

    Args:
        field: :math:`f(t, x)`, usually a module of :mod:`odebackbones.fields`.
        solver: Method, steps and gradient mode.
        t_span: Start and end time.
        augment: Number of zero channels appended to the state during the solve; the field has as many more channels
            (E. Dupont, A. Doucet, Y. W. Teh: Augmented Neural ODEs, NeurIPS 2019, arXiv:1904.01681).
        budgets: Numbers of steps from which every solve in training draws at random, so that one set of weights
            serves all; if empty, solves always take ``solver.steps``.
        steer: In training, the end time is drawn uniformly from ``t1 - steer`` to ``t1 + steer`` (A. Ghosh et al.:
            STEER: Simple Temporal Regularization For Neural ODEs, NeurIPS 2020, arXiv:2006.10711).
        name: Name of this block in error messages.
        parameters: Tensors that the field depends on but that none of its modules holds. They are found automatically,
            except tensors that only steps after the first one need.

    Shape:
        ``x: (B, C, H, W) -> (B, C, H, W)``
    """

    field: nn.Module
    method: Method | AdaptiveMethod

    def __init__(
        self,
        field: nn.Module,
        solver: SolverConfig,
        *,
        t_span: tuple[float, float] = (0.0, 1.0),
        augment: int = 0,
        budgets: Sequence[int] = (),
        steer: float = 0.0,
        name: str = "",
        parameters: Iterable[Tensor] = (),
    ) -> None:
        super().__init__()
        inner = field.vector_field if isinstance(field, TensorTime) else field
        if not isinstance(inner, nn.Module):
            raise InputError(f"field={field!r}: expected a torch.nn.Module; for other callables use odeint")
        require_budgets(budgets)
        require_augment(augment)
        if not 0.0 <= steer < abs(t_span[1] - t_span[0]):
            raise InputError(f"steer={steer!r}: expected a time from 0 to below the length of t_span={t_span}")
        reject_random_steps(solver, drawn=bool(budgets or steer))
        reject_drop_path_with_adaptive(field, solver, name=name)
        self.solver = solver
        self.t_span = t_span
        self.augment = augment
        self.budgets = tuple(budgets)
        self.steer = steer
        self.name = name
        self.others = list(parameters)  # not registered: they belong elsewhere
        self.latest: SolverStats | None = None
        self.budget: int | None = None  # chosen for all blocks, in place of a draw
        self.inspect = True  # until a solve has shown that the field leaves its input alone
        self.method = method_for(field, solver, t_span, name=name)  # before the field: coefficients come first
        self.field = field
        self.register_load_state_dict_pre_hook(rename_old)

    def forward(self, x: Tensor) -> Tensor:
        """The state at the end of the time span."""
        channels = x.shape[1]
        if self.augment > 0:
            x = F.pad(x, [0, 0] * (x.dim() - 2) + [0, self.augment])
        x = self.solve(x).state
        return x[:, :channels] if self.augment > 0 else x

    def solve(self, x: Tensor) -> Solution:
        """Solve from the (augmented) state; ``latest`` records a cost that was not known beforehand."""
        method, solver = self.method, self.solver
        is_drawn = self.training and (self.budgets or self.steer)
        if is_drawn and torch.compiler.is_compiling():
            torch._dynamo.graph_break(
                msg="budgets and steer draw the steps anew in every training step, which no single graph can follow: "
                "compile the fields alone, odebackbones.compile_fields(model), or without fullgraph=True"
            )
        if is_drawn:
            solver = with_steps(solver, self.sample_steps()) if self.budgets else solver
            method = build_method(solver, self.sample_span(), name=self.name)
        end, stats = integrate(
            self.field, method, x, solver, parameters=self.others, name=self.name, inspect=self.inspect
        )
        self.inspect = self.inspect and is_recording(x)
        self.latest = stats if is_drawn or not has_fixed_cost(solver) else None
        return Solution(end, stats)

    def sample_steps(self) -> int:
        """Return the budget that :func:`take_budget` has chosen, or draw one at random."""
        return self.budget or self.budgets[int(torch.randint(len(self.budgets), ()))]

    def sample_span(self) -> tuple[float, float]:
        """Return the time span with a randomly drawn end."""
        t0, t1 = self.t_span
        return t0, t1 + self.steer * (2.0 * float(torch.rand(())) - 1.0)

    def set_solver(self, solver: SolverConfig) -> None:
        """Integrate the same field by another solver, with norm statistics interpolated to its times.

        A change of method or steps turns off the drawing of steps from ``budgets``.

        Raises:
            InputError: The field is fused for its evaluation times; the solver's coefficients (``lm``) or grid belong
                to other steps, or do not go with ``steer``; or the solver is adaptive and the field has drop path.
        """
        reject_random_steps(solver, drawn=self.steer > 0.0)
        reject_drop_path_with_adaptive(self.field, solver, name=self.name)
        method = method_for(self.field, solver, self.t_span, name=self.name)
        if isinstance(method, LinearTwoStep) and isinstance(self.method, LinearTwoStep):
            method.take_coefficients(self.method)
        if not same_steps(solver, self.solver):
            self.move_statistics(evaluation_times(solver, self.t_span))
            self.budgets = ()
        field = self.field
        del self.method, self.field  # in this order again: optimizers know parameters by their numbers
        self.method, self.field, self.solver, self.latest = method, field, solver, None

    def move_statistics(self, times: list[float]) -> None:
        """Move per-time statistics to new evaluation times."""
        if times != evaluation_times(self.solver, self.t_span, budgets=self.budgets):
            for module in self.field.modules():
                set_times = getattr(module, "set_times", None)
                if set_times is not None:
                    set_times(times)

    def stats(self) -> SolverStats:
        """Return the cost of a solve with gradients, or of the latest one if steps are drawn or depend on the state.

        All zeros if there was no such solve yet.
        """
        if self.latest is None and has_fixed_cost(self.solver) and isinstance(self.method, Method):
            return fixed_cost(self.field, self.method, self.solver, self.solver.gradient)
        return self.latest or SolverStats(0, 0, 0)

    def __prepare_scriptable__(self) -> "ODEBlock":
        raise InputError(
            "TorchScript, which PyTorch has deprecated, cannot follow an ODE block: use torch.export, or script the "
            "plain ResNet that odebackbones.to_resnet(model) gives"
        )

    def extra_repr(self) -> str:
        """Method, steps and gradient mode."""
        steps = len(self.method.grid) if isinstance(self.method, Method) else "adaptive"
        return f"method={self.solver.method}, steps={steps}, gradient={self.solver.gradient}"


def method_for(
    field: nn.Module, solver: SolverConfig, t_span: tuple[float, float], *, name: str
) -> Method | AdaptiveMethod:
    """Build the solver's method, with any learned coefficients on the field's device and in its dtype."""
    method = build_method(solver, t_span, name=name)
    like = next(field.parameters(), None)
    if isinstance(method, LinearTwoStep) and like is not None:
        method.to(like.device, like.dtype)
    return method


def require_augment(augment: int) -> None:
    """Refuse a value that is not a number of channels."""
    if not is_whole(augment, least=0):
        raise InputError(f"augment={augment!r}: expected a whole number of channels, 0 or more")


def reject_random_steps(solver: SolverConfig, *, drawn: bool) -> None:
    """Refuse to draw the steps or the end time for a solver that is tied to fixed steps."""
    if drawn and (solver.method == "lm" or solver.grid is not None):
        raise InputError("budgets and steer change the steps, and solver 'lm' or grid=... belong to fixed ones")


def reject_drop_path_with_adaptive(field: nn.Module, solver: SolverConfig, *, name: str) -> None:
    """Refuse a solver that finds its steps by comparing evaluations, if drop path redraws the field at each."""
    if not has_fixed_cost(solver) and any(getattr(module, "drop_prob", 0.0) for module in field.modules()):
        raise InputError(
            f"{name_prefix(name)}{solver.method!r} finds its own steps, and drop path (drop_path_rate) draws the field "
            f"anew at every evaluation: use one or the other"
        )


def same_steps(a: SolverConfig, b: SolverConfig) -> bool:
    """Whether two solvers have the same evaluation times."""
    return (a.method, a.steps, a.nodes, a.grid, a.degree) == (b.method, b.steps, b.nodes, b.grid, b.degree)


def solver_stats(model: nn.Module) -> dict[str, SolverStats]:
    """Return the cost of every ODE block in ``model`` by module name; empty for a discrete network."""
    return {name: block.stats() for name, block in model.named_modules() if isinstance(block, ODEBlock)}


def set_gradient(model: nn.Module, gradient: str) -> None:
    """Set the gradient mode of every ODE block in ``model``.

    Raises:
        InputError: The model has no ODE block, or the solver of a block does not support this mode.
    """
    for block in ode_blocks(model):
        block.set_solver(replace(block.solver, gradient=gradient))


def set_checkpointing(model: nn.Module, enable: bool) -> None:
    """Switch the ODE blocks in ``model`` between ``gradient="checkpoint"`` and ``"backprop"``; other modes stay."""
    before, after = ("backprop", "checkpoint") if enable else ("checkpoint", "backprop")
    for block in model.modules():
        if isinstance(block, ODEBlock) and block.solver.gradient == before:
            set_gradient(block, after)


def ode_blocks(model: nn.Module) -> list[ODEBlock]:
    """Return the ODE blocks in ``model``.

    Raises:
        InputError: The model has no ODE blocks.
    """
    blocks = [module for module in model.modules() if isinstance(module, ODEBlock)]
    if not blocks:
        raise InputError(f"{type(model).__name__} has no ODE block whose solver could be changed")
    return blocks


@contextmanager
def take_budget(model: nn.Module, steps: int) -> Iterator[None]:
    """Let every ODE block in ``model`` take this one of its budgets in training, in place of a random one.

    Raises:
        InputError: The model has no ODE block, or the number is not among a block's budgets.
    """
    blocks = ode_blocks(model)
    for block in blocks:
        if steps not in block.budgets:
            raise InputError(f"{name_prefix(block.name)}{steps} steps are not among the budgets {block.budgets}")
    try:
        for block in blocks:
            block.budget = steps
        yield
    finally:
        for block in blocks:
            block.budget = None


def has_ode_blocks(model: nn.Module) -> bool:
    """Whether any module of ``model`` is an ODE block."""
    return any(isinstance(module, ODEBlock) for module in model.modules())


def find_ode_block(stage: Iterable[nn.Module]) -> ODEBlock | None:
    """Return the ODE block among the modules of a stage, or None."""
    return next((module for module in stage if isinstance(module, ODEBlock)), None)


def compile_fields(model: nn.Module, **kwargs: Any) -> None:
    """Compile the vector field of every ODE block in place; this package's fields once for all evaluation times.

    The solver's loop stays outside the graph, so that every gradient mode keeps its memory use. A custom field is
    compiled again for every evaluation time that it uses, because times are constants of a graph.

    Args:
        model: Any module with ODE blocks.
        **kwargs: Keyword arguments of :func:`torch.compile`.

    Raises:
        InputError: The model has no ODE block.
    """
    for block in ode_blocks(model):
        block.field.compile(**kwargs)
