"""Turns unrolled steps into fewer and larger ops.

Six rewrites, in this order, on a graph that unrolling has just written:

1. add(x, reshape(y)) where the reshape only dropped leading ones  ->  add(x, y)
2. fully_connected(x, W) [+ h] + b with a constant b               ->  the op's own bias
3. fully_connected(gather(s, t), W) for the steps t                ->  one fully_connected of all
   rows of s, and a SPLIT. One larger product instead of T small ones, and one range.
4. gather(s, t) for the steps t                                    ->  one UNPACK of s
5. concat(reshape(h_t) with a leading one added)                   ->  concat or pack of the h_t
6. reverse(reshape(concat(h_t)))  along the steps                  ->  concat in reverse order

All are exact but for the order of two float additions in 2.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfq.graph.model import Graph, Op, Tensor, options_type
from tfq.unroll.trace import Names, int32


def tidy(graph: Graph, names: Names) -> None:
    """Applies the rewrites to `graph` in place and drops what nothing reads."""
    _drop_squeezes(graph)
    _absorb_biases(graph)
    graph.prune()
    _project_all_steps(graph, names)
    _unpack_rows(graph, names)
    _concatenate_plainly(graph, names)
    reverse_of_concatenation(graph, names)
    graph.prune()


def _squeezed(t: Tensor, makers: dict[Tensor, Op]) -> Tensor:
    """What `t` was before a reshape that only dropped leading dimensions of one."""
    maker = makers.get(t)
    if maker is None or maker.name != "RESHAPE":
        return t
    source = maker.input(0)
    extra = len(source.shape) - len(t.shape)
    if extra <= 0 or source.signature or t.signature or source.shape[extra:] != t.shape:
        return t
    return source if all(d == 1 for d in source.shape[:extra]) else t


def _drop_squeezes(graph: Graph) -> None:
    makers = graph.producers()
    for op in graph.ops:
        if op.name not in ("ADD", "SUB", "MUL") or len(op.inputs) != 2:
            continue
        a, b = op.input(0), op.input(1)
        shape = op.outputs[0].shape
        inputs = [_squeezed(a, makers), _squeezed(b, makers)]
        if all(t.signature is None for t in inputs) and (
            np.broadcast_shapes(inputs[0].shape, inputs[1].shape) == shape
        ):
            op.inputs = list(inputs)


def _activation(op: Op) -> int:
    return int(getattr(op.options, "fusedActivationFunction", 0) or 0)


def _absorb_biases(graph: Graph) -> None:
    """Moves a constant added to a matrix product, or to a sum of two, into the product."""
    makers = graph.producers()
    uses = graph.consumers()
    outputs = set(graph.outputs)
    absorbed: set[Op] = set()

    def only_here(t: Tensor) -> bool:
        return len(uses.get(t, ())) == 1 and t not in outputs

    def takes_bias(t: Tensor, bias: Tensor) -> Op | None:
        op = makers.get(t)
        if op is None or op.name != "FULLY_CONNECTED" or not only_here(t) or _activation(op):
            return None
        if len(op.inputs) > 2 and op.inputs[2] is not None:
            return None
        return op if bias.size == op.input(1).shape[0] == t.shape[-1] else None

    for op in graph.ops:
        if op.name != "ADD":
            continue
        for value, bias in (op.inputs, op.inputs[::-1]):
            if value is None or bias is None or bias.data is None or not bias.is_float:
                continue
            if bias.shape != value.shape[-1:] or value.shape != op.outputs[0].shape:
                continue
            target = takes_bias(value, bias)
            inner = makers.get(value)
            if target is None and inner is not None and inner.name == "ADD" and only_here(value):
                if not _activation(inner):
                    # The projection of the input is the better place: one op for all steps.
                    products = [takes_bias(t, bias) for t in inner.inputs if t is not None]
                    found = [p for p in products if p is not None]
                    found.sort(key=lambda p: not _is_row(p.input(0), makers))
                    target = found[0] if found else None
            if target is None:
                continue
            target.inputs = [*target.inputs[:2], bias]
            _take_over(op, makers[value], value)
            makers[op.outputs[0]] = makers[value]
            absorbed.add(op)
            break
    graph.ops = [op for op in graph.ops if op not in absorbed]


def _take_over(op: Op, maker: Op, value: Tensor) -> None:
    """Makes `maker` compute the output of `op`, its activation included, instead of `value`."""
    maker.outputs = [op.outputs[0] if t is value else t for t in maker.outputs]
    if _activation(op):
        # Options are shared between the steps' copies of an op.
        maker.options = copy.copy(maker.options)
        maker.options.fusedActivationFunction = op.options.fusedActivationFunction


def _is_row(t: Tensor, makers: dict[Tensor, Op]) -> bool:
    return _row_of(t, makers) is not None


def _row_of(t: Tensor, makers: dict[Tensor, Op]) -> tuple[Tensor, int] | None:
    """(s, i) if `t` is s[i] along axis 0."""
    op = makers.get(t)
    if op is None or op.name != "GATHER" or int(op.options.axis) != 0 or op.options.batchDims:
        return None
    source, index = op.input(0), op.input(1)
    if index.data is None or index.shape != () or source.signature is not None:
        return None
    row = int(index.values())
    return (source, row) if 0 <= row < source.shape[0] else None


def _project_all_steps(graph: Graph, names: Names) -> None:
    makers = graph.producers()
    outputs = set(graph.outputs)
    groups: dict[tuple, list[tuple[Op, int]]] = defaultdict(list)
    for op in graph.ops:
        # A graph output stays the tensor it is, even where two products are the same.
        if op.name != "FULLY_CONNECTED" or op.input(1).data is None or op.outputs[0] in outputs:
            continue
        row = _row_of(op.input(0), makers)
        if row is None or len(row[0].shape) != 3:
            continue
        bias = op.inputs[2] if len(op.inputs) > 2 else None
        options = tuple(sorted((k, str(v)) for k, v in vars(op.options).items()))
        groups[row[0], op.input(1), bias, op.version, options].append((op, row[1]))
    before: dict[Op, list[Op]] = {}
    same: dict[Tensor, Tensor] = {}
    for (source, *_), members in groups.items():
        steps, batch, _ = source.shape
        units = members[0][0].outputs[0].shape[-1]
        whole = all(op.outputs[0].shape == (batch, units) for op, _ in members)
        if whole and len(members) > 1 and 2 * len({row for _, row in members}) >= steps:
            parts = _parts(members, same)
            before[members[0][0]] = _projection(members[0][0], source, parts, names, makers)
    _insert(graph, before, {op for op in _members(groups) if op.outputs[0] in same}, same)


def _members(groups: Mapping[Any, list[tuple[Op, int]]]) -> list[Op]:
    return [op for members in groups.values() for op, _ in members]


def _parts(members: list[tuple[Op, int]], same: dict[Tensor, Tensor]) -> dict[int, Tensor]:
    """One tensor per row: the first member's output. Fills `same` for every member's output."""
    parts: dict[int, Tensor] = {}
    for op, row in members:
        same[op.outputs[0]] = parts.setdefault(row, op.outputs[0])
    return parts


def _complete(
    parts: dict[int, Tensor], steps: int, shape: tuple[int, ...], dtype: str, names: Names
) -> list[Tensor]:
    name = next(iter(parts.values())).name
    return [
        parts[i] if i in parts else Tensor(names.fresh(f"{name}/unread_{i}"), shape, dtype)
        for i in range(steps)
    ]


def _projection(
    op: Op, source: Tensor, parts: dict[int, Tensor], names: Names, makers: dict[Tensor, Op]
) -> list[Op]:
    """The product of all rows of `source` as one op, and its split into steps."""
    steps, batch, depth = source.shape
    out = op.outputs[0]
    units = out.shape[-1]
    maker = makers.get(source)
    origin = maker.input(0) if maker is not None and maker.name == "RESHAPE" else source
    rows = Tensor(names.fresh(out.name + "/all_steps_in"), (steps * batch, depth), source.dtype)
    product = Tensor(names.fresh(out.name + "/all_steps"), (steps * batch, units), out.dtype)
    outputs = _complete(parts, steps, (batch, units), out.dtype, names)
    split = Op("SPLIT", [int32(0, names.fresh(rows.name + "/axis")), product], outputs)
    split.options = options_type("SplitOptions")()
    split.options.numSplits = steps
    flat = origin if origin.shape == rows.shape else rows
    dense = Op("FULLY_CONNECTED", [flat, *op.inputs[1:]], [product], op.options, op.version)
    return [dense, split] if flat is origin else [reshape(origin, rows, names), dense, split]


def reshape(source: Tensor, out: Tensor, names: Names) -> Op:
    """The op that gives `source` the shape of `out`."""
    options = options_type("ReshapeOptions")()
    options.newShape = list(out.shape)
    return Op(
        "RESHAPE", [source, int32(out.shape, names.fresh(out.name + "/shape"))], [out], options
    )


def _insert(
    graph: Graph, before: dict[Op, list[Op]], dropped: set[Op], same: dict[Tensor, Tensor]
) -> None:
    ops: list[Op] = []
    for op in graph.ops:
        ops += before.get(op, ())
        if op not in dropped:
            op.inputs = [None if t is None else same.get(t, t) for t in op.inputs]
            ops.append(op)
    graph.ops = ops


def _unpack_rows(graph: Graph, names: Names) -> None:
    makers = graph.producers()
    live = {t for op in graph.ops for t in op.inputs if t is not None} - set(graph.outputs)
    groups: dict[Tensor, list[tuple[Op, int]]] = defaultdict(list)
    for op in graph.ops:
        row = _row_of(op.outputs[0], makers) if op.outputs else None
        if row is not None and op.outputs[0] in live:
            groups[row[0]].append((op, row[1]))
    before: dict[Op, list[Op]] = {}
    same: dict[Tensor, Tensor] = {}
    for source, members in groups.items():
        steps = source.shape[0]
        if len(members) < 2 or 2 * len({row for _, row in members}) < steps:
            continue
        parts = _parts(members, same)
        options = options_type("UnpackOptions")()
        options.num, options.axis = steps, 0
        outputs = _complete(parts, steps, source.shape[1:], source.dtype, names)
        before[members[0][0]] = [Op("UNPACK", [source], outputs, options)]
    _insert(graph, before, {op for op in _members(groups) if op.outputs[0] in same}, same)


def _concatenate_plainly(graph: Graph, names: Names) -> None:
    makers = graph.producers()
    ops: list[Op] = []
    for op in graph.ops:
        steps = [_without_leading_one(t, makers) for t in op.inputs if t is not None]
        present = [t for t in steps if t is not None]
        if (
            op.name != "CONCATENATION"
            or int(op.options.axis) != 0
            or _activation(op)
            or len(present) < max(2, len(op.inputs))
            or len({t.shape for t in present}) > 1
        ):
            ops.append(op)
            continue
        out = op.outputs[0]
        if present[0].shape[0] == 1:
            shape = (len(present), *present[0].shape[1:])
            rows = Tensor(names.fresh(out.name + "/rows"), shape, out.dtype)
            ops += [
                Op("CONCATENATION", list(present), [rows], op.options, op.version),
                reshape(rows, out, names),
            ]
        else:
            options = options_type("PackOptions")()
            options.axis, options.valuesCount = 0, len(present)
            ops.append(Op("PACK", list(present), [out], options))
    graph.ops = ops
    _join_reshapes(graph)


def _without_leading_one(t: Tensor, makers: dict[Tensor, Op]) -> Tensor | None:
    """s if `t` is s with a dimension of one put in front."""
    maker = makers.get(t)
    if maker is None or maker.name != "RESHAPE":
        return None
    source = maker.input(0)
    same = t.shape == (1, *source.shape) and source.signature is None and len(source.shape) > 0
    return source if same else None


def _join_reshapes(graph: Graph) -> None:
    """A reshape of a reshape reads the origin."""
    makers = graph.producers()
    for op in graph.ops:
        if op.name == "RESHAPE" and op.outputs[0].signature is None:
            maker = makers.get(op.input(0))
            if maker is not None and maker.name == "RESHAPE":
                op.inputs[0] = maker.input(0)


def reverse_of_concatenation(graph: Graph, names: Names) -> None:
    """Concatenates steps in reverse order instead of reversing what was concatenated."""
    makers = graph.producers()
    ops: list[Op] = []
    for op in graph.ops:
        parts = _reversed_parts(op, makers) if op.name == "REVERSE_V2" else None
        if parts is None:
            ops.append(op)
            continue
        out = op.outputs[0]
        options = options_type("ConcatenationOptions")()
        options.axis = 0
        rows = Tensor(names.fresh(out.name + "/rows"), (len(parts), *parts[0].shape[1:]), out.dtype)
        ops += [Op("CONCATENATION", list(parts), [rows], options), reshape(rows, out, names)]
    graph.ops = ops


def _reversed_parts(op: Op, makers: dict[Tensor, Op]) -> list[Tensor] | None:
    axes = op.input(1).data
    source = op.input(0)
    maker = makers.get(source)
    if maker is not None and maker.name == "RESHAPE":
        maker = makers.get(maker.input(0))
    if maker is None or maker.name != "CONCATENATION" or axes is None or axes.size != 1:
        return None
    parts = [t for t in maker.inputs if t is not None]
    axis = int(axes.reshape(-1)[0]) % len(source.shape)
    # Row-major order is the same on both sides of the reshape when only ones are in front.
    alike = source.shape[axis] == len(parts) and all(d == 1 for d in source.shape[:axis])
    rows = all(t.shape and t.shape[0] == 1 for t in parts)
    return parts[::-1] if alike and rows and not int(maker.options.axis) else None
