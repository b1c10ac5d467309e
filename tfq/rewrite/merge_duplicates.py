"""Two ops that compute the same from the same tensors become one.

    f(x) ... f(x)  ->  one f(x), read by both's readers

Constants count as the same when their values are. Ops with state or random numbers stay.
"""

from __future__ import annotations

import hashlib

from tfq.graph.effects import is_pure
from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import Applied, View

NAME = "merge_duplicates"


def _tensor_key(tensor: Tensor | None, digests: dict[Tensor, object]) -> object:
    if tensor is None or tensor.data is None or tensor.quant is not None:
        return tensor
    if tensor not in digests:
        raw = hashlib.blake2b(tensor.data.tobytes(), digest_size=16).digest()
        digests[tensor] = (tensor.dtype, tensor.shape, raw)
    return digests[tensor]


def _options_key(op: Op) -> str:
    if op.options is None:
        return ""
    fields = sorted((k, str(v)) for k, v in vars(op.options).items() if not callable(v))
    return repr((type(op.options).__name__, fields))


def run(view: View) -> list[Applied]:
    """Merges every later twin of an op into the first."""
    first: dict[object, Op] = {}
    digests: dict[Tensor, object] = {}
    applied = []
    for op in list(view.graph.ops):
        if not view.alive(op) or not is_pure(op) or len(op.outputs) != 1:
            continue
        inputs = tuple(_tensor_key(t, digests) for t in op.inputs)
        key = (op.name, inputs, _options_key(op), op.outputs[0].dtype, op.outputs[0].shape)
        twin = first.setdefault(key, op)
        if twin is op or view.is_output(op.outputs[0]):
            continue
        applied.append(Applied(rewrite=NAME, where=op.outputs[0].name, op=op.label))
        view.bypass(op, twin.outputs[0])
    return applied
