"""The TFLite metadata of an image classifier, as MediaPipe Tasks, ML Kit and Android Studio read.

Field numbers and codes are those of `metadata_schema.fbs`.
"""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers

_RGB, _GRAYSCALE = 1, 2
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = 2, 1  # Of the union ContentProperties.
_NORMALIZATION_OPTIONS = 1  # Of the union ProcessUnitOptions.
_TENSOR_AXIS_LABELS = 2
# Of the parser: the first that reads all of these fields.
_MIN_PARSER = "1.0.0"


def classifier_metadata(
    name: str,
    labels_name: str,
    *,
    channels: int,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> bytes:
    """The metadata of a model with one image as input and one score per class as output.

    Args:
      name: of the model.
      labels_name: of the attached file that holds the labels, one a line.
      channels: of the image: 3 (RGB) or 1 (grayscale).
      mean, std: the input's real values are `(pixel - mean) / std` of pixels 0 to 255, one of each
        for all channels or one per channel; both empty where pixels go in as they are.
    """
    b = flatbuffers.Builder(512)
    image = _table(b, 2, {0: ("int8", _RGB if channels == 3 else _GRAYSCALE)})
    content = _table(b, 3, {0: ("uint8", _IMAGE_PROPERTIES), 1: ("offset", image)})
    units = None
    if mean:
        options = _table(b, 2, {0: ("offset", _floats(b, mean)), 1: ("offset", _floats(b, std))})
        unit = _table(b, 2, {0: ("uint8", _NORMALIZATION_OPTIONS), 1: ("offset", options)})
        units = _offsets(b, [unit])
    source = _table(
        b,
        7,
        {
            0: ("offset", b.CreateString("image")),
            1: ("offset", b.CreateString("Image to classify.")),
            3: ("offset", content),
            4: ("offset", units),
        },
    )
    labels = _table(
        b,
        5,
        {
            0: ("offset", b.CreateString(labels_name)),
            1: ("offset", b.CreateString("One label a line, in the order of the scores.")),
            2: ("int8", _TENSOR_AXIS_LABELS),
        },
    )
    feature = _table(b, 0, {})
    scores = _table(b, 3, {0: ("uint8", _FEATURE_PROPERTIES), 1: ("offset", feature)})
    result = _table(
        b,
        7,
        {
            0: ("offset", b.CreateString("score")),
            1: ("offset", b.CreateString("Score of each label.")),
            3: ("offset", scores),
            6: ("offset", _offsets(b, [labels])),
        },
    )
    graph = _table(
        b,
        10,
        {2: ("offset", _offsets(b, [source])), 3: ("offset", _offsets(b, [result]))},
    )
    model = _table(
        b,
        8,
        {
            0: ("offset", b.CreateString(name)),
            1: ("offset", b.CreateString("Image classifier.")),
            3: ("offset", _offsets(b, [graph])),
            7: ("offset", b.CreateString(_MIN_PARSER)),
        },
    )
    b.Finish(model, b"M001")
    return bytes(b.Output())


def _table(b: flatbuffers.Builder, fields: int, values: dict[int, tuple[str, int | None]]) -> int:
    b.StartObject(fields)
    for field, (kind, value) in values.items():
        if kind == "offset":
            if value is not None:
                b.PrependUOffsetTRelativeSlot(field, value, 0)
        elif kind == "int8":
            b.PrependInt8Slot(field, value, 0)
        else:
            b.PrependUint8Slot(field, value, 0)
    return int(b.EndObject())


def _offsets(b: flatbuffers.Builder, items: Sequence[int]) -> int:
    b.StartVector(4, len(items), 4)
    for item in reversed(items):
        b.PrependUOffsetTRelative(item)
    return int(b.EndVector())


def _floats(b: flatbuffers.Builder, values: Sequence[float]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return int(b.EndVector())
