"""The options of continuous stages, which all the models take."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from inspect import signature
from itertools import count
from math import inf
from typing import Any, Self

from torch import nn

from odebackbones.bases import require_reached
from odebackbones.block import ODEBlock, require_augment
from odebackbones.errors import InputError, unknown_name
from odebackbones.ode.solvers import SolverConfig, evaluation_times, min_nfe, with_steps
from odebackbones.time_norms import norm_layer

SOLVER_ARGS = frozenset(f.name for f in fields(SolverConfig)) - {"method", "steps", "nodes", "gradient"}
BLOCK_ARGS = frozenset({"augment", "budgets", "steer"})
FIELD_ARGS = frozenset({"time_channel"})
"""Keyword arguments that go to the solver, to the ODE blocks and to their fields."""

FACTORY_ARGS = frozenset({"device", "dtype"})
"""Keyword arguments that go to all layers."""


@dataclass
class StageOptions:
    """How the stages of a model flow: each option is one value for all, or a sequence with one for each.

    Beside these, a model takes the further fields of :class:`~odebackbones.ode.SolverConfig` (``checkpoints``,
    ``rtol``, ``max_nfe``, ...), ``augment``, ``budgets`` and ``steer`` of :class:`~odebackbones.ODEBlock`, and
    ``time_channel`` of the fields, for all stages alike.

    Attributes:
        stages: How many there are.
        solver: A method of :data:`~odebackbones.ode.METHODS`, the same for all stages.
        steps: Steps of a solve; by default as many as bring the evaluations to what the stage replaces (rounded up to
            whole steps).
        nodes: Of adaptive methods, which find their own steps: in how many parts norms keep statistics per time.
        gradient: Gradient mode, see :class:`~odebackbones.ode.SolverConfig`; the same for all stages.
        norm: ``"batch"`` (statistics per evaluation time), ``"group"``, ``"frozen"`` or, where there is no other,
            ``"none"``, in the whole network.
        bases: Weights over time, K.
        norm_bases: Gains and offsets of the norms over time; by default as many as weights. More cost little.
        basis: How the weight at a time is made of them: ``"constant"`` (in pieces), ``"linear"``, ``"spline"`` or
            ``"chebyshev"``, see :mod:`odebackbones.bases`.
        duration: How long the flow lasts, a residual block being one unit of time: slopes are multiplied by it. With N,
            each of N Euler steps is as large as a block of the ResNet; with 1, all together are.
        continuous: Whether the stage has an ODE block.
        zero_init_last: Start from vector fields that are zero (frozen ones are not: they would stay zero).
        solver_args: Further fields of the solver's configuration.
        block_args: Those of the ODE blocks.
        field_args: Those of the fields.
        factory_args: ``device`` and ``dtype`` of all layers, where they are given.
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

    def __post_init__(self) -> None:
        self.solver_args: dict[str, Any] = {}
        self.block_args: dict[str, Any] = {}
        self.field_args: dict[str, Any] = {}
        self.factory_args: dict[str, Any] = {}
        self.steps_of = per_stage("steps", self.steps, int, stages=self.stages)
        self.nodes_of = per_stage("nodes", self.nodes, int, stages=self.stages)
        self.bases_of = per_stage("bases", self.bases, int, stages=self.stages)
        self.norm_bases_of = per_stage("norm_bases", self.norm_bases, int, stages=self.stages)
        self.duration_of = per_stage("duration", self.duration, float, stages=self.stages)
        if any(duration is None or not 0 < duration < inf for duration in self.duration_of):
            raise InputError(f"duration={self.duration!r}: expected finite times above 0")
        self.is_continuous = per_stage("continuous", self.continuous, bool, stages=self.stages)

    @classmethod
    def take(cls, arguments: dict[str, Any], *, stages: int) -> Self:
        """Take these options out of a model's keyword arguments; device and dtype stay among them, too."""
        options = cls(stages, **{name: arguments.pop(name) for name in list(arguments) if name in OPTIONS})
        options.solver_args = take(arguments, SOLVER_ARGS)
        options.block_args = take(arguments, BLOCK_ARGS)
        options.field_args = take(arguments, FIELD_ARGS)
        options.factory_args = {name: arguments[name] for name in FACTORY_ARGS if arguments.get(name) is not None}
        return options

    def block(self, i: int, make_field: Callable[..., Any], *, evaluations: int, name: str) -> ODEBlock:
        """The ODE block of stage ``i``.

        Args:
            i: Number of the stage.
            make_field: From the keyword arguments ``norm``, ``extra`` (channels of the state beyond the stage's),
                ``bases``, ``basis`` and those of the field to the vector field.
            evaluations: What it makes by default, at least.
            name: What errors call it.
        """
        steps, nodes = self.steps_of[i], self.nodes_of[i]
        config = SolverConfig(self.solver, steps, self.gradient, nodes=nodes, **self.solver_args)
        if steps is None and nodes is None and config.grid is None:
            config = with_steps(config, default_steps(config, evaluations))
        extra, budgets = self.block_args.get("augment", 0), self.block_args.get("budgets", ())
        require_augment(extra)
        weights = {"bases": self.bases_of[i], "basis": self.basis}
        norm_bases = self.bases_of[i] if self.norm_bases_of[i] is None else self.norm_bases_of[i]
        times = evaluation_times(config, budgets=budgets)
        require_reached(self.basis, self.bases_of[i], times)
        norms = norm_layer(self.norm, nodes=times, bases=norm_bases, basis=self.basis, **self.factory_args)
        field = make_field(norm=norms, extra=extra, **weights, **self.field_args, **self.factory_args)
        field.set_duration(float(self.duration_of[i]))
        if self.zero_init_last and self.norm != "frozen":
            field.start_at_zero()
        return ODEBlock(field, config, name=name, **self.block_args)


