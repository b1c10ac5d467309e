"""The one call to TensorFlow's converter: a traced function to a float `.tflite`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfq.errors import ModelError
from tfq.graph.model import Model
from tfq.sources import trained_graph, trained_grids
from tfq.sources.causes import listed, root_cause
from tfq.sources.state import holds_state
from tfq.sources.tracing import Entry, trace, trace_signature


def convert(entry: Entry, scratch: Path) -> tuple[bytes, Entry | None]:
    """Converts without optimizations; quantizers become QUANTIZE and DEQUANTIZE pairs, and those of
    weights records (`tfq.sources.trained_grids`).

    Builtin ops first; if an op has no builtin form, again with TensorFlow ops allowed, so that
    the caller can name them (they stop a full-integer run later).

    Variables read inside loops (Keras LSTM and GRU) do not freeze in the converter and would come
    out as VAR_HANDLE and BATCH_MATMUL. When nothing assigns to them they are frozen beforehand,
    which gives FULLY_CONNECTED with constant weights. A loop traced with a free batch holds lists
    whose element shapes are constants with the batch unknown; these get the batch at that point.

    Returns:
      The file; and for a model with trained grids what its graph computes without those of
      activations, to compare with: one value that falls to the next step is no fault of the
      converter, and what comes of it can be large.

    Raises:
      ModelError: the converter's root cause.
    """
    folder = scratch / "traced"
    entry.save(folder)
    if trained_graph.holds_marks(entry.function):
        return _convert_trained(entry, folder, scratch)
    model = _convert_folder(folder, entry.key)
    if _half_converted(model) and not holds_state(entry.function):
        folder = scratch / "frozen"
        _freeze(entry).save(folder)
        model = _convert_folder(folder, entry.key)
    return model, None


def _convert_trained(entry: Entry, folder: Path, scratch: Path) -> tuple[bytes, Entry | None]:
    records: list[trained_grids.Record] = []
    bare = None
    if not holds_state(entry.function):
        trained_graph.carry_marks(folder)
        loaded = tf.saved_model.load(str(folder))
        carried = trace_signature(
            loaded.signatures[entry.key], key=entry.key, batch=entry.batch, owner=loaded
        )
        carried.rename(entry.input_names, entry.output_names)
        folder = scratch / "frozen"
        _freeze(carried, lambda graph: records.extend(trained_graph.fold_weights(graph))).save(
            folder
        )
        bare = _freeze(carried, trained_graph.unquantize)
    model = _convert_folder(folder, entry.key, marked=True)
    return trained_grids.without_marks(model, entry.layers, records), bare


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


def _convert_folder(folder: Path, key: str, marked: bool = False) -> bytes:
    first: Exception | None = None
    for select in (False, True):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[key])
        converter.allow_custom_ops = marked
        if select:
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS,
                tf.lite.OpsSet.SELECT_TF_OPS,
            ]
        try:
            model = converter.convert()
            if marked:
                # All that has no form is a custom op now; only marks are meant to be.
                _refuse_custom(model)
            return model
        except Exception as e:  # The converter raises bare Exception, ValueError and its own.
            first = first or e
    assert first is not None
    raise ModelError(
        f"TensorFlow's converter failed: {root_cause(first).rstrip('.')}. Replace what it names in "
        "the model, or convert the part before it."
    ) from None


def _refuse_custom(model: bytes) -> None:
    ops = [op for graph in Model.from_bytes(model).graphs for op in graph.ops]
    custom = {op.custom_code for op in ops if op.name == "CUSTOM"}
    custom -= {trained_grids.NAME, *trained_grids.SHAPES}
    strange = sorted(name for name in custom if not name.startswith("Flex"))
    if strange:
        raise ModelError(f"these ops have no TFLite form: {', '.join(strange)}")


def _half_converted(model: bytes) -> bool:
    """Whether variables stayed variables, or lists of a loop stayed TensorFlow's."""
    ops = [op for graph in Model.from_bytes(model).graphs for op in graph.ops]
    return any(op.name == "VAR_HANDLE" or op.custom_code.startswith("FlexTensorList") for op in ops)


# Which input of a list op is its element shape.
_ELEMENT_SHAPE = {"TensorListReserve": 0, "TensorListStack": 1, "TensorListFromTensor": 1}


def _freeze(entry: Entry, edit: Callable[[Any], None] | None = None) -> Entry:
    """The same function with its variables as constants and its lists with static elements.

    Args:
      edit: changes the frozen GraphDef in place.
    """
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    frozen = convert_variables_to_constants_v2(entry.function, lower_control_flow=False)
    graph = frozen.graph.as_graph_def()
    _set_list_batch(graph, entry.batch)
    if edit is not None:
        edit(graph)
    feeds = [t.name for t in frozen.inputs]
    fetches = [t.name for t in frozen.outputs]
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    pruned = wrapped.prune(feeds, fetches)
    order = [name.split(":")[0] for name in feeds]
    outputs = sorted(entry.function.structured_outputs)  # As TensorFlow flattens a dict.
    specs = {n: tf.TensorSpec(t.shape, t.dtype) for n, t in zip(order, frozen.inputs, strict=True)}

    def call(tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        results = pruned(*[tensors[n] for n in order])
        return dict(zip(outputs, results, strict=True))

    traced = trace(call, specs, batch=1, key=entry.key)
    return Entry(entry.key, traced.function, entry.input_names, entry.output_names)


def _set_list_batch(graph: Any, batch: int) -> None:
    """Writes the batch into element shapes that start with -1. The comparison with the source
    would show a list for which that is not the batch."""
    nodes = {n.name: n for n in graph.node}
    for node in graph.node:
        if node.op not in _ELEMENT_SHAPE:
            continue
        shape = nodes.get(node.input[_ELEMENT_SHAPE[node.op]].split(":")[0])
        if shape is None or shape.op != "Const":
            continue
        values = tf.make_ndarray(shape.attr["value"].tensor).copy()
        if values.ndim == 1 and values.size and values[0] == -1:
            values[0] = batch
            shape.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values))
