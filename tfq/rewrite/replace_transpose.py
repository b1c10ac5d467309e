"""A TRANSPOSE that only moves dimensions of size 1 becomes a RESHAPE.

    TRANSPOSE([1, n, 1], (0, 2, 1))  ->  RESHAPE([1, 1, n])

The values stay where they are in memory; and neighbouring RESHAPEs then merge with it.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op
from tfq.rewrite.core import No, Rule, View
from tfq.rewrite.match import ints, static
from tfq.rewrite.replace_conv3d import reshape


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op


def check(op: Op, view: View) -> _Match | No:
    x, out = op.input(0), op.outputs[0]
    perm = ints(op.input(1))
    if perm is None or not static(x, out):
        return No("the permutation or a shape is known only at run time")
    moved = [i for i in perm if x.shape[i] != 1]
    if moved != sorted(moved):
        return No("it moves values")
    return _Match(op)


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    view.replace(m.op, [reshape(m.op.input(0), list(out.shape), out, view)])


RULE = Rule(name="replace_transpose", roots=frozenset({"TRANSPOSE"}), check=check, apply=apply)