OPTIONS = frozenset(f.name for f in fields(StageOptions)) - {"stages"}
"""Names of the options."""

ODE_ARGUMENTS = OPTIONS | SOLVER_ARGS | BLOCK_ARGS | FIELD_ARGS | {"recompute"}
"""All arguments of our models that a plain network of the same class does not know."""


def require_known(arguments: Mapping[str, Any], *models: type[nn.Module]) -> None:
    """Refuse arguments that neither the options nor the constructors of ``models`` know.

    Raises:
        InputError: Names the first one.
    """
    known = {*OPTIONS, *SOLVER_ARGS, *BLOCK_ARGS, *FIELD_ARGS}.union(*(signature(model).parameters for model in models))
    for name in arguments:
        if name not in known:
            raise unknown_name("argument", name, known - {"kwargs"})


def require_channels(in_chans: Any) -> None:
    """Refuse images without channels, of which torch would make convolutions without weights.

    Raises:
        InputError: It is no whole number of at least 1.
    """
    if isinstance(in_chans, bool) or not isinstance(in_chans, int) or in_chans < 1:
        raise InputError(f"in_chans={in_chans!r}: expected a whole number of at least 1, the channels of the images")


def require_norm(norm: str, norms: Collection[str]) -> None:
    """Refuse a norm that a model does not have."""
    if norm not in norms:
        raise unknown_name("norm", norm, norms)


def per_stage(name: str, value: Any, kind: type, *, stages: int) -> tuple[Any, ...]:
    """One value a stage, from one for all or from a sequence; None is passed on.

    Raises:
        InputError: It is neither, or holds something else than ``kind``.
    """
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * stages
    accepted = (int, float) if kind is float else kind
    if len(values) != stages or any(v is not None and not isinstance(v, accepted) for v in values):
        raise InputError(f"{name}={value!r}: expected one {kind.__name__}, or {stages}, one for each stage")
    return values


def take(arguments: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Take the arguments of these names out of ``arguments``; lists, as YAML has them, become tuples."""
    taken = {name: arguments.pop(name) for name in list(arguments) if name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in taken.items()}


def default_steps(solver: SolverConfig, evaluations: int) -> int:
    """The fewest steps (of an adaptive method, nodes) that take ``evaluations`` at least."""
    unbound = replace(solver, max_nfe=None)
    return next(n for n in count(1) if min_nfe(with_steps(unbound, n)) >= evaluations)
