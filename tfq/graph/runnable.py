"""A model that LiteRT can run in place of one that it cannot: 4-bit quantizers of constants.

Converting a model trained with 4-bit weights gives

    constant -> QUANTIZE (uint4) -> DEQUANTIZE

whose QUANTIZE has no kernel. The pair is an identity on its grid, so its result is a constant.
"""

from __future__ import annotations

from tfq.graph.model import Model, Op, Tensor
from tfq.graph.numerics import Grid, dequantize, quantize

_PACKED = ("uint4", "int4")


def runnable(data: bytes) -> bytes:
    """`data` itself, or the same model with the constants rounded that 4-bit quantizers read."""
    model = Model.from_bytes(data)
    return model.to_bytes() if _fold(model) else data


def _fold(model: Model) -> bool:
    changed = False
    for graph in model.graphs:
        producers = graph.producers()
        kept: list[Op] = []
        for op in graph.ops:
            packed = _packed_source(op, producers)
            if packed is None:
                kept.append(op)
                continue
            source, q = packed
            assert q.quant is not None
            grid = Grid.of(q.dtype, q.quant)
            op.outputs[0].data = dequantize(quantize(source.values(), grid), grid)
            changed = True
        graph.ops = kept
        if changed:
            graph.prune()
    return changed


def _packed_source(op: Op, producers: dict[Tensor, Op]) -> tuple[Tensor, Tensor] | None:
    """For a DEQUANTIZE of a 4-bit QUANTIZE of a constant: the constant, and its 4-bit form."""
    if op.name != "DEQUANTIZE" or op.input(0).dtype not in _PACKED:
        return None
    q = op.input(0)
    maker = producers.get(q)
    if maker is None or maker.name != "QUANTIZE" or q.quant is None:
        return None
    source = maker.input(0)
    return (source, q) if source.is_const else None
