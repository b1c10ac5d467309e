"""`simulate`: from a model or file to its simulator."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from tfq.errors import ModelError, UsageError, unknown_option
from tfq.graph.check import check_structure
from tfq.graph.model import Model
from tfq.keras.simulation.model import Simulator, build
from tfq.runtime import KERNELS
from tfq.sources import in_order


def simulate(source: Any, *, kernels: str = "xnnpack", **options: Any) -> Simulator:
    """A Keras model that computes, bit for bit, what an integer `.tflite` computes on the device.

        sim = tfq.keras.simulate(qat_model)
        sim(x)                          # real values in and out, as the model's own call
        sim.integers(x)["conv/Relu"]    # the int8 values of a tensor of the file
        keras.Model(sim.input, sim.get_layer("conv").output)

    Args:
      source: an integer `.tflite` (path, bytes or `ConversionResult`), or a model that
        `tfq.convert_model` takes, which is then converted first.
      kernels: whose rounding: "xnnpack" (what LiteRT runs on a CPU by default: XNNPACK where it
        takes an op, the built-in kernels elsewhere), "builtin" (no delegate) or "reference".
      options: those of `tfq.convert_model`, for a source that is converted (data=, scheme=, ...).

    Returns:
      A Functional model with one layer per op, in float32 [samples, ...] to float32
      [samples, ...] (an input or output without a grid keeps its type). Where the file's ops tie
      samples together its batch size is the file's.

    Raises:
      UsageError: ops that cannot be simulated (all are named), or wrong options.
      ModelError: the file is damaged.
    """
    if kernels not in KERNELS:
        raise unknown_option("kernels", kernels, KERNELS)
    content, where = _file(source, options)
    content, moved = in_order(content, where)
    for told in moved:
        warnings.warn(told, stacklevel=2)
    model = Model.from_bytes(content, where=where)
    check_structure(model, where)
    return build(model, kernels, _layers(source))


def _file(source: Any, options: dict[str, Any]) -> tuple[bytes, str]:
    from tfq.convert import ConversionResult, convert_model

    if isinstance(source, ConversionResult):
        content, where = source.model, "the conversion result"
    elif isinstance(source, bytes | bytearray | memoryview):
        content, where = bytes(source), "the model"
    elif isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in (
        ".tflite",
        ".lite",
    ):
        where = os.fspath(source)
        try:
            content = Path(source).read_bytes()
        except OSError as e:
            raise ModelError(f"Cannot read {where}: {e.strerror}.") from None
    else:
        return convert_model(source, **options).model, "the converted model"
    if options:
        raise UsageError(
            f"{', '.join(sorted(options))}: conversion options have no meaning for a model that "
            "is converted already. Leave them out, or give the model itself."
        )
    return content, where


def _layers(source: Any) -> list[str]:
    """Names of a Keras model's layers, nested ones included."""
    flatten = getattr(source, "_flatten_layers", None)
    return [layer.name for layer in flatten(include_self=False)] if flatten else []
