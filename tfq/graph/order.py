"""Ops in the order in which they can be computed.

LiteRT's own kernels run ops as the file has them: one that stands before what it reads computes
from the run before, or from memory that nobody wrote. XNNPACK orders what it takes over, so that
converters which write such files never noticed. Which tensor comes from which op leaves one
meaning only.
"""

from __future__ import annotations

from tfq.graph.model import Graph, Op, Tensor


def sort_ops(graph: Graph) -> bool:
    """Sorts the ops of a graph in place so that each comes after what it reads.

    Ops that already do keep their order. A graph with a cycle, or with a tensor that nothing
    computes, stays as it is.

    Returns:
      whether anything was moved.
    """
    producers = graph.producers()
    done: set[Op] = set()
    ordered: list[Op] = []
    for root in graph.ops:
        waiting = [root]
        while waiting:
            op = waiting[-1]
            needed = _missing(op, producers, done)
            if op in done or needed is None:
                waiting.pop()
                if op not in done:
                    done.add(op)
                    ordered.append(op)
            elif needed in waiting:
                return False
            else:
                waiting.append(needed)
    moved = ordered != graph.ops
    graph.ops[:] = ordered
    return moved


def _missing(op: Op, producers: dict[Tensor, Op], done: set[Op]) -> Op | None:
    """An op that computes what `op` reads and was not run yet."""
    for t in op.inputs:
        before = None if t is None or t.is_variable else producers.get(t)
        if before is not None and before is not op and before not in done:
            return before
    return None
