"""A model made for one sample, written anew for several, to be put beside another one."""

from __future__ import annotations

import numpy as np

from tfq.errors import ModelError, TfqError
from tfq.graph.boundary import InputQuantizer
from tfq.graph.check import run_in_child
from tfq.graph.model import Model, numpy_dtype
from tfq.graph.rebatch import with_free_batch
from tfq.runtime import Runner


def to_batch(model: bytes, batch: int) -> bytes:
    """The same model with `batch` as the leading dimension of every input.

    All shapes are those that LiteRT gives the tensors when it resizes the inputs. The result is run
    on random values, and each of its rows must be what the model makes of that row alone.

    Args:
      model: a `.tflite` file with a leading dimension of 1 on every input and output.
      batch: samples of one run.

    Raises:
      ModelError: the model cannot take several samples at once.
    """
    read = Model.from_bytes(model)
    free = with_free_batch(read)
    if free is None:
        raise ModelError(
            f"It keeps a state, or is not made for 1 sample, so not for {batch} either."
        )
    # Read back, so that the position of a tensor in the graph is its index.
    wide = Model.from_bytes(free.to_bytes())
    try:
        run_in_child(free.to_bytes(), where="it", batch=batch)
        # A delegate hides the shapes of what it computes.
        resized = Runner(free.to_bytes(), kernels="builtin", batch=batch)
        details = {d["index"]: d for d in resized.tensor_details()}
        for i, t in enumerate(wide.main.tensors()):
            if not t.is_const:
                t.shape, t.signature = tuple(int(n) for n in details[i]["shape"]), None
        data = wide.to_bytes()
        same = _same_rows(model, data, batch)
    except TfqError as e:
        raise ModelError(f"It does not take {batch} samples at once: {e}") from None
    if not same:
        raise ModelError(f"It mixes samples when it takes {batch} at once.")
    return data


def _same_rows(model: bytes, wide: bytes, batch: int) -> bool:
    rng = np.random.default_rng(0)
    read = Model.from_bytes(model)
    rows = {
        t.name: (
            rng.uniform(0, 1, (batch, *t.shape[1:])).astype(np.float32)
            if t.dtype == "float32" or t.quant is not None
            else np.zeros((batch, *t.shape[1:]), numpy_dtype(t.dtype))
        )
        for t in read.main.inputs
    }
    fed = InputQuantizer(read)(rows)
    one = Runner(model)
    together = Runner(wide).run_in_order(list(fed.values()))
    for i in range(batch):
        alone = one.run_in_order([v[i : i + 1] for v in fed.values()])
        for a, b in zip(alone, together, strict=True):
            if b.shape != (batch, *a.shape[1:]):
                return False
            size = float(np.max(np.abs(a), initial=0.0)) if a.dtype.kind == "f" else 0.0
            if not np.allclose(a[0], b[i], rtol=0, atol=1e-5 * size, equal_nan=True):
                return False
    return True
