"""The few protocol buffer messages that tfq reads, without importing TensorFlow for them.

Field numbers are those of TensorFlow's `example.proto`, `feature.proto`, `saved_model.proto` and
`meta_graph.proto`. Fields left out here are skipped by the parser. Map fields are described as
what they are on the wire, repeated entries of a key and a value.
"""

from __future__ import annotations

import functools
from typing import Any

_FILES = {
    "example": {
        "BytesList": {"value": (1, "bytes", "repeated")},
        "FloatList": {"value": (1, "float", "repeated")},
        "Int64List": {"value": (1, "int64", "repeated")},
        "Feature": {
            "bytes_list": (1, "BytesList", "optional"),
            "float_list": (2, "FloatList", "optional"),
            "int64_list": (3, "Int64List", "optional"),
        },
        "FeatureEntry": {"key": (1, "string", "optional"), "value": (2, "Feature", "optional")},
        "Features": {"feature": (1, "FeatureEntry", "repeated")},
        "Example": {"features": (1, "Features", "optional")},
    },
    "saved_model": {
        "Dim": {"size": (1, "int64", "optional")},
        "TensorShape": {
            "dim": (2, "Dim", "repeated"),
            "unknown_rank": (3, "bool", "optional"),
        },
        "TensorInfo": {
            "name": (1, "string", "optional"),
            "dtype": (2, "int32", "optional"),
            "tensor_shape": (3, "TensorShape", "optional"),
        },
        "InputEntry": {"key": (1, "string", "optional"), "value": (2, "TensorInfo", "optional")},
        "SignatureDef": {
            "inputs": (1, "InputEntry", "repeated"),
            "outputs": (2, "InputEntry", "repeated"),
        },
        "SignatureEntry": {
            "key": (1, "string", "optional"),
            "value": (2, "SignatureDef", "optional"),
        },
        "MetaGraph": {"signature_def": (5, "SignatureEntry", "repeated")},
        "SavedModel": {"meta_graphs": (2, "MetaGraph", "repeated")},
    },
}


@functools.cache
def message_class(file: str, name: str) -> Any:
    """The message class `name` of "example" or "saved_model".

    The classes live in a descriptor pool of their own, apart from TensorFlow's.
    """
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    field = descriptor_pb2.FieldDescriptorProto
    description = descriptor_pb2.FileDescriptorProto(
        name=f"tfq_{file}.proto", package=f"tfq_{file}", syntax="proto3"
    )
    for message_name, fields in _FILES[file].items():
        message = description.message_type.add(name=message_name)
        for field_name, (number, kind, label) in fields.items():
            added = message.field.add(
                name=field_name,
                number=number,
                label=field.LABEL_REPEATED if label == "repeated" else field.LABEL_OPTIONAL,
            )
            if kind in _FILES[file]:
                added.type = field.TYPE_MESSAGE
                added.type_name = f".tfq_{file}.{kind}"
            else:
                added.type = field.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(description)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tfq_{file}.{name}"))
