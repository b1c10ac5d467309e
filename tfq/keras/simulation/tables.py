"""Functions of one value as tables over all its integers, read off the kernel itself.

The kernels of LOGISTIC, TANH, HARD_SWISH, GELU and their like compute through tables, float
functions and polynomials that differ from set to set. An int8 argument has 256 values (an int16 one
65,536): the kernel is run once on all of them, and the table that it gives is exact by
construction.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfq.errors import TfqError
from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.graph.numerics import LIMITS
from tfq.runtime import Runner


def kernel_table(op: Op, kernels: str) -> np.ndarray:
    """What the kernel gives for every integer of its input's type, from the lowest up."""
    x, y = op.input(0), op.outputs[0]
    low, high = LIMITS[x.dtype]
    every = np.arange(low, high + 1).astype(x.dtype)
    source = dataclasses.replace(x, name="x", shape=every.shape, signature=None, data=None)
    result = Tensor("y", every.shape, y.dtype, quant=y.quant)
    alone = dataclasses.replace(op, inputs=[source], outputs=[result])
    model = Model([Graph("main", [alone], [source], [result])])
    runner = Runner(model.to_bytes(), kernels=kernels, threads=1)
    # A kernel that refuses negative arguments, or zero, is asked for the nearest that it takes.
    zero = 0 if x.quant is None else int(x.quant.zero_point[0])
    for lowest in (low, zero, zero + 1):
        try:
            return runner.run({"x": np.maximum(every, lowest).astype(x.dtype)})["y"]
        except TfqError:
            continue
    raise TfqError(f"The {op.name} kernel refuses every argument.")


def elementwise(op: Op, values: list[Any], kernels: str) -> list[Any]:
    table = kernel_table(op, kernels)
    rows = tf.cast(values[0], tf.int32) - LIMITS[op.input(0).dtype][0]
    return [tf.gather(tf.constant(table), rows)]
