"""Which ops the default CPU delegate, XNNPACK, computes; the others stay with built-in kernels."""

from __future__ import annotations

import dataclasses

from tfq.errors import ModelError
from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.runtime import Runner


def is_delegated(op: Op) -> bool:
    """Asks the runtime: the op alone is a model, and a delegate shows up as one node more."""
    inputs = {t: t for t in op.inputs if t is not None}
    copies: dict[Tensor, Tensor] = {
        t: dataclasses.replace(t, name=f"t{i}", signature=None) for i, t in enumerate(inputs)
    }
    outputs = [
        dataclasses.replace(t, name=f"y{i}", signature=None) for i, t in enumerate(op.outputs)
    ]
    alone = dataclasses.replace(
        op, inputs=[None if t is None else copies[t] for t in op.inputs], outputs=outputs
    )
    computed = [t for t in copies.values() if not t.is_const]
    model = Model([Graph("main", [alone], computed, outputs)])
    try:
        return Runner(model.to_bytes(), threads=1).is_delegated()
    except ModelError:
        return False
