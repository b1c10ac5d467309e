"""Where models come from: any TensorFlow model to float `.tflite` bytes with static shapes.

A `.tflite` file is read without TensorFlow. Everything else is converted in a process of its own.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfq.errors import ModelError, UsageError, nearest
from tfq.graph.check import check_runs
from tfq.graph.model import Model
from tfq.sources import client, flatbuffer, memory, static_shapes
from tfq.sources.cache import Cache, key_of, open_cache
from tfq.sources.flatbuffer import in_order
from tfq.sources.keras_archive import read_member
from tfq.sources.layers import layer_names, layer_of
from tfq.temporary import temporary_folder

__all__ = [
    "REPRESENTATIVE_DATA",
    "Cache",
    "Source",
    "certainly_untrained",
    "in_order",
    "layer_of",
    "load_source",
    "open_cache",
]

# Where a SavedModel carries samples of its own.
REPRESENTATIVE_DATA = Path("assets.extra") / "tfq_representative_data.npz"

# A file counts elements in 32 bits; nothing comes near to this.
_MAX_BATCH = 1 << 20

_EXTENSIONS = {
    ".tflite": "tflite",
    ".lite": "tflite",
    ".keras": "keras",
    ".h5": "h5",
    ".hdf5": "h5",
    ".pb": "frozen_graph",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """A float model, and where it came from.

    Attributes:
      model: the float32 `.tflite` bytes with static shapes. It may hold QUANTIZE and DEQUANTIZE
        pairs: the ranges that training with fake quantization chose.
      kind: "saved_model", "keras", "h5", "tflite", "frozen_graph", "keras_object",
        "tf_keras_object" or "concrete_function".
      path: the file or folder, or None for an object or bytes.
      signature: the signature's key in `model`, or None when it has none.
      layer_names: the layer path for each tensor name that holds one.
      representative_data: samples that the SavedModel carries, or None.
      checks: the comparison with the source: "max_abs_diff", "max_rel_diff" (of the output's
        largest value) and "max_abs_diff/OUTPUT"; empty for a `.tflite` source.
      warnings: what the user should know.
      timings: seconds by stage of the conversion to float, whenever it was made.
      cached: whether that was made by an earlier run.
      unkept: why it is not in the cache that the user named, or too large for any; else "".
    """

    model: bytes
    kind: str
    path: str | None = None
    signature: str | None = None
    layer_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    representative_data: Path | None = None
    checks: Mapping[str, float] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    cached: bool = False
    unkept: str = ""


def load_source(
    source: Any,
    *,
    signature: str | None = None,
    batch: int = 1,
    allow_code: bool = False,
    scratch: Path | None = None,
    cache: Cache | None = None,
    progress: Callable[[str], None] | None = None,
) -> Source:
    """Loads a model and converts it to float `.tflite`.

    Args:
      source: the path of a SavedModel folder, `.keras`, `.h5`, `.tflite` or frozen `.pb`; the
        bytes of a `.tflite`; a Keras 3 model, a tf_keras model or a concrete function.
      signature: which signature of a SavedModel or `.tflite`; by default "serving_default".
      batch: the batch size where the model leaves it free.
      allow_code: whether code that a file contains may run. That of an object in memory may.
      scratch: a folder for temporary files; they are removed.
      cache: conversions of files and folders that were made before (`open_cache`). Objects in
        memory are always converted: they are saved otherwise each time, so nothing would be found.
      progress: called with a line for each stage.

    Raises:
      UsageError: the path, the type of the object or the signature is wrong.
      ModelError: the model is damaged, already quantized, holds code that was not allowed, cannot
        be converted, or comes out of TensorFlow's converter different from what it was.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise UsageError(f"batch must be a positive whole number. Received: {batch!r}.")
    if batch >= _MAX_BATCH:
        raise UsageError(f"batch must be below {_MAX_BATCH}. Received: {batch}.")
    if isinstance(source, bytes | bytearray | memoryview):
        return _load_tflite(bytes(source), None, signature, batch)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        kind = _kind_of_path(path)
        if kind == "tflite":
            try:
                content = path.read_bytes()
            except OSError as e:
                raise ModelError(f"Cannot read {path}: {e.strerror}.") from None
            return _load_tflite(content, str(path), signature, batch)
        if signature is not None and kind != "saved_model":
            raise UsageError(
                f"{path} has no signatures to choose from. Received: signature={signature!r}."
            )
        if kind == "keras":
            read_member(str(path), "config.json", str(path))  # What is damaged is said at once.
        return _convert(
            {
                "kind": kind,
                "path": str(path.resolve()),
                "signature": signature,
                "shown": str(path),
                "allow_code": allow_code,
            },
            kind,
            str(path),
            batch,
            scratch,
            progress,
            cache=cache,
        )
    known = memory.kind_of(source)
    if known is None:
        raise UsageError(
            "A model is a path (SavedModel folder, .keras, .h5, .tflite, .pb), the bytes of a "
            ".tflite, a Keras model or a concrete function (for a tf.function: "
            f"f.get_concrete_function(...)). Received: {type(source).__name__}."
        )
    if signature is not None:
        raise UsageError(
            "An object in memory has no signatures to choose from. "
            f"Received: signature={signature!r}."
        )
    return _convert(
        {"shown": f"the {type(source).__name__}"},
        known,
        None,
        batch,
        scratch,
        progress,
        source=source,
    )


