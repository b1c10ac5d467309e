"""What stands in the way of running a model in stretches, and how much there is to compute."""

from __future__ import annotations

from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.graph.optable import Kind, effects, spec

# What is no numbers cannot be kept between two stretches; it is also how resources show.
_NO_NUMBERS = ("string", "resource", "variant")


def obstacle_to_walk(model: Model) -> str:
    """Why `model` cannot be walked, or "" when it can.

    Loops, branches and calls can: each runs whole. So can fused recurrent ops whose state is their
    own; it starts anew with every sample, as it does for calibration.
    """
    for graph in model.graphs:
        for op in graph.ops:
            if effects(op.name).state == "random":
                return f"{op.label} at {op.key!r} draws random numbers"
        for t in graph.tensors():
            if t.dtype in _NO_NUMBERS:
                return f"tensor {t.name!r} is of type {t.dtype}"
    return _shared_state(model.main)


def _shared_state(main: Graph) -> str:
    owners: dict[Tensor, Op] = {}
    for op in main.ops:
        for t in op.inputs:
            if t is not None and t.is_variable and owners.setdefault(t, op) is not op:
                return f"several ops share the state {t.name!r}"
        for out in op.outputs:
            if out.is_variable:
                return f"{op.label} writes the state {out.name!r} for other ops"
    for end in (*main.inputs, *main.outputs):
        if end.is_variable:
            return f"the state {end.name!r} is an input or output"
    return ""


def multiplications(op: Op) -> int:
    """Of one run of an op with weights; 0 of others."""
    s = spec(op.name)
    if s is None or s.kind is not Kind.WEIGHTED or s.weights is None:
        return 0
    w = op.input(s.weights)
    channels = w.shape[s.axis] if s.axis is not None else 1
    # Of a transposed convolution every input value meets the weights of all outputs.
    values = op.input(s.data[0]).size if op.name == "TRANSPOSE_CONV" and s.data else 0
    return (values or op.outputs[0].size) * (w.size // max(w.shape[-1] if values else channels, 1))
