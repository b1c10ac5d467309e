"""What only depends on a static shape becomes a constant.

    SHAPE(x)       ->  the shape of x
    RANK(x)        ->  the number of its dimensions
    ZEROS_LIKE(x)  ->  zeros of its shape

Ops computed from these (STRIDED_SLICE, PACK, FILL, ...) then fold as constants.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.model import Op, Tensor, numpy_dtype
from tfq.rewrite.core import No, Rule, View
from tfq.rewrite.match import static


@dataclasses.dataclass(frozen=True)
class _Match:
    out: Tensor
    values: np.ndarray


def check(op: Op, view: View) -> _Match | No:
    x, out = op.input(0), op.outputs[0]
    if not static(x) or not x.has_rank:
        return No("the shape is known only at run time")
    if view.is_output(out):
        return No("the shape itself is an output of the model")
    if op.name == "ZEROS_LIKE":
        return _Match(out, np.zeros(x.shape, numpy_dtype(out.dtype)))
    values = x.shape if op.name == "SHAPE" else len(x.shape)
    return _Match(out, np.array(values, numpy_dtype(out.dtype)))


def apply(m: _Match, view: View) -> None:
    m.out.shape = m.values.shape
    view.make_const(m.out, m.values)


RULE = Rule(
    name="fold_shapes", roots=frozenset({"SHAPE", "RANK", "ZEROS_LIKE"}), check=check, apply=apply
)
