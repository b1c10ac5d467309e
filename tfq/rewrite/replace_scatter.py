"""SCATTER_ND to constant, distinct places becomes a GATHER.

    SCATTER_ND(places, updates, shape)  ->  RESHAPE(GATHER(CONCATENATION(zero, updates), rows))

with updates as [count, inner] and rows[i] the update that lands in row i, or 0 (the row of zeros)
where none does. The int8 kernel of SCATTER_ND fills with the integer 0 instead of the zero point.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import ints, is_float, static
from tfq.rewrite.replace_conv3d import reshape


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    rows: np.ndarray
    inner: int


def check(op: Op, view: View) -> _Match | No:
    places, updates, out = op.input(0), op.input(1), op.outputs[0]
    if not is_float(updates) or not static(updates, out):
        return No("not of static floats")
    if not places.is_const or ints(op.input(2)) is None:
        return No("the places or the shape are computed")
    depth = places.shape[-1]
    index = places.values().reshape(-1, depth)
    try:
        flat = np.ravel_multi_index(tuple(index.T), out.shape[:depth])
    except ValueError:
        return No("a place lies outside")
    if len(np.unique(flat)) != len(flat):
        return No("two updates go to one place")
    rows = np.zeros(int(np.prod(out.shape[:depth], dtype=np.int64)), np.int32)
    rows[flat] = 1 + np.arange(len(flat), dtype=np.int32)
    return _Match(op, rows, int(np.prod(out.shape[depth:], dtype=np.int64)))


def apply(m: _Match, view: View) -> None:
    updates, out = m.op.input(1), m.op.outputs[0]
    name, count = out.name, updates.size // max(m.inner, 1)
    flat = view.tensor(f"{name}/updates", (count, m.inner))
    table = view.tensor(f"{name}/table", (count + 1, m.inner))
    gathered = view.tensor(f"{name}/rows", (len(m.rows), m.inner))
    zero = view.const(f"{name}/zero", np.zeros((1, m.inner)))
    rows = view.const(f"{name}/index", m.rows, "int32")
    view.replace(
        m.op,
        [
            reshape(updates, list(flat.shape), flat, view),
            new_op("CONCATENATION", [zero, flat], table, "ConcatenationOptions", axis=0),
            new_op("GATHER", [table, rows], gathered, "GatherOptions"),
            reshape(gathered, list(out.shape), out, view),
        ],
    )


RULE = Rule(name="replace_scatter", roots=frozenset({"SCATTER_ND"}), check=check, apply=apply)
