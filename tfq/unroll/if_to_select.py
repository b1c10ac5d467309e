"""Computes both branches of an IF on data, and selects.

    IF(c, x)  ->  SELECT_V2(c, then(x), else(x))

A branch is a graph of its own, which neither calibration nor the integer kernels of LiteRT see
into; written out, its tensors are ordinary ones. Branches that change state, call other graphs or
give shapes that are not static and alike stay as they are. Cost: both branches are computed.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.effects import is_pure
from tfq.graph.model import Graph, Model, Op, Tensor, options_type
from tfq.unroll.loops import Unrolled, drop_unused_graphs
from tfq.unroll.trace import Names

NAME = "if_to_select"


def apply(model: Model) -> Unrolled:
    """Rewrites every IF of the main graph that can be, in place; says why the others cannot."""
    graph = model.main
    names = Names(t.name for t in graph.tensors())
    done: list[str] = []
    left: list[tuple[str, str]] = []
    ops: list[Op] = []
    for op in graph.ops:
        if op.name != "IF":
            ops.append(op)
            continue
        where = op.outputs[0].name
        branches = [
            model.graphs[op.options.thenSubgraphIndex],
            model.graphs[op.options.elseSubgraphIndex],
        ]
        obstacle = _obstacle(op, branches)
        if obstacle:
            left.append((where, obstacle))
            ops.append(op)
            continue
        results = [
            _inline(branch, op.inputs[1:], ops, names, f"{where}/{suffix}")
            for branch, suffix in zip(branches, ("then", "else"), strict=True)
        ]
        for out, yes, no in zip(op.outputs, *results, strict=True):
            out.shape, out.signature = yes.shape, None
            ops.append(
                Op("SELECT_V2", [op.input(0), yes, no], [out], options_type("SelectV2Options")())
            )
        done.append(where)
    graph.ops = ops
    if done:
        drop_unused_graphs(model)
    return Unrolled(tuple(done), tuple(left))


def _obstacle(op: Op, branches: list[Graph]) -> str:
    """Why the branches cannot be written out, or nothing."""
    if op.input(0).dtype != "bool" or op.input(0).size != 1:
        return "its condition is not one bool"
    for branch in branches:
        impure = [o.label for o in branch.ops if not is_pure(o)]
        if impure:
            return f"a branch has {', '.join(sorted(set(impure)))}, which cannot be computed twice"
        if any(t.signature is not None for t in branch.tensors()):
            return "a branch has shapes that are known only at run time"
    pairs = zip(branches[0].outputs, branches[1].outputs, strict=True)
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        return "its branches give different shapes or types"
    return ""


def _inline(
    branch: Graph, arguments: list[Tensor | None], ops: list[Op], names: Names, prefix: str
) -> list[Tensor]:
    """Appends a copy of the branch's ops; returns what its outputs became."""
    env: dict[Tensor, Tensor | None] = dict(zip(branch.inputs, arguments, strict=True))

    def at(t: Tensor | None) -> Tensor | None:
        return None if t is None else env.get(t, t)

    for op in branch.ops:
        inputs = [at(t) for t in op.inputs]
        outputs = []
        for t in op.outputs:
            fresh = dataclasses.replace(t, name=names.fresh(f"{prefix}/{t.name}"))
            env[t] = fresh
            outputs.append(fresh)
        ops.append(dataclasses.replace(op, inputs=inputs, outputs=outputs))
    found = [at(t) for t in branch.outputs]
    return [t for t in found if t is not None]
