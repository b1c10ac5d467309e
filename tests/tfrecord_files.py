"""Builds TFRecord files without TensorFlow."""

import struct

import numpy as np

from tfq.data.crc32c import masked_crc32c
from tfq.data.protos import message_class


def example(**features):
    """A serialized `tf.Example`: arrays as float or int64 lists, bytes as they are."""
    message = message_class("example", "Example")()
    for name, value in features.items():
        entry = message.features.feature.add(key=name)
        if isinstance(value, bytes):
            entry.value.bytes_list.value.append(value)
        elif np.asarray(value).dtype.kind == "f":
            entry.value.float_list.value.extend(np.ravel(value).tolist())
        else:
            entry.value.int64_list.value.extend(np.ravel(value).tolist())
    return message.SerializeToString()


def record(data):
    """`data` framed as a record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return b"".join(
        [
            length,
            struct.pack("<I", masked_crc32c(length)),
            data,
            struct.pack("<I", masked_crc32c(data)),
        ]
    )
