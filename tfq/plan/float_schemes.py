"""The plan of the schemes that compute in float, where only the storage of weights changes.

dynamic keeps integer weights at the kernels that quantize their input at run time; weight_only and
float16 put a DEQUANTIZE before every use.
"""

from __future__ import annotations

from tfq.graph.model import Graph, Op
from tfq.graph.numerics import FLOAT, Grid, weight_grid
from tfq.graph.optable import Kind, spec
from tfq.plan.entries import KEEP_FLOAT, OpPlan, TensorPlan
from tfq.plan.plan import Plan
from tfq.plan.scheme import Config
from tfq.plan.weight_grids import (
    WEIGHT_WIDTHS,
    check_weight_scales,
    scales_of,
    stored_type,
    weights_are_narrow,
)


def plan_float(graph: Graph, config: Config, *, model_sha256: str) -> Plan:
    """Plans `graph` for a scheme whose `compute` is "dynamic" or "stored"; no data is needed."""
    scheme = config.scheme
    check_weight_scales(graph, config)
    ops: dict[str, OpPlan] = {}
    for op in graph.ops:
        name = op.key
        rule = config.rule_for(name, "activations")
        edges: dict[int, Grid] = {}
        reason = f"scheme {scheme.name}"
        if rule is not None and rule.activations == "float32":
            reason = f"excluded by {rule.regex!r}"
        elif scheme.weights == "float16":
            for i, t in enumerate(op.inputs):
                if t is not None and t.is_const and t.dtype == "float32" and t.size >= _MIN_STORED:
                    edges[i] = Grid("float16")
        elif scheme.weights == "int8":
            edges, why = _stored_weight_edges(op, config)
            reason = f"{reason}; {why}" if why else reason
        hybrid = scheme.compute == "dynamic" and bool(edges)
        narrow = scheme.weights != "int8" or not edges or weights_are_narrow(op)
        ops[name] = OpPlan(op.label, KEEP_FLOAT, edges, reason=reason, narrow=narrow, hybrid=hybrid)
    return Plan(
        model_sha256,
        config.as_dict(),
        {
            t.name: TensorPlan(FLOAT, f"scheme {scheme.name}")
            for t in graph.tensors()
            if t.dtype == "float32" and not t.is_const
        },
        ops,
        {t.name: Grid(t.dtype) for t in graph.inputs},
        {t.name: Grid(t.dtype) for t in graph.outputs},
    )


# Smaller constants gain nothing and cost an op each.
_MIN_STORED = 64

# What DEQUANTIZE turns into floats, per tensor or channel.
_STORED = tuple(WEIGHT_WIDTHS)


def _stored_weight_edges(op: Op, config: Config) -> tuple[dict[int, Grid], str]:
    s = spec(op.name)
    if s is None or op.name in ("QUANTIZE", "DEQUANTIZE"):
        return {}, ""
    dynamic = config.scheme.compute == "dynamic"
    # Kernels with float activations and integer weights ("hybrid"), whose result is right.
    types = s.weight_types.get("float32", ()) if dynamic else _STORED
    if s.kind is Kind.WEIGHTED and s.weights is not None:
        i, axis = s.weights, s.axis
    elif s.learned is not None:
        i, axis = s.learned, None
    else:
        return {}, ""
    w = op.inputs[i] if i < len(op.inputs) else None
    if not types or w is None or not w.is_const or w.dtype != "float32":
        return {}, ""
    # Kernels of dynamic models read integers as they are, so that the smallest gain too.
    if not dynamic and w.size < _MIN_STORED:
        return {}, ""
    granularity = config.granularity_of(op.name, op.key)
    # The hybrid depthwise kernel reads a scale for every channel, also where there is but one.
    always = dynamic and op.name == "DEPTHWISE_CONV_2D"
    axis = axis if always or granularity == "per_channel" else None
    bits = config.weight_bits_of(op.key)
    dtype, why = stored_type(op.name, types, "float", bits)
    scales = scales_of(op, w, axis, bits, config)
    return {i: weight_grid(scales, dtype, axis, bits)}, why
