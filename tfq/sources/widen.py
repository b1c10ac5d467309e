"""Models that compute in float16 or bfloat16, said in float32. Imports TensorFlow.

A Keras model under mixed_float16 keeps its weights in float32 and casts them in every layer. Its
SavedModel names the half type in every node, which the converter has no kernels for; and training's
grids were chosen in float32. So each half type becomes float32, and the casts change nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfq.sources.tracing import Entry, trace_signature

_HALF = (tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum)
_FULL = tf.float32.as_datatype_enum


def widen(entry: Entry, scratch: Path) -> Entry:
    """`entry` itself, or the same in float32 where it computes in a half type.

    Models that store variables in a half type stay as they are.
    """
    if not _computes_in_half(entry.function):
        return entry
    folder = scratch / "half"
    entry.save(folder)
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(path.read_bytes())
    _retype(saved)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    loaded = tf.saved_model.load(str(folder))
    wide = trace_signature(
        loaded.signatures[entry.key], key=entry.key, batch=entry.batch, owner=loaded
    )
    wide.input_names, wide.output_names = entry.input_names, entry.output_names
    wide.layers = entry.layers
    return wide


def _computes_in_half(function: Any) -> bool:
    if any(v.dtype.base_dtype.as_datatype_enum in _HALF for v in function.variables):
        return False
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return any(a.type in _HALF for n in nodes for a in n.attr.values())


def _retype(message: Any) -> None:
    """Replaces half types in a protocol buffer, and the values of constants of these types."""
    if message.DESCRIPTOR.full_name == "tensorflow.TensorProto":
        if message.dtype in _HALF:
            values = tf.make_ndarray(message).astype(np.float32)
            message.CopyFrom(tf.make_tensor_proto(values))
        return
    for field, value in message.ListFields():
        repeated = field.is_repeated
        if field.enum_type is not None and field.enum_type.full_name == "tensorflow.DataType":
            if repeated:
                value[:] = [_FULL if v in _HALF else v for v in value]
            elif value in _HALF:
                setattr(message, field.name, _FULL)
        elif field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                inner = field.message_type.fields_by_name["value"].message_type
                parts = list(value.values()) if inner is not None else []
            else:
                parts = list(value) if repeated else [value]
            for part in parts:
                _retype(part)
