"""TFLite metadata: what apps read about a model's inputs, outputs and attached files.

A flatbuffer of its own (`metadata_schema.fbs`, identifier M001) in the model's metadata. The field
numbers below are the schema's. It speaks of real values and of pixels, never of quantized integers
(LiteRT's grids do that), so quantization changes nothing in it.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

from flatbuffers import number_types
from flatbuffers.table import Table

from tfq.errors import ModelError
from tfq.graph.model import Model

METADATA = "TFLITE_METADATA"

FILE_TYPES = (
    "unknown",
    "descriptions",
    "axis labels",
    "value labels",
    "score calibration",
    "vocabulary",
    "index",
)
_CONTENTS = ("", "feature", "image", "bounding boxes", "audio")
_COLORS = ("unknown", "RGB", "grayscale")
_IMAGE, _NORMALIZATION = 2, 1
# Of inputs and outputs, that MediaPipe Tasks takes.
_TASKS_TYPES = {"uint8", "float32"}


@dataclasses.dataclass(frozen=True)
class File:
    """An attached file as the metadata names it: `kind` is one of FILE_TYPES."""

    name: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Argument:
    """What is said of one input or output, in the order of the graph's.

    `content` is what it holds ("image" with `color`, "feature", ...). Of an input whose real values
    are `(pixel - mean) / std` those two are given, else they are empty.
    """

    name: str
    description: str
    content: str
    color: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: tuple[File, ...]


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What TFLite metadata says of a model and its main graph."""

    name: str
    description: str
    version: str
    author: str
    license: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    files: tuple[File, ...]

    @property
    def all_files(self) -> tuple[File, ...]:
        """Those of the model, then those of inputs and outputs."""
        return (*self.files, *(f for a in (*self.inputs, *self.outputs) for f in a.files))


def read_metadata(model: Model) -> Metadata | None:
    """What the model's TFLite metadata says; None without any.

    Raises:
      ModelError: it is damaged.
    """
    content = model.metadata.get(METADATA)
    if content is None:
        return None
    try:
        if content[4:8] != b"M001":
            raise ValueError("no M001 identifier")
        return _Reader(content).model()
    except (LookupError, ValueError, TypeError, struct.error) as e:
        raise ModelError(
            f"The model's TFLite metadata is damaged ({e}). Write it again, or export the model "
            "again."
        ) from None


def metadata_warnings(model: Model) -> list[str]:
    """What apps would miss in the metadata of a model; nothing where it has none."""
    try:
        found = read_metadata(model)
    except ModelError as e:
        return [str(e)]
    if found is None:
        return []
    warnings = []
    missing = sorted({f.name for f in found.all_files} - set(model.files))
    if missing:
        warnings.append(
            f"The TFLite metadata names {', '.join(missing)}, which the file does not hold: it was "
            "cut, or rewritten by a tool that drops attached files. Apps will refuse the result; "
            "attach them again."
        )
    for what, said, has in (
        ("inputs", found.inputs, model.main.inputs),
        ("outputs", found.outputs, model.main.outputs),
    ):
        if said and len(said) != len(has):
            warnings.append(
                f"The TFLite metadata describes {len(said)} {what}, but the result has "
                f"{len(has)}: write it again for this model."
            )
    ends = [*model.main.inputs, *model.main.outputs]
    refused = sorted({t.dtype for t in ends if t.quant is not None} - _TASKS_TYPES)
    if refused and any(a.content == "image" for a in found.inputs):
        warnings.append(
            f"The TFLite metadata is that of an image model, and MediaPipe Tasks refuses "
            f"{' and '.join(refused)} inputs and outputs. For it: --input_type=uint8 "
            "--output_type=uint8."
        )
    return warnings


