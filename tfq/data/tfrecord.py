"""TFRecord files of `tf.Example`, read record by record without TensorFlow.

A record is its length (uint64, little-endian), the masked CRC-32C of the length, the data, and the
masked CRC-32C of the data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import itertools
import math
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeGuard, cast

import numpy as np

from tfq.data.blocks import Payload
from tfq.data.crc32c import masked_crc32c
from tfq.data.fit import Element, Fitter, RawRows, aliases, bind
from tfq.data.images import DataOptions, ImageDecoder
from tfq.data.protos import message_class
from tfq.data.source import Reading
from tfq.errors import DataError
from tfq.graph.interface import ArgSpec

FILE_NAME = re.compile(r"\.tfrecords?(-\d+-of-\d+)?(\.gz)?$")
LABELS = ("y", "label", "labels", "image/class/label")
_PIECE_BYTES = 16 << 20
_ENCODED_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class Record(NamedTuple):
    """One record as it is in the file.

    Attributes:
      offset: where it starts in the (uncompressed) file, in bytes.
      data: the serialized `tf.Example`.
      checksum: of the data, not compared yet.
    """

    offset: int
    data: bytes
    checksum: int


def open_tfrecord(path: Path, fitter: Fitter, options: DataOptions) -> Reading:
    """Reads a `.tfrecord` file whose features are named as the inputs.

    A feature holds the values of one sample in row-major order: `float_list`, `int64_list`, or
    `bytes_list` with one string, which is either raw little-endian values (of the input's dtype, or
    bytes) or an encoded JPEG or PNG. The label is the first of `LABELS` that there is and that is
    no input: a number, or several. Features that belong to no input are ignored, since records
    usually have many; a model with one input takes the only encoded image, whatever its name.

    Raises:
      DataError: the file is damaged (with the offset), or the features do not fit.
    """
    _, label = _Parser(path, fitter, options).bind(first_features(path), 0)

    def elements() -> Iterator[Element]:
        parser = _Parser(path, fitter, options)
        for number, record in enumerate(_records(path)):
            yield parser.element(record, number)

    def payloads(rows: int, limit: int | None) -> Iterator[Payload]:
        records = itertools.islice(_records(path), limit)
        while block := list(itertools.islice(records, rows)):
            yield Records(path, options, block)

    return Reading(elements, path.name, has_labels=label is not None, payloads=payloads)


@dataclasses.dataclass(frozen=True)
class Records:
    """A payload of records, neither parsed nor compared with their checksums."""

    path: Path
    options: DataOptions
    records: Sequence[Record]

    @property
    def rows(self) -> int:
        """How many records."""
        return len(self.records)

    @property
    def nbytes(self) -> int:
        """The size of the records in bytes."""
        return sum(len(r.data) for r in self.records)

    def raw(self, fitter: Fitter, first: int, what: str) -> Iterator[RawRows]:
        """The parsed records, one by one."""
        parser = _Parser(self.path, fitter, self.options)
        for number, record in enumerate(self.records, first):
            yield fitter.cut(parser.element(record, number), number, what)


class _Parser:
    """Records to elements for one model; it keeps an image decoder for each feature."""

    def __init__(self, path: Path, fitter: Fitter, options: DataOptions):
        self._path = path
        self._fitter = fitter
        self._options = options
        self._decoders: dict[str, ImageDecoder] = {}

    def bind(self, features: Mapping[str, Any], number: int) -> tuple[dict[str, str], str | None]:
        """Which feature is which input, and which is the label."""
        inputs = self._fitter.inputs
        keys: Iterable[str] = features
        if len(inputs) == 1 and not any(alias in features for alias in aliases(inputs[0])):
            images = [k for k, feature in features.items() if _is_image(_values(feature))]
            if len(images) == 1:
                keys = [*images, *(k for k in LABELS if k in features and k not in images)]
        return bind(keys, inputs, self._where(number), label_keys=LABELS, extra_allowed=True)

    def element(self, record: Record, number: int) -> Element:
        where = self._where(number)
        features = _features(record, self._path)
        bound, label = self.bind(features, number)
        arrays = {}
        for spec in self._fitter.inputs:
            key = bound[spec.name]
            shape = self._fitter.row_shape(spec)
            values = _values(features[key])
            if _is_image(values) and values_size(spec, shape) != len(values):
                if key not in self._decoders:
                    # An input taken whole may have a batch of 1 in front.
                    image = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
                    self._decoders[key] = ImageDecoder(image, self._options)
                arrays[spec.name] = self._decoders[key].decode(values, f"in {where}, {key!r}")
            else:
                arrays[spec.name] = _shaped(values, spec, shape, f"{where}: feature {key!r}")
        return Element(arrays, _label(features[label], where) if label else None)

    def _where(self, number: int) -> str:
        return f"Record {number} of {self._path.name}"


def _is_image(values: np.ndarray | bytes | list[bytes]) -> TypeGuard[bytes]:
    return isinstance(values, bytes) and values.startswith(_ENCODED_IMAGES)


def values_size(spec: ArgSpec, shape: tuple[int, ...]) -> int:
    """The size of one row in bytes, or -1 where the shape is open."""
    return -1 if -1 in shape else math.prod(shape) * np.dtype(spec.dtype).itemsize


def _damaged(path: Path, offset: int, why: str) -> DataError:
    return DataError(
        f"{path} is damaged: {why}, in the record at byte {offset}. Write the file again."
    )


def _records(path: Path) -> Iterator[Record]:
    """All records; only the checksums of their lengths are compared."""
    offset = 0
    try:
        with contextlib.closing(_open(path)) as stream:
            while header := stream.read(12):
                if len(header) < 12:
                    raise _damaged(path, offset, "it ends within a length")
                length, length_crc = struct.unpack("<QI", header)
                if masked_crc32c(header[:8]) != length_crc:
                    why = "the checksum of a length is wrong (is it a TFRecord file?)"
                    raise _damaged(path, offset, why)
                data = _take(stream, length)
                footer = stream.read(4)
                if len(data) < length or len(footer) < 4:
                    raise _damaged(path, offset, "it ends within the data")
                yield Record(offset, data, struct.unpack("<I", footer)[0])
                offset += 16 + length
    except (OSError, EOFError, zlib.error) as e:
        raise _damaged(path, offset, str(e)) from None


def _take(stream: IO[bytes], length: int) -> bytes:
    """As many bytes, or what is left; in pieces, so that a false length asks for no memory."""
    first = stream.read(min(length, _PIECE_BYTES))
    if len(first) == length:
        return first
    pieces, missing = [first], length - len(first)
    while missing and pieces[-1]:
        pieces.append(stream.read(min(missing, _PIECE_BYTES)))
        missing -= len(pieces[-1])
    return b"".join(pieces)


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if zipped else open(path, "rb")


def first_features(path: Path) -> dict[str, Any]:
    """The features of the first record.

    Raises:
      DataError: there is none, it is damaged, or no `tf.Example`.
    """
    first = next(_records(path), None)
    if first is None:
        raise DataError(f"{path} has no records. Give at least one sample.")
    return _features(first, path)


def _features(record: Record, path: Path) -> dict[str, Any]:
    """The features of a record, after comparing its checksum."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if masked_crc32c(record.data) != record.checksum:
        raise _damaged(path, record.offset, "the checksum of the data is wrong")
    try:
        example = message_class("example", "Example").FromString(record.data)
    except DecodeError:
        raise DataError(
            f"{path}: the record at byte {record.offset} is no tf.Example. "
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
