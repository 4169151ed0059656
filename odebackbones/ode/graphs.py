"""Pieces of a solve that have graphs of their own, and the ends of such graphs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map


class Graph(NamedTuple):
    """Tensors computed from others, joined by a graph."""

    start: list[Tensor]
    """Leaves from which the graph starts."""
    ends: list[Tensor]
    first: int
    """Autograd's sequence number of the first node that may belong to the graph."""

    def has_made(self, tensor: Tensor) -> bool:
        """Whether the tensor was computed in this graph, or in a later one."""
        return tensor.grad_fn is not None and number_of(tensor.grad_fn) >= self.first


def graph_of(compute: Callable[[list[Tensor]], list[Tensor]], inputs: Sequence[Tensor]) -> Graph:
    """Compute with a graph that starts at the inputs."""
    start = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    with torch.enable_grad():
        first = number_of(torch.zeros((), requires_grad=True).neg().grad_fn)
        return Graph(start, compute(start), first)


def number_of(node: Any) -> int:
    """The sequence number that autograd gives a node."""
    return node._sequence_nr()


Edge = tuple[Node, int]
"""A node of a graph, and the index of one of its outputs (in the forward pass)."""


def open_ends(graph: Graph, known: Sequence[Tensor]) -> tuple[list[Tensor], list[Edge]]:
    """Find where a graph ends, except at its start and at ``known``: leaves, and results computed before it."""
    leaves = {id(tensor) for tensor in (*graph.start, *known)}
    edges = {(tensor.grad_fn, tensor.output_nr) for tensor in known if tensor.grad_fn is not None}
    waiting: list[Any] = [(end.grad_fn, end.output_nr) for end in graph.ends]
    seen, found, outside = set(), {}, {}
    while waiting:
        node, output = waiting.pop()
        if node is None or node in seen or (node, output) in edges:
            continue
        if type(node).__name__ == "AccumulateGrad":
            if id(node.variable) not in leaves:
                found[id(node.variable)] = node.variable
        elif number_of(node) < graph.first:
            outside[node, output] = None
        else:
            seen.add(node)
            waiting += node.next_functions
    return list(found.values()), list(outside)


class Arguments(TorchFunctionMode):
    """A mode that notes the arguments of torch's functions that were computed at one of the given edges."""

    def __init__(self, edges: Sequence[Edge]) -> None:
        super().__init__()
        self.tensors: dict[Edge, Tensor] = {}
        self.edges = set(edges)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the arguments, and return the function's result."""
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and (edge := (value.grad_fn, value.output_nr)) in self.edges:
                self.tensors[edge] = value  # pyright: ignore[reportArgumentType]
        return func(*args, **(kwargs or {}))


class Replacing(TorchFunctionMode):
    """A mode that replaces tensors among the arguments of torch's functions.

    Args:
        pairs: Tensors, leaves or not, and their replacements.
    """

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.of_leaves = {id(old): new for old, new in pairs if old.is_leaf}
        self.of_edges = {(old.grad_fn, old.output_nr): new for old, new in pairs if not old.is_leaf}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the function's result with the replacements."""
        args, kwargs = tree_map(self.in_place_of, (args, kwargs or {}))
        return func(*args, **kwargs)

    def in_place_of(self, value: Any) -> Any:
        """Return the replacement of a tensor, or the value itself."""
        if not isinstance(value, Tensor):
            return value
        if value.grad_fn is None:
            return self.of_leaves.get(id(value), value)
        return self.of_edges.get((value.grad_fn, value.output_nr), value)


def tensors_at(edges: Sequence[Edge], compute: Callable[[], Any]) -> list[Tensor | None]:
    """Find the tensors at these edges by computing again; None for tensors that torch's functions do not receive."""
    if not edges:
        return []
    with torch.enable_grad(), Arguments(edges) as arguments:
        compute()
    return [arguments.tensors.get(edge) for edge in edges]
