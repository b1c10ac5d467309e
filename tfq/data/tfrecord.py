"""TFRecord files of `tf.Example`, read record by record without TensorFlow.

A record is its length (uint64, little-endian), the masked CRC-32C of the length, the data, and the
masked CRC-32C of the data.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from tfq.data.crc32c import masked_crc32c
from tfq.data.fit import Element, Fitter, bind
from tfq.data.images import DataOptions, ImageDecoder
from tfq.data.protos import message_class
from tfq.data.source import Reading
from tfq.errors import DataError
from tfq.graph.interface import ArgSpec

FILE_NAME = re.compile(r"\.tfrecords?(-\d+-of-\d+)?(\.gz)?$")
LABELS = ("y", "label")
_ENCODED_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


def open_tfrecord(path: Path, fitter: Fitter, options: DataOptions) -> Reading:
    """Reads a `.tfrecord` file whose features are named as the inputs; `y` or `label` is the label.

    A feature holds the values of one sample in row-major order: `float_list`, `int64_list`, or
    `bytes_list` with one string, which is either raw little-endian values (of the input's dtype, or
    bytes) or an encoded JPEG or PNG. Features that belong to no input are ignored, since records
    usually have many.

    Raises:
      DataError: the file is damaged (with the offset), or the features do not fit.
    """
    first = next(_records(path), None)
    if first is None:
        raise DataError(f"{path} has no records. Give at least one sample.")
    features = _features(first[1], path, first[0])
    has_labels = any(k in features and k not in _input_names(fitter) for k in LABELS)
    images: dict[str, ImageDecoder] = {}

    def elements() -> Iterator[Element]:
        for number, (offset, data) in enumerate(_records(path)):
            features = _features(data, path, offset)
            where = f"Record {number} of {path.name}"
            bound, label = bind(
                features, fitter.inputs, where, label_keys=LABELS, extra_allowed=True
            )
            arrays = {}
            for spec in fitter.inputs:
                key = bound[spec.name]
                shape = fitter.row_shape(spec)
                values = _values(features[key])
                if isinstance(values, bytes) and values.startswith(_ENCODED_IMAGES):
                    if values_size(spec, shape) != len(values):
                        if key not in images:
                            images[key] = ImageDecoder(shape, options)
                        arrays[spec.name] = images[key].decode(values, f"in {where}, {key!r}")
                        continue
                arrays[spec.name] = _shaped(values, spec, shape, f"{where}: feature {key!r}")
            yield Element(arrays, _label(features[label], where) if label else None)

    return Reading(elements, path.name, has_labels=has_labels)


def values_size(spec: ArgSpec, shape: tuple[int, ...]) -> int:
    """The size of one row in bytes, or -1 where the shape is open."""
    return -1 if -1 in shape else math.prod(shape) * np.dtype(spec.dtype).itemsize


def _input_names(fitter: Fitter) -> set[str]:
    return {spec.name for spec in fitter.inputs}


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    """The offset and the data of every record."""

    def damaged(why: str) -> DataError:
        return DataError(
            f"{path} is damaged: {why}, in the record at byte {offset}. Write the file again."
        )

    offset = 0
    try:
        with contextlib.closing(_open(path)) as stream:
            while header := stream.read(12):
                if len(header) < 12:
                    raise damaged("it ends within a length")
                length, length_crc = struct.unpack("<QI", header)
                if masked_crc32c(header[:8]) != length_crc:
                    raise damaged("the checksum of a length is wrong (is it a TFRecord file?)")
                data = stream.read(length)
                footer = stream.read(4)
                if len(data) < length or len(footer) < 4:
                    raise damaged("it ends within the data")
                if masked_crc32c(data) != struct.unpack("<I", footer)[0]:
                    raise damaged("the checksum of the data is wrong")
                yield offset, data
                offset += 16 + length
    except (OSError, EOFError, zlib.error) as e:
        raise damaged(str(e)) from None


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if zipped else open(path, "rb")


def _features(data: bytes, path: Path, offset: int) -> dict[str, Any]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        example = message_class("example", "Example").FromString(data)
    except DecodeError:
        raise DataError(
            f"{path}: the record at byte {offset} is no tf.Example. "
            f"Write records with tf.train.Example(...).SerializeToString()."
        ) from None
    return {entry.key: entry.value for entry in example.features.feature}


def _values(feature: Any) -> np.ndarray | bytes | list[bytes]:
    """The values of a feature; of a `bytes_list` its only string, or the list of them."""
    if feature.HasField("float_list"):
        return np.array(feature.float_list.value, np.float32)
    if feature.HasField("int64_list"):
        return np.array(feature.int64_list.value, np.int64)
    strings = list(feature.bytes_list.value)
    return strings[0] if len(strings) == 1 else strings


def _shaped(
    values: np.ndarray | bytes | list[bytes], spec: ArgSpec, shape: tuple[int, ...], where: str
) -> np.ndarray:
    """The flat `values` of a feature as an array of `shape` (one -1 in it is filled in)."""
    if isinstance(values, list):
        raise DataError(f"{where} has {len(values)} strings; it must have one, a whole sample.")
    if isinstance(values, bytes):
        size = values_size(spec, shape)
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        if size == len(values) or (size < 0 and len(values) % dtype.itemsize == 0):
            values = np.frombuffer(values, dtype)
        elif math.prod(shape) == len(values):
            values = np.frombuffer(values, np.uint8)
        else:
            raise DataError(
                f"{where} has {len(values)} bytes, which are no JPEG or PNG. Raw values of input "
                f"{spec.name!r}, shape {shape} and {spec.dtype}, are {size} bytes."
            )
    if shape.count(-1) > 1 or (-1 not in shape and values.size != math.prod(shape)):
        raise DataError(
            f"{where} has {values.size} values; input {spec.name!r} takes {math.prod(shape)}, "
            f"shape {shape}."
        )
    try:
        return values.reshape(shape)
    except ValueError:
        raise DataError(f"{where} has {values.size} values; they do not fill {shape}.") from None


def _label(feature: Any, where: str) -> np.ndarray:
    values = _values(feature)
    if not isinstance(values, np.ndarray) or not values.size:
        raise DataError(f"{where}: the label is no number. Store it as an int64_list.")
    return values.reshape(()) if values.size == 1 else values
