"""The float `.tflite` against the model it came from, on random inputs. Imports TensorFlow.

Converters drop ops: TensorFlow 2.21 loses the ReLU of relu(matmul(a, b)) where both operands are
activations. A quantized model built on a wrong float model would be tuned to the wrong answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfq.errors import ModelError, TfqError
from tfq.graph.interface import Interface, read_interface
from tfq.graph.model import Model, numpy_dtype
from tfq.graph.optable import op_names
from tfq.graph.runnable import runnable
from tfq.runtime import Runner
from tfq.sources import trained_grids
from tfq.sources.causes import listed, root_cause
from tfq.sources.tracing import Entry

# Largest difference allowed, as a share of the output's largest value. Float kernels that sum in
# another order stay below 1e-5 on MobileNets; a missing activation shows at 1e-1.
TOLERANCE = 1e-3
# With trained grids, rounding may fall to the next step in any layer, and what comes of it in
# single values can be large. This is the mean difference then: that of a model without its grids,
# or on others, is beyond it. All else about the model is compared without the grids.
GRID_TOLERANCE = 0.1
# An output may leave the tolerance in this share of its elements where a step function (round,
# argmax, comparison) amplifies the last bit.
STEP_SHARE = 0.05
_STEPS = op_names(lambda row: row.jumps)
_SAMPLERS = ((0.0, 1.0), (-1.0, 1.0), (-3.0, 3.0))


def compare(
    entry: Entry, model: bytes, bare: Entry | None = None
) -> tuple[dict[str, float], list[str]]:
    """Runs both on the same random inputs. `model`'s signature still has the safe names.

    Floats are drawn uniformly from [0, 1], [-1, 1] and [-3, 3], integers from {0, 1} (valid as
    indices and tokens).

    Args:
      bare: the source without rounding of activations, of a model with trained grids.

    Returns:
      Figures ("max_abs_diff", "max_rel_diff", and "max_abs_diff/NAME" per output), and warnings.

    Raises:
      ModelError: they differ; with the numbers and the output's name.
    """
    if bare is not None:
        bare.output_names = entry.output_names
        _compare(bare, trained_grids.without_pairs(model))
    return _compare(entry, model)


def _compare(entry: Entry, model: bytes) -> tuple[dict[str, float], list[str]]:
    parsed = Model.from_bytes(model)
    interface = read_interface(parsed, parsed.signatures[0].key)
    labels = [op.label for g in parsed.graphs for op in g.ops]
    if any(label.startswith("CUSTOM") for label in labels):
        return {}, ["Not compared with the source: the model holds ops that LiteRT cannot run."]
    runner = Runner(runnable(model))
    rng = np.random.default_rng(0)
    checks: dict[str, float] = {"max_abs_diff": 0.0, "max_rel_diff": 0.0}
    warnings: list[str] = []
    for low, high in _SAMPLERS:
        inputs = _draw(interface, rng, low, high)
        try:
            expected = _run_source(entry, inputs)
        except tf.errors.OpError as e:
            warnings.append(
                f"Not compared on inputs in [{low:g}, {high:g}]: the source fails on them "
                f"({root_cause(e)})."
            )
            continue
        # Fused LSTMs keep their state between invocations; the layer they came from does not.
        runner.reset_state()
        try:
            got = runner.run({a.tensor_name: inputs[a.name] for a in interface.inputs})
        except TfqError as e:
            raise ModelError(f"The float .tflite fails where the source runs: {e}") from None
        for arg in interface.outputs:
            name = entry.output_names[arg.name]
            problem, absolute, relative = _difference(
                expected[arg.name], got[arg.tensor_name], labels
            )
            checks["max_abs_diff"] = max(checks["max_abs_diff"], absolute)
            checks["max_rel_diff"] = max(checks["max_rel_diff"], relative)
            key = f"max_abs_diff/{name}"
            checks[key] = max(checks.get(key, 0.0), absolute)
            if not problem:
                continue
            if not _deterministic(entry, inputs):
                return checks, [
                    *warnings,
                    "Not compared: the source gives another output each time it runs.",
                ]
            raise ModelError(
                f"The float .tflite differs from the source model at output {name!r}: "
                f"{problem}, on random inputs in [{low:g}, {high:g}]. TensorFlow's converter "
                f"changed the model{_suspect(labels)}."
            )
    return checks, warnings


def _draw(
    interface: Interface, rng: np.random.Generator, low: float, high: float
) -> dict[str, np.ndarray]:
    inputs = {}
    for arg in interface.inputs:
        dtype = numpy_dtype(arg.dtype)
        floats = dtype.kind in "fcV"
        drawn = rng.uniform(low, high, arg.shape) if floats else rng.integers(0, 2, arg.shape)
        inputs[arg.name] = np.asarray(drawn, dtype)
    return inputs


def _run_source(entry: Entry, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The source's outputs by safe name. Inputs that the `.tflite` dropped are zeros."""
    feed: dict[str, Any] = {}
    for name, spec in entry.function.structured_input_signature[1].items():
        value = inputs.get(name, np.zeros(spec.shape, spec.dtype.as_numpy_dtype))
        feed[name] = tf.constant(value, spec.dtype)
    return {name: np.asarray(value) for name, value in entry.function(**feed).items()}


def _deterministic(entry: Entry, inputs: dict[str, np.ndarray]) -> bool:
    first = _run_source(entry, inputs)
    second = _run_source(entry, inputs)
    return all(
        np.array_equal(first[n], second[n], equal_nan=first[n].dtype.kind == "f") for n in first
    )


def _difference(
    expected: np.ndarray, got: np.ndarray, labels: list[str]
) -> tuple[str, float, float]:
    """A description of the difference ("" when there is none that matters), and its size."""
    if expected.shape != got.shape:
        return f"shape {list(got.shape)} instead of {list(expected.shape)}", np.inf, np.inf
    if expected.size == 0:
        return "", 0.0, 0.0
    steps = any(label in _STEPS for label in labels)
    trained = "QUANTIZE" in labels
    if expected.dtype.kind not in "fcV":
        wrong = float(np.mean(expected != got))
        if trained or wrong <= (STEP_SHARE if expected.size >= 20 else 0.0):
            return "", 0.0, wrong
        return f"{wrong:.1%} of its values differ", float(np.max(expected != got)), wrong
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    same = finite | (a == b) | (np.isnan(a) & np.isnan(b))
    if not same.all():
        count = int(np.sum(~same))
        return f"{count} of {a.size} values are infinite or NaN in only one of them", np.inf, np.inf
    if not finite.any():
        return "", 0.0, 0.0
    diff = np.abs(a - b)[finite]
    scale = float(np.max(np.abs(a[finite])))
    absolute = float(diff.max())
    relative = absolute / scale if scale > 0 else (0.0 if absolute == 0 else np.inf)
    limit = (GRID_TOLERANCE if trained else TOLERANCE) * scale + 1e-5
    judged = float(diff.mean()) if trained else absolute
    share = float(np.mean(diff > limit))
    if judged <= limit or (steps and diff.size >= 20 and share <= STEP_SHARE):
        return "", absolute, relative
    return (
        f"the {'mean' if trained else 'largest'} difference is {judged:.4g} where values reach "
        f"{scale:.4g} (allowed: {limit:.2g})",
        absolute,
        relative,
    )


def _suspect(labels: list[str]) -> str:
    if "BATCH_MATMUL" in labels:
        return (
            "; it is known to drop a ReLU after a matrix product of two activations "
            "(write tf.maximum(y, 0.0) there)"
        )
    return f"; ops in it: {listed(sorted(set(labels))[:12])}"
