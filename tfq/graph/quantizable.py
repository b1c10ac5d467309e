"""Whether an op may compute in integers as it stands: with its types, constants and options."""

from __future__ import annotations

from tfq.graph.model import Op
from tfq.graph.optable import Kind, spec

# They look at shapes alone, whatever the values are.
_SHAPES = ("SHAPE", "RANK")


def obstacle(op: Op, activations: str) -> str:
    """Why no integer kernel computes `op` rightly in `activations`, or "" where one does.

    Args:
      op: of a float graph, or with its tensors on grids already.
      activations: the type to compute in, "int8" or "int16".

    Returns:
      a phrase for a person. "" also where there is nothing to quantize: shapes, bools, integers.
    """
    row = spec(op.name)
    if row is None:
        if op.custom_code.startswith("Flex"):
            return "a TensorFlow op that needs the Flex delegate"
        if op.name == "CUSTOM":
            return "a custom op, which only its author can quantize"
        return "no integer kernel in LiteRT"
    if row.kind is Kind.STRUCTURAL:
        real = any(t is not None and t.is_float for t in [*op.inputs, *op.outputs])
        return (
            (row.note or "no integer kernel in LiteRT") if real and op.name not in _SHAPES else ""
        )
    if activations not in row.dtypes:
        return row.note or f"no {activations} kernel in LiteRT"
    if op.name == "CAST" and op.input(0).is_float:
        return "a cast from float gives the integers of the grid, not those of the values"
    if row.weights is not None:
        w = op.input(row.weights)
        if w.is_const and not w.is_float and w.dtype not in row.weight_types.get(activations, ()):
            return f"its {activations} kernel does not read {w.dtype} weights rightly"
    if not row.fused_activation and getattr(op.options, "fusedActivationFunction", None):
        return "its kernel has no fused activation; write it as an op of its own"
    return ""
