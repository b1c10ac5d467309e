"""Made-up inputs for timing, and how far outputs computed from them are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfq.errors import ModelError
from tfq.graph.model import Model, numpy_dtype
from tfq.graph.numerics import LIMITS
from tfq.targets import Difference


def random_inputs(model: Model, count: int, seed: int = 0) -> list[list[np.ndarray]]:
    """Samples of the main graph's inputs, in its order: any integer of a grid, normal floats.

    Integers without a grid are 0 or 1, as those of `tfq.data.synthetic` are: often they are
    indices, whose range an input does not tell.

    Raises:
      ModelError: an input is of a kind that no numbers can be made up for.
    """
    rng = np.random.default_rng(seed)
    samples: list[list[np.ndarray]] = []
    for _ in range(count):
        arrays = []
        for t in model.main.inputs:
            if t.dtype in ("string", "resource", "variant"):
                raise ModelError(
                    f"The input {t.name!r} is a {t.dtype}: no values can be made up for it."
                )
            dtype = np.dtype(numpy_dtype(t.dtype))
            shape = tuple(max(1, d) for d in t.shape)
            if dtype.kind in "iu" and t.quant is not None:
                low, high = LIMITS[t.dtype]
                arrays.append(rng.integers(low, high, shape, dtype, endpoint=True))
            elif dtype.kind in "iub":
                arrays.append(rng.integers(0, 2, shape).astype(dtype))
            else:
                arrays.append(rng.standard_normal(shape, np.float32).astype(dtype))
        samples.append(arrays)
    return samples


def differences(
    model: Model,
    found: Sequence[Sequence[np.ndarray]],
    reference: Sequence[Sequence[np.ndarray]],
) -> tuple[Difference, ...]:
    """How far outputs are apart, for each output of the main graph.

    Args:
      model: whose outputs they are.
      found, reference: for each sample, the outputs in the graph's order. Where one of two floats
        is infinite or NaN, and the other is not the same, that counts in the share only.
    """
    rows = []
    for i, t in enumerate(model.main.outputs):
        a = np.concatenate([np.ravel(s[i]) for s in found])
        b = np.concatenate([np.ravel(s[i]) for s in reference])
        integer = a.dtype.kind in "iub"
        if a.shape != b.shape:  # Sizes may depend on values.
            rows.append(Difference(t.name, "LSB" if integer else "", 0.0, 1.0))
            continue
        if integer:
            apart = np.abs(a.astype(np.int64) - b.astype(np.int64)).astype(np.float64)
            differs = apart > 0
        else:
            a, b = a.astype(np.float64), b.astype(np.float64)
            differs = ~((a == b) | (np.isnan(a) & np.isnan(b)))
            both = np.isfinite(a) & np.isfinite(b)
            apart = np.abs(a[both] - b[both])
        rows.append(
            Difference(
                t.name,
                "LSB" if integer else "",
                float(apart.max(initial=0.0)),
                float(differs.mean()) if differs.size else 0.0,
            )
        )
    return tuple(rows)
