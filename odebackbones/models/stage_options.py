"""The options of continuous stages, shared by the ODE models."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from inspect import signature
from itertools import count
from math import inf
from typing import Any

from torch import nn

from odebackbones.block import ODEBlock, require_augment
from odebackbones.checks import is_whole
from odebackbones.errors import InputError, unknown_name
from odebackbones.fields.basis import require_basis, require_reached
from odebackbones.fields.norms import norm_layer
from odebackbones.ode.solvers import SolverConfig, evaluation_times, min_nfe, with_steps

SOLVER_ARGS = frozenset(f.name for f in fields(SolverConfig)) - {"method", "steps", "nodes", "gradient"}
BLOCK_ARGS = frozenset({"augment", "budgets", "steer"})
FIELD_ARGS = frozenset({"time_channel"})
"""Keyword arguments that go to the solver, to the ODE blocks and to their fields."""

FACTORY_ARGS = frozenset({"device", "dtype"})
"""Keyword arguments that go to all layers."""


@dataclass(frozen=True)
class StageOptions:
    """Options of a model's stages: one value for all, or in the case of :data:`PER_STAGE` also one for each stage.

    In addition, a model takes the further fields of :class:`~odebackbones.ode.SolverConfig` (``checkpoints``,
    ``rtol``, ``max_nfe``, ...), ``augment``, ``budgets`` and ``steer`` of :class:`~odebackbones.ODEBlock`, and
    ``time_channel`` of the fields, each with one value for all stages.

    Attributes:
        stages: Number of stages.
        solver: A method of :data:`~odebackbones.ode.METHODS`, the same for all stages.
        steps: Number of steps of a solve; by default enough for the evaluations to match what the stage replaces
            (rounded up to whole steps). With 0 the flow is the identity, and has no weights: the control that shows
            whether what the flow replaces matters.
        nodes: Number of equal parts of the time span at whose ends norms keep statistics, for adaptive methods, which
            find their own steps.
        gradient: Gradient mode, see :class:`~odebackbones.ode.SolverConfig`; the same for all stages.
        norm: Norm of the whole network: ``"batch"`` (statistics per evaluation time), ``"group"``, ``"frozen"`` or,
            in models without other norms, ``"none"``.
        bases: Number of weights over time, K.
        norm_bases: Number of gains and offsets of the norms over time; by default ``bases``. Extra ones cost little.
        basis: Basis that combines the weights over time: ``"constant"`` (piecewise), ``"linear"``, ``"spline"`` or
            ``"chebyshev"``, see :mod:`odebackbones.fields.basis`.
        duration: Integration time, with a residual block as the unit: slopes are multiplied by it. With N, each of N
            Euler steps is as large as a block of the ResNet; with 1, all N together are.
        continuous: Whether the stage has an ODE block.
        zero_init_last: Whether vector fields start at zero (not with ``norm="frozen"``, where they would stay zero).
        solver_args: Further fields of the solver's configuration.
        block_args: Further arguments of the ODE blocks.
        field_args: Further arguments of the fields.
        factory_args: ``device`` and ``dtype`` of all layers, where they are given.

    Raises:
        InputError: The length of a sequence is not the number of stages, or a value is of the wrong kind.
    """

    stages: int
    solver: str = "midpoint"
    steps: int | Sequence[int] | None = None
    nodes: int | Sequence[int] | None = None
    gradient: str = "checkpoint"
    norm: str = "batch"
    bases: int | Sequence[int] = 1
    norm_bases: int | Sequence[int] | None = None
    basis: str = "constant"
    duration: float | Sequence[float] = 1.0
    continuous: bool | Sequence[bool] = True
    zero_init_last: bool = True
    solver_args: Mapping[str, Any] = field(default_factory=dict)
    block_args: Mapping[str, Any] = field(default_factory=dict)
    field_args: Mapping[str, Any] = field(default_factory=dict)
    factory_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in PER_STAGE.items():
            require_per_stage(name, getattr(self, name), kind, stages=self.stages)
        durations = [at_stage(self.duration, i) for i in range(self.stages)]
        if any(duration is None or not 0 < duration < inf for duration in durations):
            raise InputError(f"duration={self.duration!r}: expected finite times above 0")
        steps = [at_stage(self.steps, i) for i in range(self.stages)]
        if any(number is not None and number < 0 for number in steps):
            raise InputError(f"steps={self.steps!r}: expected whole numbers of at least 1, or 0 to leave the flows out")
        if 0 in steps:
            self.check_without_blocks()

    def check_without_blocks(self) -> None:
        """Refuse what blocks would refuse; where a stage makes no step, none is built."""
        SolverConfig(self.solver, gradient=self.gradient, **self.solver_args)
        require_augment(self.block_args.get("augment", 0))
        for i in range(self.stages):
            require_basis(self.basis, at_stage(self.bases, i))
        if budgets := self.block_args.get("budgets"):
            raise InputError(
                f"budgets={budgets}: with steps={self.steps!r}, not all stages have a flow; drop one of them"
            )


PER_STAGE = {"steps": int, "nodes": int, "bases": int, "norm_bases": int, "duration": float, "continuous": bool}
"""Options that may differ from stage to stage, and their kinds."""


def pop_options(arguments: dict[str, Any], *, stages: int) -> StageOptions:
    """Take the options out of a model's keyword arguments; ``device`` and ``dtype`` also stay there."""
    return StageOptions(
        stages,
        **{name: arguments.pop(name) for name in list(arguments) if name in OPTIONS},
        solver_args=pop_arguments(arguments, SOLVER_ARGS),
        block_args=pop_arguments(arguments, BLOCK_ARGS),
        field_args=pop_arguments(arguments, FIELD_ARGS),
        factory_args={name: arguments[name] for name in FACTORY_ARGS if arguments.get(name) is not None},
    )