class _Reader:
    """Reads tables that may lie: every one is counted, so that none is read without end."""

    def __init__(self, content: bytes):
        self._content = content
        self._left = len(content)

    def model(self) -> Metadata:
        start = int.from_bytes(self._content[:4], "little")
        root = self._table(start)
        graphs = self._tables(root, 3)
        main = graphs[0] if graphs else None
        return Metadata(
            name=self._text(root, 0),
            description=self._text(root, 1),
            version=self._text(root, 2),
            author=self._text(root, 4),
            license=self._text(root, 5),
            inputs=self._arguments(main, 2),
            outputs=self._arguments(main, 3),
            files=self._files(root, 6) + (self._files(main, 4) if main else ()),
        )

    def _arguments(self, graph: Table | None, field: int) -> tuple[Argument, ...]:
        found = self._tables(graph, field) if graph is not None else []
        return tuple(self._argument(t) for t in found)

    def _argument(self, table: Table) -> Argument:
        content = self._child(table, 3)
        kind = self._byte(content, 0) if content else 0
        color = 0
        if content and kind == _IMAGE and (image := self._child(content, 1)):
            color = self._byte(image, 0)
        mean: tuple[float, ...] = ()
        std: tuple[float, ...] = ()
        for unit in self._tables(table, 4):
            if self._byte(unit, 0) == _NORMALIZATION and (options := self._child(unit, 1)):
                mean, std = self._floats(options, 0), self._floats(options, 1)
        return Argument(
            self._text(table, 0),
            self._text(table, 1),
            _named(_CONTENTS, kind),
            _named(_COLORS, color) if color else "",
            mean,
            std,
            self._files(table, 6),
        )

    def _files(self, table: Table, field: int) -> tuple[File, ...]:
        return tuple(
            File(self._text(t, 0), _named(FILE_TYPES, self._byte(t, 2)))
            for t in self._tables(table, field)
        )

    def _table(self, at: int) -> Table:
        self._left -= 4
        if self._left < 0 or not 0 <= at < len(self._content):
            raise ValueError("a table lies outside of it")
        return Table(self._content, at)

    def _at(self, table: Table, field: int) -> int | None:
        """Where a field's value is."""
        offset = table.Offset(4 + 2 * field)
        return table.Pos + offset if offset else None

    def _child(self, table: Table, field: int) -> Table | None:
        at = self._at(table, field)
        return None if at is None else self._table(table.Indirect(at))

    def _byte(self, table: Table, field: int) -> int:
        at = self._at(table, field)
        return 0 if at is None else int(table.Get(number_types.Int8Flags, at))

    def _text(self, table: Table, field: int) -> str:
        at = self._at(table, field)
        if at is None:
            return ""
        raw = table.String(at)
        self._left -= len(raw)
        if self._left < 0:
            raise ValueError("its names are longer than it is")
        return raw.decode("utf-8", "replace")

    def _vector(self, table: Table, field: int) -> tuple[int, int]:
        """Where the items of a vector start, and how many there are; each takes 4 bytes."""
        if self._at(table, field) is None:
            return 0, 0
        offset = table.Offset(4 + 2 * field)
        start, count = table.Vector(offset), table.VectorLen(offset)
        if start + 4 * count > len(self._content):
            raise ValueError("a list ends after it")
        return start, count

    def _tables(self, table: Table, field: int) -> list[Table]:
        start, count = self._vector(table, field)
        return [self._table(table.Indirect(start + 4 * i)) for i in range(count)]

    def _floats(self, table: Table, field: int) -> tuple[float, ...]:
        start, count = self._vector(table, field)
        self._left -= 4 * count
        if self._left < 0:
            raise ValueError("its lists are longer than it is")
        return tuple(
            float(table.Get(number_types.Float32Flags, start + 4 * i)) for i in range(count)
        )


def _named(names: tuple[str, ...], code: int) -> str:
    return names[code] if 0 <= code < len(names) else f"type {code}"


def describe_metadata(model: Model) -> dict[str, Any] | None:
    """The TFLite metadata as plain values, or None: `error` where it is damaged, else the fields of
    `Metadata`; each file has `bytes`, its size, or None where it is named and not there.
    """
    try:
        found = read_metadata(model)
    except ModelError as e:
        return {"error": str(e)}
    if found is None:
        return None
    plain = dataclasses.asdict(found)

    for group in (plain, *plain["inputs"], *plain["outputs"]):
        for file in group["files"]:
            content = model.files.get(file["name"])
            file["bytes"] = None if content is None else len(content)
    return plain
