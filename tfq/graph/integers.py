"""Is a model fully integer? Every tensor of every subgraph has to be."""

from __future__ import annotations

from typing import NamedTuple

from tfq.graph.model import Model, Op, Tensor

# A resource is a handle of a variable; the variable's values are what READ_VARIABLE gives.
_INTEGERS = frozenset(
    ["bool", "resource"]
    + [f"int{bits}" for bits in (2, 4, 8, 16, 32, 64)]
    + [f"uint{bits}" for bits in (4, 8, 16, 32, 64)]
)


class FloatTensor(NamedTuple):
    """One tensor that is no integer.

    Attributes:
      graph: the name of its subgraph.
      tensor: the tensor.
      op: what computes it, or None for a constant, an input or a variable.
    """

    graph: str
    tensor: Tensor
    op: Op | None


def is_integer(tensor: Tensor) -> bool:
    """Whether the tensor's type is an integer or bool (strings and variants are not)."""
    return tensor.dtype in _INTEGERS


def float_tensors(model: Model) -> list[FloatTensor]:
    """Every tensor of every subgraph that is no integer; empty means fully integer.

    Empty intermediates of fused recurrent ops do not count: they are the kernel's place holders for
    a layer normalisation that the op does not have, and never hold a value.
    """
    found = []
    for graph in model.graphs:
        producers = {t: op for op in graph.ops for t in [*op.outputs, *op.intermediates]}
        unused = {t for op in graph.ops for t in op.intermediates if t.shape == (0,)}
        found += [
            FloatTensor(graph.name, t, producers.get(t))
            for t in graph.tensors()
            if not is_integer(t) and t not in unused
        ]
    return found
