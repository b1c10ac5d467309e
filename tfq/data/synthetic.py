"""Made-up samples: they let a model be converted and timed, but calibrate nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tfq.data.fit import Element, Fitter
from tfq.data.source import Reading, SampleSource
from tfq.graph.interface import ArgSpec

UNCALIBRATED = "synthetic (not calibrated)"
# Of a model that needs no samples, since training chose every range.
TRAINED = "ranges from training, proven on random values"


def synthetic(
    inputs: Sequence[ArgSpec],
    count: int = 64,
    seed: int = 0,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    description: str = UNCALIBRATED,
) -> SampleSource:
    """Random samples: standard normal floats; integers and booleans that are 0 or 1.

    Args:
      inputs: of the model.
      count: how many.
      seed: of the random numbers.
      ranges: by name of an input, where its floats lie instead, evenly.
      description: what the samples are, and are for.

    Integers stay this small because they are often indices, which must be within a table of a size
    that the input does not tell.
    """
    fitter = Fitter(inputs)

    def elements() -> Iterator[Element]:
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            arrays = {}
            for spec in fitter.inputs:
                shape = tuple(max(1, d) for d in fitter.row_shape(spec))
                dtype = np.dtype(spec.dtype)
                if dtype.kind == "f" and ranges and spec.name in ranges:
                    low, high = ranges[spec.name]
                    arrays[spec.name] = rng.uniform(low, high, shape).astype(dtype)
                elif dtype.kind == "f":
                    arrays[spec.name] = rng.standard_normal(shape, np.float32).astype(dtype)
                else:
                    arrays[spec.name] = rng.integers(0, 2, shape).astype(dtype)
            yield Element(arrays)

    return SampleSource(Reading(elements, description, count, synthetic=True), fitter)
