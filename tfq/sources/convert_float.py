"""The one call to TensorFlow's converter: a traced function to a float `.tflite`."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tfq.errors import ModelError
from tfq.graph.model import Model
from tfq.sources.causes import listed, root_cause
from tfq.sources.tracing import Entry, holds_state, trace


def convert(entry: Entry, scratch: Path) -> bytes:
    """Converts without optimizations; FakeQuant becomes QUANTIZE and DEQUANTIZE pairs.

    Builtin ops first; if an op has no builtin form, again with TensorFlow ops allowed, so that
    the caller can name them (they stop a full-integer run later).

    Variables read inside loops (Keras LSTM and GRU) do not freeze in the converter and would come
    out as VAR_HANDLE and BATCH_MATMUL. When nothing assigns to them they are frozen beforehand,
    which gives FULLY_CONNECTED with constant weights.

    Raises:
      ModelError: the converter's root cause.
    """
    folder = scratch / "traced"
    entry.save(folder)
    model = _convert_folder(folder, entry.key)
    if _holds_variables(model) and not holds_state(entry.function):
        frozen = _freeze(entry)
        folder = scratch / "frozen"
        frozen.save(folder)
        model = _convert_folder(folder, entry.key)
    return model


def restore_names(model: bytes, entry: Entry) -> bytes:
    """Puts the user's argument and output names, in their order, into the signature.

    Raises:
      ModelError: the converter lost an argument.
    """
    inputs, outputs = entry.input_names, entry.output_names
    parsed = Model.from_bytes(model)
    if not parsed.signatures:
        raise ModelError("TensorFlow's converter wrote no signature.")
    signature = parsed.signatures[0]
    missing = [n for s, n in outputs.items() if s not in signature.outputs]
    if missing:
        raise ModelError(f"TensorFlow's converter lost the outputs {listed(missing)}.")
    if (list(inputs.items()), list(outputs.items())) == (
        [(n, n) for n in signature.inputs],
        [(n, n) for n in signature.outputs],
    ):
        return model
    signature.inputs = {inputs[s]: signature.inputs[s] for s in inputs if s in signature.inputs}
    signature.outputs = {outputs[s]: signature.outputs[s] for s in outputs}
    return parsed.to_bytes()


def _convert_folder(folder: Path, key: str) -> bytes:
    first: Exception | None = None
    for select in (False, True):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[key])
        if select:
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS,
                tf.lite.OpsSet.SELECT_TF_OPS,
            ]
        try:
            return converter.convert()
        except Exception as e:  # The converter raises bare Exception, ValueError and its own.
            first = first or e
    assert first is not None
    raise ModelError(f"TensorFlow's converter failed: {root_cause(first)}") from None


def _holds_variables(model: bytes) -> bool:
    return any(op.name == "VAR_HANDLE" for g in Model.from_bytes(model).graphs for op in g.ops)


def _freeze(entry: Entry) -> Entry:
    """The same function with its variables as constants."""
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    frozen = convert_variables_to_constants_v2(entry.function, lower_control_flow=False)
    order = [t.name.split(":")[0] for t in frozen.inputs]
    outputs = sorted(entry.function.structured_outputs)
    specs = {t.name.split(":")[0]: tf.TensorSpec(t.shape, t.dtype) for t in frozen.inputs}

    def call(tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        results = frozen(*[tensors[n] for n in order])
        return dict(zip(outputs, results, strict=True))

    traced = trace(call, specs, batch=1, key=entry.key, owner=frozen)
    return Entry(entry.key, traced.function, entry.input_names, entry.output_names)