def continuous_stages(options: StageOptions) -> list[bool]:
    """Return, for each stage, whether it has an ODE block."""
    return [at_stage(options.continuous, i) for i in range(options.stages)]


def flowing_stages(options: StageOptions) -> list[bool]:
    """Return, for each stage, whether its ODE block makes any steps; otherwise it is the identity, and left out."""
    continuous = continuous_stages(options)
    return [ode and at_stage(options.steps, i) != 0 for i, ode in enumerate(continuous)]


def makes_no_step(arguments: Mapping[str, Any]) -> bool:
    """Whether a model's arguments leave all of its flows, of which there is one at least, without a step."""
    steps, continuous = arguments.get("steps"), arguments.get("continuous", True)
    stages = max((len(value) for value in (steps, continuous) if isinstance(value, list | tuple)), default=1)
    flows = [at_stage(steps, i) for i in range(stages) if at_stage(continuous, i)]
    return bool(flows) and all(step == 0 for step in flows)


def build_block(
    options: StageOptions, i: int, make_field: Callable[..., Any], *, evaluations: int, name: str
) -> ODEBlock:
    """Build the ODE block of stage ``i``.

    Args:
        options: Options of all stages.
        i: Index of the stage.
        make_field: Function that builds the vector field from the keyword arguments ``norm``, ``extra`` (channels of
            the state beyond the stage's), ``bases``, ``basis`` and further arguments of the field.
        evaluations: Minimum number of evaluations that the block makes by default.
        name: Name of the block in error messages.
    """
    steps, nodes, bases = (at_stage(value, i) for value in (options.steps, options.nodes, options.bases))
    solver = SolverConfig(options.solver, steps, options.gradient, nodes=nodes, **options.solver_args)
    if steps is None and nodes is None and solver.grid is None:
        solver = with_steps(solver, default_steps(solver, evaluations))
    extra, budgets = options.block_args.get("augment", 0), options.block_args.get("budgets", ())
    require_augment(extra)
    times = evaluation_times(solver, budgets=budgets)
    require_reached(options.basis, bases, times)
    norm_bases = at_stage(options.norm_bases, i)
    norms = norm_layer(
        options.norm,
        nodes=times,
        bases=bases if norm_bases is None else norm_bases,
        basis=options.basis,
        **options.factory_args,
    )
    weights = {"bases": bases, "basis": options.basis, **options.field_args, **options.factory_args}
    vector_field = make_field(norm=norms, extra=extra, **weights)
    vector_field.set_duration(float(at_stage(options.duration, i)))
    if options.zero_init_last and options.norm != "frozen":
        vector_field.start_at_zero()
    return ODEBlock(vector_field, solver, name=name, **options.block_args)


GROUPS = {"solver_args", "block_args", "field_args", "factory_args"}
"""Attributes that hold further arguments."""

OPTIONS = frozenset(f.name for f in fields(StageOptions)) - GROUPS - {"stages"}
"""Names of the options."""

ODE_ARGUMENTS = OPTIONS | SOLVER_ARGS | BLOCK_ARGS | FIELD_ARGS | {"recompute"}
"""All arguments of our models that a plain network of the same class does not accept."""


def require_known(arguments: Mapping[str, Any], *models: type[nn.Module]) -> None:
    """Refuse arguments that are neither options nor parameters of the constructors of ``models``.

    Raises:
        InputError: An argument is unknown; the error names the first one.
    """
    known = {*OPTIONS, *SOLVER_ARGS, *BLOCK_ARGS, *FIELD_ARGS}.union(*(signature(model).parameters for model in models))
    for name in arguments:
        if name not in known:
            raise unknown_name("argument", name, known - {"kwargs"})


def require_channels(in_chans: Any) -> None:
    """Refuse images without channels, for which torch would make convolutions without weights.

    Raises:
        InputError: ``in_chans`` is not a whole number of at least 1.
    """
    if not is_whole(in_chans):
        raise InputError(f"in_chans={in_chans!r}: expected a whole number of at least 1, the channels of the images")


def require_norm(norm: str, norms: Collection[str]) -> None:
    """Refuse a norm that a model does not have."""
    if norm not in norms:
        raise unknown_name("norm", norm, norms)


def require_per_stage(name: str, value: Any, kind: type, *, stages: int) -> None:
    """Refuse a value that is neither of a kind, nor None, nor a sequence of such values, one for each stage."""
    values = value if isinstance(value, list | tuple) else (value,) * stages
    accepted = (int, float) if kind is float else kind
    if len(values) != stages or any(v is not None and not isinstance(v, accepted) for v in values):
        one = {int: "whole number", float: "number", bool: "true or false"}[kind]
        raise InputError(f"{name}={value!r}: expected one {one}, or a list of {stages}, one for each stage")


def at_stage(value: Any, i: int) -> Any:
    """Return the value of stage ``i``: the one for all stages, or an element of a sequence."""
    return value[i] if isinstance(value, list | tuple) else value


def pop_arguments(arguments: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Take the arguments of these names out of ``arguments``; lists, as read from YAML, become tuples."""
    taken = {name: arguments.pop(name) for name in list(arguments) if name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in taken.items()}


def default_steps(solver: SolverConfig, evaluations: int) -> int:
    """Return the fewest steps (nodes of an adaptive method) with at least as many ``evaluations``."""
    unbound = replace(solver, max_nfe=None)
    return next(n for n in count(1) if min_nfe(with_steps(unbound, n)) >= evaluations)
