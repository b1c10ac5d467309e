"""BUCKETIZE becomes comparisons and a count.

    BUCKETIZE(x, boundaries)  ->  SUM(CAST(x >= boundaries)), along a new last dimension

The bucket of x is the number of boundaries that are not above it. Comparing is done on quantized
tensors, counting on int32.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import DTYPE_CODES, Op
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import is_float, static
from tfq.rewrite.replace_conv3d import reshape


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    boundaries: np.ndarray


def check(op: Op, view: View) -> _Match | No:
    x = op.input(0)
    # Comparisons broadcast up to four dimensions.
    if not is_float(x) or not static(x) or len(x.shape) > 3:
        return No("not of static floats with at most three dimensions")
    boundaries = op.options.boundaries
    if boundaries is None or not len(boundaries):
        return No("it has no boundaries")
    return _Match(op, np.asarray(boundaries, np.float32))


def apply(m: _Match, view: View) -> None:
    x, out = m.op.input(0), m.op.outputs[0]
    name, wide = out.name, (*x.shape, m.boundaries.size)
    column = view.tensor(f"{name}/column", (*x.shape, 1))
    reached = view.tensor(f"{name}/reached", wide, "bool")
    ones = view.tensor(f"{name}/ones", wide, "int32")
    axis = view.const(f"{name}/axis", [len(x.shape)], "int32")
    types = {"inDataType": DTYPE_CODES["bool"], "outDataType": DTYPE_CODES["int32"]}
    view.replace(
        m.op,
        [
            reshape(x, list(column.shape), column, view),
            new_op(
                "GREATER_EQUAL",
                [column, view.const(f"{name}/boundaries", m.boundaries)],
                reached,
                "GreaterEqualOptions",
            ),
            new_op("CAST", [reached], ones, "CastOptions", **types),
            new_op("SUM", [ones, axis], out, "ReducerOptions"),
        ],
    )


RULE = Rule(name="replace_bucketize", roots=frozenset({"BUCKETIZE"}), check=check, apply=apply)
