"""Models made for one sample, prepared to take several at once.

The interpreter can resize a model's inputs, and shapes follow through most ops. What does not
follow is a RESHAPE whose constant shape has the batch of 1 written in it: Flatten and the like.
There the leading 1 becomes -1, "whatever is left", which is the same for one sample.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.graph.effects import is_repeatable, keeps_state
from tfq.graph.model import Model, Op, Tensor


def is_stateful(model: Model) -> bool:
    """Whether a run leaves something behind for the next one: samples come one after the other."""
    return any(keeps_state(op) for graph in model.graphs for op in graph.ops)


def with_free_batch(model: Model) -> Model | None:
    """`model` with no batch written into its reshapes, or None where batches make no sense.

    That the result really takes batches has to be tried: it may still not allocate, or mix samples
    that it was not made to see together.

    Args:
      model: with a leading dimension of 1 on every input and output; it is not changed.
    """
    main = model.main
    ends = [*main.inputs, *main.outputs]
    if not all(is_repeatable(op) for op in main.ops) or is_stateful(model):
        return None
    if not main.inputs or any(t.shape[:1] != (1,) or t.is_const for t in ends):
        return None
    ops = [_free_reshape(op) if op.name == "RESHAPE" else op for op in main.ops]
    return dataclasses.replace(
        model, graphs=[dataclasses.replace(main, ops=ops), *model.graphs[1:]]
    )


def _free_reshape(op: Op) -> Op:
    x, shape = op.input(0), op.inputs[1] if len(op.inputs) > 1 else None
    if shape is None or not shape.is_const or shape.size < 2 or x.shape[:1] != (1,):
        return op
    wanted = np.array(shape.values())
    if wanted[0] != 1 or -1 in wanted[1:]:
        return op
    wanted[0] = -1
    free = Tensor(f"{shape.name}/free_batch", shape.shape, shape.dtype, wanted)
    # The shape in the options is what old runtimes read; the tensor decides.
    return dataclasses.replace(op, inputs=[x, free])