def certainly_untrained(source: Any) -> bool:
    """Whether it is seen without TensorFlow that training left no ranges in a model.

    Whatever leaves some says so in a name: FakeQuant, TfqQuantize, QuantizeWrapper. So False says
    nothing, and is the answer for what needs no TensorFlow or is in memory.

    Raises:
      UsageError: there is no model at the path.
      ModelError: it is a damaged archive.
    """
    if not isinstance(source, str | os.PathLike):
        return False
    path = Path(source)
    kind = _kind_of_path(path)
    if kind == "tflite":
        return False
    try:
        content: bytes | None
        if kind == "saved_model":
            content = b"".join(p.read_bytes() for p in path.glob("saved_model.pb*"))
        elif kind == "keras":
            content = read_member(str(path), "config.json", str(path))
        else:
            content = path.read_bytes()
    except OSError:
        return False  # Loading says what is wrong.
    if content is None:
        return False
    return re.search(b"quant", content, re.IGNORECASE) is None


def _kind_of_path(path: Path) -> str:
    """Raises UsageError unless there is something at `path` that looks like a model."""
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"There is no model at {path}.{nearest(path.name, siblings)}")
    if path.is_dir():
        if any((path / name).exists() for name in ("saved_model.pb", "saved_model.pbtxt")):
            return "saved_model"
        content = sorted(p.name for p in path.iterdir())
        if not content:
            raise UsageError(f"{path} is an empty folder. Pass a SavedModel folder or a file.")
        inside = [n for n in content if Path(n).suffix in _EXTENSIONS]
        hint = f" Did you mean {path / inside[0]}?" if inside else ""
        raise UsageError(f"{path} is not a SavedModel: it has no saved_model.pb.{hint}")
    if path.name == "saved_model.pb":
        raise UsageError(
            f"{path} is part of a SavedModel. Pass its folder: {path.parent or Path('.')}."
        )
    kind = _EXTENSIONS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(
            f"{path} has an unknown extension {path.suffix!r}. Known: "
            f"{', '.join(_EXTENSIONS)} and SavedModel folders."
        )
    return kind


def _load_tflite(content: bytes, path: str | None, signature: str | None, batch: int) -> Source:
    where = path or "the .tflite model"
    content, moved = in_order(content, where)
    model = check_runs(content, where=where)
    flatbuffer.refuse_quantized(model, where)
    before = (len(model.signatures), len(model.graphs))
    key, warnings = flatbuffer.keep_signature(model, signature)
    changed = before != (len(model.signatures), len(model.graphs))
    warnings += moved
    flatbuffer.refuse_strings(model, where)
    widened = flatbuffer.widen_float16(model)
    if widened:
        warnings.append(f"{widened} constants are float16; widened to float32.")
    if static_shapes.needs_resize(model, batch):
        model = static_shapes.make_static(model, batch, where)
        changed = True
    if static_shapes.correct(model) or changed or widened:
        content = model.to_bytes()
        model = check_runs(content, where=where)
    flatbuffer.refuse_empty(model, where)
    return Source(content, "tflite", path, key, layer_names(model), warnings=tuple(warnings))


def _convert(
    request: dict[str, Any],
    kind: str,
    path: str | None,
    batch: int,
    scratch: Path | None,
    progress: Callable[[str], None] | None,
    *,
    source: Any = None,
    cache: Cache | None = None,
) -> Source:
    if scratch is not None and not os.access(scratch, os.W_OK):
        raise UsageError(f"Cannot write to the scratch folder {scratch}.")
    request["batch"] = batch
    key = key_of(request) if cache is not None else None
    found = cache.load(key, request["shown"]) if cache is not None and key else None
    unkept = ""
    if found is not None:
        content, answer = found
    else:
        content, answer = _run(request, kind, scratch, progress, source)
        # What was changed while it was read is not what the key says.
        if cache is not None and key and key == key_of(request):
            unkept = cache.store(key, request["shown"], content, answer)
    model = Model.from_bytes(content, where="what TensorFlow's converter wrote")
    data = Path(path) / REPRESENTATIVE_DATA if path and kind == "saved_model" else None
    return Source(
        content,
        kind,
        path,
        answer["signature"],
        layer_names(model, answer["layers"]),
        data if data is not None and data.is_file() else None,
        answer["checks"],
        tuple(answer["warnings"]),
        answer["timings"],
        found is not None,
        unkept,
    )


def _run(
    request: Mapping[str, Any],
    kind: str,
    scratch: Path | None,
    progress: Callable[[str], None] | None,
    source: Any,
) -> tuple[bytes, dict[str, Any]]:
    """The float `.tflite` and the worker's answer."""
    with temporary_folder("source", scratch) as name:
        folder = Path(name)
        saved: dict[str, Any] = {}
        if source is not None:
            if progress is not None:
                progress("Saving the model")
            saved = memory.save_object(source, kind, folder / "object", request["batch"])
        places = {"scratch": str(folder), "output": str(folder / "float.tflite")}
        answer = client.run_worker({**request, **saved, **places}, folder, progress)
        return (folder / "float.tflite").read_bytes(), answer
