"""Two ops in a row that only rename dimensions become one.

    RESHAPE(RESHAPE(x))            ->  RESHAPE(x)
    TRANSPOSE(TRANSPOSE(x, p), q)  ->  TRANSPOSE(x, r),  r[i] = p[q[i]]

SQUEEZE and EXPAND_DIMS count as RESHAPE. The first op of the pair stays if others read it.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Op, Tensor
from tfq.graph.optable import RESHAPES
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import ints, static


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    source: Tensor
    perm: tuple[int, ...] | None


def check(op: Op, view: View) -> _Match | No:
    x, out = op.input(0), op.outputs[0]
    if not static(x, out):
        return No("a shape is known only at run time")
    if op.name == "TRANSPOSE":
        before = view.made_by(x, "TRANSPOSE")
        if before is None:
            return No("no TRANSPOSE before it")
        p, q = ints(before.input(1)), ints(op.input(1))
        if p is None or q is None:
            return No("a permutation is computed at run time")
        return _Match(op, before.input(0), tuple(p[i] for i in q))
    before = view.made_by(x, *RESHAPES)
    if before is None or not static(before.input(0)):
        return No("nothing before it renames dimensions")
    return _Match(op, before.input(0), None)


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    if m.perm is not None:
        perm = view.const(f"{out.name}/perm", m.perm, "int32")
        view.replace(m.op, [new_op("TRANSPOSE", [m.source, perm], out, "TransposeOptions")])
        return
    shape = view.const(f"{out.name}/shape", out.shape, "int32")
    options = {"newShape": list(out.shape)}
    view.replace(m.op, [new_op("RESHAPE", [m.source, shape], out, "ReshapeOptions", **options)])


RULE = Rule(
    name="merge_reshapes",
    roots=frozenset({*RESHAPES, "TRANSPOSE"}),
    check=check,
    apply=apply,
)
