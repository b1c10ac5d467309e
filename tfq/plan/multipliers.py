"""How fine an output's grid may be beside those of what is read: where kernels' arithmetic ends.

An integer kernel computes on a scale that follows from those of its inputs,

    s_x s_w         weighted ops, MUL, BATCH_MATMUL
    max(s_a, s_b)^2 SQUARED_DIFFERENCE
    max(s_a, s_b)   everything else

and multiplies by that over the output's scale. The multiplier has an end (`OpSpec.max_multiplier`):
outputs that come out much smaller than they could (large terms that cancel, a product with a mask
that no sample sets) would be on a grid so fine that the kernel refuses it, ends the process or
overflows in silence.
"""

from __future__ import annotations

from collections.abc import Sequence

from tfq.graph.optable import Kind, OpSpec

_PRODUCTS = {"MUL", "BATCH_MATMUL"}


def smallest_output_scale(op: str, row: OpSpec, dtype: str, scales: Sequence[float]) -> float:
    """The scale that an op's output must have at least.

    Args:
      op: its name.
      row: its row of the table.
      dtype: the type it computes in.
      scales: those on which it reads its data, the weights among it.

    Returns:
      zero where the table knows of no end.
    """
    most = row.max_multiplier.get(dtype)
    if most is None or not scales:
        return 0.0
    computed = max(scales)
    if row.kind is Kind.WEIGHTED or op in _PRODUCTS:
        computed = scales[0] * scales[-1]
    elif op == "SQUARED_DIFFERENCE":
        computed *= computed
    return computed / most
