"""The models of a benchmark: files as they are, sources converted with their float form beside."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

from tfq.errors import UsageError, nearest
from tfq.files import read_bytes
from tfq.graph.check import check_structure
from tfq.graph.model import Model

_TFLITE = (".tflite", ".lite")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One model.

    Attributes:
      name: short, unique among the models of a run.
      content: the `.tflite` file.
      model: the same, parsed.
      warnings: what is to be known of it.
    """

    name: str
    content: bytes
    model: Model
    warnings: tuple[str, ...] = ()


def load(
    models: Sequence[Any],
    *,
    data: Any = None,
    scheme: str = "int8",
    signature: str | None = None,
    allow_code: bool = False,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> list[Candidate]:
    """Reads `.tflite` files or bytes; converts everything else, and gives the float model too.

    Args:
      models: paths, bytes or objects, as `tfq.convert_model` takes them.
      data, scheme, signature, allow_code, cache, progress: of the conversions. Without data a
        SavedModel's own is taken, or random samples.

    Raises:
      UsageError: there is no model, a path leads nowhere, or data is given for no source.
      TfqError: what reading and converting raise.
    """
    if isinstance(models, str | bytes | os.PathLike) or not isinstance(models, Sequence):
        models = [models]
    if not models:
        raise UsageError("There is no model to measure. Give at least one.")
    for m in models:
        if isinstance(m, str | os.PathLike) and not os.path.exists(m):
            folder, base = os.path.split(os.fspath(m))
            siblings = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
            raise UsageError(f"There is no model at {m}.{nearest(base, siblings)}")
    found: list[Candidate] = []
    sources: list[tuple[str, Any]] = []
    taken: set[str] = set()
    for i, m in enumerate(models):
        name = _name(m, i, taken)
        taken.add(name)
        content = _read(m)
        if content is None:
            sources.append((name, m))
            found.append(Candidate(name, b"", Model([], [])))  # Its place.
        else:
            where = os.fspath(m) if isinstance(m, str | os.PathLike) else "the model"
            found.append(Candidate(name, content, parse(content, where)))
    if data is not None and not sources:
        raise UsageError(
            "data is for converting a source, and there is none: every model is a .tflite file, "
            "which is measured on random inputs. Leave it out."
        )
    # What may be damaged and needs no TensorFlow was read before anything is converted.
    made = {
        name: _convert(name, m, data, scheme, signature, allow_code, cache, progress)
        for name, m in sources
    }
    return [each for c in found for each in made.get(c.name, [c])]


def parse(content: bytes, where: str) -> Model:
    """Parses a file and checks what the interpreter trusts.

    Raises:
      ModelError: it is damaged.
    """
    model = Model.from_bytes(content, where=where)
    check_structure(model, where)
    return model


def _read(source: Any) -> bytes | None:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        if os.path.splitext(source)[1].lower() in _TFLITE and not os.path.isdir(source):
            return read_bytes(os.fspath(source))
    return None


def _convert(
    name: str,
    source: Any,
    data: Any,
    scheme: str,
    signature: str | None,
    allow_code: bool,
    cache: str | os.PathLike[str] | None,
    progress: Callable[[str, int, int | None], None] | None,
) -> list[Candidate]:
    from tfq.convert import convert_model
    from tfq.data.opening import saved_data_path

    own = isinstance(source, str | os.PathLike) and saved_data_path(source) is not None
    common: dict[str, Any] = {
        "signature": signature,
        "allow_code": allow_code,
        "cache": cache,
        "progress": progress,
    }
    floats = convert_model(source, scheme="float32", **common)
    made = convert_model(
        source, data if data is not None or own else "synthetic", scheme=scheme, **common
    )
    return [
        Candidate(f"{name} {kind}", r.model, parse(r.model, name), tuple(r.summary["warnings"]))
        for kind, r in (("float32", floats), (scheme, made))
    ]


def _name(source: Any, index: int, taken: set[str]) -> str:
    """The last part of a path; with folders before it, or a number behind, where one is taken."""
    if not isinstance(source, str | os.PathLike):
        return f"model {index + 1}"
    parts = os.path.abspath(source).split(os.sep)
    for depth in range(1, len(parts)):
        name = os.sep.join(parts[-depth:])
        if name not in taken:
            return name
    return f"{parts[-1]} ({index + 1})"
