"""Whether a rewritten float model still computes what its source does."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from tfq.errors import ModelError, TfqError
from tfq.runtime import Runner

Inputs = Mapping[str, np.ndarray]


def check_shape(name: str, expected: np.ndarray, got: np.ndarray) -> None:
    """Raises ModelError where two forms of a model give an output another shape."""
    if expected.shape != got.shape:
        raise ModelError(
            f"Output {name!r} has the shape {list(expected.shape)} in the source and "
            f"{list(got.shape)} in what was made of it. The shapes that the file states are not "
            "those that its ops compute, or an option of an op is odd: export the model again."
        )


def same_model(source: bytes, prepared: bytes, samples: Sequence[Inputs]) -> None:
    """Checks that rewriting changed nothing: both float models, run on real samples.

    Raises:
      TfqError: a float output differs by more than float rounding, or an integer or boolean one in
        most places (in a few, rounding alone can tip a comparison).
    """
    if source == prepared:
        return
    a, b = Runner(source), Runner(prepared)
    names = [d["name"] for d in b.outputs]
    off: collections.Counter[str] = collections.Counter()
    places: collections.Counter[str] = collections.Counter()
    for inputs in samples:
        # By position: preparing gives names to tensors that have none, or one that others have.
        values = [inputs[d["name"]] for d in b.inputs]
        # A fused LSTM would carry its state on; written out as steps, it starts at zero each time.
        a.reset_state()
        b.reset_state()
        expected, got = a.run_in_order(values), b.run_in_order(values)
        for name, value, other in zip(names, expected, got, strict=True):
            check_shape(name, value, other)
            if value.dtype.kind != "f":
                off[name] += int(np.sum(value != other))
                places[name] += value.size
                continue
            size = max(float(np.max(np.abs(value), initial=0.0)), 1e-6)
            far = float(np.max(np.abs(value - other), initial=0.0))
            if not far <= 1e-3 * size:
                raise TfqError(
                    f"A graph rewrite changed output {name!r} by {far:.3g} (its values reach "
                    f"{size:.3g}). Nothing was written; please report this model."
                )
    for name, count in off.items():
        if count > places[name] / 2:
            raise TfqError(
                f"A graph rewrite changed output {name!r} in {count} of {places[name]} places. "
                "Nothing was written; please report this model."
            )
