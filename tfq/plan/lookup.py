"""Which chains of elementwise ops become one lookup table.

An int8 tensor has 256 values, so any y = f(x) that works element by element is a table of 256
integers, exact to half a step however many float ops f is written with: softplus, mish, FLOOR,
x ** 2.2. This both covers ops without an integer kernel and spares the rounding of every
intermediate result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.optable import op_names, spec
from tfq.graph.quantizable import obstacle

# Rounding in the middle of a chain costs most around steep functions; and a threshold that is
# rounded to the grid may fall to the other side of a value.
_DELICATE = op_names(lambda row: row.steep or row.compares)

# Constants that stand for infinity (attention masks): no integer kernel can scale by them.
_HUGE = 1e4

# An integer kernel further than this from the truth, in LSB, is as good as none.
_COARSE = 16

# A chain this long is better as one table than as a rounding after every op.
_LONG = 3


@dataclasses.dataclass(frozen=True)
class Chain:
    """An elementwise function of one tensor.

    Attributes:
      root: the tensor it is a function of.
      end: the op that computes the result.
      ops: all ops of the chain, in order, `end` last.
    """

    root: Tensor
    end: Op
    ops: tuple[Op, ...]


def find_chains(graph: Graph, activations: str, barriers: set[Tensor]) -> list[Chain]:
    """The chains worth a table.

    Args:
      graph: the float graph.
      activations: dtype of the scheme; a chain of ops that all have good kernels for it stays.
      barriers: tensors that must exist with a grid of their own (training chose one); a chain
        ends there.
    """
    roots: dict[Tensor, Tensor] = {}
    producers: dict[Tensor, Op] = {}
    for op in graph.ops:
        root = _root(op, roots)
        if root is not None:
            out = op.outputs[0]
            producers[out] = op
            roots[out] = root
            if out in barriers:
                # The next op starts from this tensor.
                del roots[out]
    chains = []
    consumers = graph.consumers()
    for op in graph.ops:
        if not op.outputs or op.outputs[0] not in producers:
            continue
        out = op.outputs[0]
        root = roots.get(out) or _root(op, roots)
        if root is None:
            continue
        users = consumers.get(out, [])
        needed = out in graph.outputs or any(
            _root(u, roots) is not root or u.outputs[0] not in producers for u, _ in users
        )
        # A bool has a kernel of its own; what is complex has none that reads it.
        if not needed or out.dtype == "bool" or out.dtype.startswith("complex"):
            continue
        chain = _collect(root, op, producers)
        if _worth_it(chain, activations):
            chains.append(chain)
    return chains


def _root(op: Op, roots: dict[Tensor, Tensor]) -> Tensor | None:
    """The single tensor that `op`'s output is an elementwise function of, or None."""
    s = spec(op.name)
    if s is None or len(op.outputs) != 1 or not s.elementwise:
        return None
    out = op.outputs[0]
    found: set[Tensor] = set()
    for t in op.inputs:
        if t is None:
            continue
        if t.is_const:
            if t.size != 1:
                return None
            continue
        # Booleans and integers only count where the chain itself computed them.
        if t.dtype != "float32" and t not in roots:
            return None
        found.add(roots.get(t, t))
        if t.shape != out.shape:
            return None
    if len(found) != 1:
        return None
    root = found.pop()
    return root if root.shape == out.shape else None


def _collect(root: Tensor, end: Op, producers: dict[Tensor, Op]) -> Chain:
    ops: list[Op] = []
    seen: set[Op] = set()

    def visit(op: Op) -> None:
        stack = [(op, iter(op.inputs))]
        seen.add(op)
        while stack:
            current, rest = stack[-1]
            for t in rest:
                if t is None or t.is_const or t is root:
                    continue
                producer = producers[t]
                if producer not in seen:
                    seen.add(producer)
                    stack.append((producer, iter(producer.inputs)))
                    break
            else:
                ops.append(current)
                stack.pop()

    visit(end)
    return Chain(root, end, tuple(ops))


def _worth_it(chain: Chain, activations: str) -> bool:
    if any(not _has_kernel(op, activations) or is_mask(op) for op in chain.ops):
        return True
    if activations != "int8":
        # A table of 65,536 entries costs 128 KB: only where nothing else works.
        return False
    steep = any(op.name in _DELICATE for op in chain.ops)
    return len(chain.ops) >= _LONG or (steep and len(chain.ops) > 1)


def is_mask(op: Op) -> bool:
    """Whether the op makes a mask for a softmax: multiplies by what stands for infinity."""
    return op.name == "MUL" and any(
        t is not None and t.is_const and t.size == 1 and abs(float(t.values().item())) >= _HUGE
        for t in op.inputs
    )


def _has_kernel(op: Op, activations: str) -> bool:
    s = spec(op.name)
    return s is not None and not obstacle(op, activations) and s.lsb.get(activations, 1) <= _COARSE


def never_negative(t: Tensor, producers: Mapping[Tensor, Op]) -> bool:
    """Whether `t` is a mean or sum of squares, whatever the samples were."""
    for _ in range(4):
        op = producers.get(t)
        if op is None:
            return False
        if op.name in ("SQUARED_DIFFERENCE", "ABS", "RELU"):
            return True
        if op.name == "MUL":
            return op.inputs[0] is op.inputs[1]
        if op.name not in ("MEAN", "SUM", "RESHAPE", "AVERAGE_POOL_2D"):
            return False
        t = op.input(0)
    return False
