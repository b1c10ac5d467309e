"""The models that are compared: loaded, named, and with inputs and outputs that belong together."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfq.data import check_signature
from tfq.data.fit import aliases
from tfq.errors import ModelError, UsageError, nearest
from tfq.files import read_bytes
from tfq.graph.check import check_runs
from tfq.graph.integers import float_tensors
from tfq.graph.interface import ArgSpec, Interface, read_interface
from tfq.graph.model import Model
from tfq.graph.numerics import LIMITS
from tfq.plan.config_record import read_config
from tfq.rewrite.split_output import split_outputs
from tfq.sources import Cache, Source, in_order, load_source
from tfq.sources.layers import layer_names

_WIDE = ("int16",)


@dataclasses.dataclass(frozen=True)
class ComparedModel:
    """One model.

    Attributes:
      name: short and unique among the models of a run.
      path: the file or folder, or None for bytes and objects.
      model: `.tflite` bytes that run; of a source model, its float conversion.
      file: the file's own bytes where the model is a `.tflite`, which `model` may differ from in
        shapes that the file leaves open and in the order of ops; else the same as `model`.
      kind: "float32", "float16", "int8", "int16", or "mixed" where float ops are left.
      interface: names, shapes and types of its inputs and outputs.
      inputs: the reference's argument name -> this model's tensor name.
      outputs: the reference's output name -> this model's tensor name.
      layer_names: layer path by tensor name, where names hold one.
      cached: whether its float conversion was made by an earlier run.
    """

    name: str
    path: str | None
    model: bytes
    file: bytes
    kind: str
    interface: Interface
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    layer_names: Mapping[str, str]
    cached: bool = False

    @property
    def is_float(self) -> bool:
        return self.kind == "float32"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The models of a run, the reference first.

    Attributes:
      models: in the order of the report.
      specs: the inputs in real numbers, as data is given.
      outputs: names of the outputs, those of the reference.
      warnings: what was taken to mean the same without its name saying so, and what loading says.
    """

    models: tuple[ComparedModel, ...]
    specs: tuple[ArgSpec, ...]
    outputs: tuple[ArgSpec, ...]
    warnings: tuple[str, ...] = ()

    @property
    def reference(self) -> ComparedModel:
        return self.models[0]


def load_models(
    models: Sequence[Any],
    reference: Any = None,
    *,
    signature: str | None = None,
    cache: Cache | None = None,
    allow_code: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Loads the models and finds which inputs and outputs mean the same.

    Args:
      models: what `tfq.sources.load_source` takes, and quantized `.tflite` files or bytes.
      reference: the model that the others are compared with, one of `models` or another; None for
        the first float one, else the first.
      signature: which signature of each model.
      cache: float conversions that were made before.
      allow_code: whether code that a file contains may run.
      progress: called with a line for each stage.

    Raises:
      UsageError: no model, an unknown path, or the reference cannot be found.
      ModelError: a model is damaged, or its inputs or outputs are not those of the reference.
    """
    if isinstance(models, str | bytes | os.PathLike) or not isinstance(models, Sequence):
        models = [models]
    if not models and reference is None:
        raise UsageError("There is no model to evaluate. Give at least one.")
    given = list(models)
    chosen: int | None = None
    if reference is not None:
        chosen = next((i for i, m in enumerate(given) if _same_thing(m, reference)), None)
        if chosen is None:
            given, chosen = [reference, *given], 0
    for m in given:
        _check_there(m)
        check_signature(m, signature)
    # What may be damaged and needs no TensorFlow is read before anything is converted.
    files = {i: _read(m, signature) for i, m in enumerate(given)}
    loaded = [
        files[i] or _convert(m, signature, allow_code, cache, progress) for i, m in enumerate(given)
    ]
    names = _names([m.path for m in loaded])
    loaded, warnings = _split_alike(loaded, names, signature)
    if chosen is None:
        kinds = [m.kind for m in loaded]
        chosen = next((kinds.index(k) for k in ("float32", "float16") if k in kinds), 0)
    order = [chosen, *(i for i in range(len(loaded)) if i != chosen)]
    first = read_interface(Model.from_bytes(loaded[chosen].model), signature)
    compared = []
    warnings += dict.fromkeys(warning for found in loaded for warning in found.warnings)
    for i in order:
        found = loaded[i]
        model = Model.from_bytes(found.model)
        interface = read_interface(model, signature if signature in _keys(model) else None)
        compared.append(
            ComparedModel(
                names[i],
                found.path,
                found.model,
                found.file,
                found.kind,
                interface,
                _match(first.inputs, interface.inputs, names[i], names[chosen], "input", warnings),
                _match(
                    first.outputs, interface.outputs, names[i], names[chosen], "output", warnings
                ),
                found.layers,
                found.cached,
            )
        )
    specs = _real(first, Model.from_bytes(loaded[chosen].model))
    return Comparison(tuple(compared), specs, first.outputs, tuple(warnings))


def _split_alike(
    loaded: Sequence[_Loaded], names: Sequence[str], signature: str | None
) -> tuple[list[_Loaded], list[str]]:
    """Splits outputs of all models where one of them was made so, or they could not be compared.

    Raises:
      ModelError: the outputs of one cannot be split like that.
    """
    made_with = [
        tuple(read_config(Model.from_bytes(m.file)).get("split_output") or ()) for m in loaded
    ]
    first = next((i for i, split in enumerate(made_with) if split), None)
    if first is None:
        return list(loaded), []
    split, found, others = made_with[first], [], []
    flag = f"--split_output={','.join(split)}"
    for m, own, name in zip(loaded, made_with, names, strict=True):
        if own == split:
            found.append(m)
            continue
        known = _keys(Model.from_bytes(m.model))
        try:
            model = split_outputs(m.model, split, signature if signature in known else None)
        except UsageError as e:
            raise ModelError(
                f"{names[first]} was made with {flag}, and the outputs of {name} cannot be split "
                f"like it ({e}) Compare it with its own source."
            ) from None
        found.append(dataclasses.replace(m, model=model))
        others.append(name)
    told = (
        f"{names[first]} was made with {flag}: the outputs of {', '.join(others)} are split, too."
    )
    return found, [told] if others else []


def _keys(model: Model) -> set[str | None]:
    return {s.key for s in model.signatures} or {None}


def _same_thing(a: Any, b: Any) -> bool:
    if isinstance(a, str | os.PathLike) and isinstance(b, str | os.PathLike):
        return os.path.realpath(a) == os.path.realpath(b)
    return a is b


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """A model as it was found; see `ComparedModel`."""

    model: bytes
    file: bytes
    path: str | None
    kind: str
    layers: Mapping[str, str]
    cached: bool = False
    warnings: tuple[str, ...] = ()


def _check_there(source: Any) -> None:
    """Fails before any model is converted if one of them is not there."""
    if isinstance(source, str | os.PathLike) and not os.path.exists(source):
        folder, base = os.path.split(os.fspath(source))
        siblings = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
        raise UsageError(f"There is no model at {source}.{nearest(base, siblings)}")


def _read(source: Any, signature: str | None) -> _Loaded | None:
    """A `.tflite` file or bytes; None for what has to be converted."""
    content = None
    path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    if path is not None and os.path.splitext(path)[1].lower() in (".tflite", ".lite"):
        content = read_bytes(path)
    elif isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
    if content is None:
        return None
    model = Model.from_bytes(content, where=path or "the model")
    kind = kind_of(model)
    open_shapes = any(-1 in (t.signature or ()) for t in model.main.inputs)
    if kind != "float32" and not (kind == "float16" and open_shapes):
        # As a float one is: kernels may answer what is in a damaged file by ending the process.
        ordered, moved = in_order(content, path or "the model")
        model = check_runs(ordered, where=path or "the model")
        return _Loaded(ordered, content, path, kind, layer_names(model), warnings=tuple(moved))
    loaded = load_source(source, signature=signature)
    return _Loaded(
        loaded.model,
        content,
        path,
        "float32",
        loaded.layer_names,
        warnings=loaded.warnings,
    )


def _convert(
    source: Any,
    signature: str | None,
    allow_code: bool,
    cache: Cache | None,
    progress: Callable[[str], None] | None,
) -> _Loaded:
    made: Source = load_source(
        source, signature=signature, allow_code=allow_code, cache=cache, progress=progress
    )
    return _Loaded(
        made.model,
        made.model,
        made.path,
        "float32",
        made.layer_names,
        made.cached,
        (*made.warnings, *filter(None, [made.unkept])),
    )


def kind_of(model: Model) -> str:
    """ "float32", "float16" (weights), "int8", "int16", or "mixed" where it computes in float too.

    Float inputs and outputs before and behind integer ops leave a model what it is inside.
    """
    quantized = [
        t
        for g in model.graphs
        for t in g.tensors()
        if t.quant is not None and t.dtype in LIMITS and t.dtype not in ("int32", "int64")
    ]
    if not quantized:
        halves = any(t.dtype == "float16" for g in model.graphs for t in g.tensors())
        return "float16" if halves else "float32"
    ends = {*model.main.inputs, *model.main.outputs}
    if any(f.tensor not in ends for f in float_tensors(model)):
        return "mixed"
    wide = sum(t.dtype in _WIDE for t in quantized if not t.is_const)
    # A few layers of an int16 model are int8 by their kernels; an int8 model may have many in 16.
    return "int16" if wide >= 0.9 * sum(not t.is_const for t in quantized) else "int8"


def _names(paths: Sequence[str | None]) -> list[str]:
    """Short names: the last part of a path, with its folder where two are alike."""
    names = []
    for i, path in enumerate(paths):
        if path is None:
            names.append(f"model {i + 1}" if len(paths) > 1 else "model")
            continue
        parts = os.path.abspath(path).split(os.sep)
        names.append(parts[-1])
        alike = [
            p for p in paths if p is not None and os.path.basename(os.path.abspath(p)) == parts[-1]
        ]
        if len(alike) > 1 and len(parts) > 1:
            names[-1] = os.sep.join(parts[-2:])
    counts = collections.Counter(names)
    seen: collections.Counter[str] = collections.Counter()
    for i, name in enumerate(names):
        seen[name] += 1
        if counts[name] > 1 and seen[name] > 1:
            names[i] = f"{name} ({seen[name]})"
    return names


def _match(
    wanted: Sequence[ArgSpec],
    found: Sequence[ArgSpec],
    name: str,
    reference: str,
    what: str,
    warnings: list[str],
) -> dict[str, str]:
    """The reference's argument names -> tensor names of another model's arguments.

    By name, with or without what TensorFlow puts around one; else by shape where all differ; else
    outputs by position, which is said.

    Raises:
      ModelError: their number or shapes do not belong together, or inputs cannot be told apart.
    """
    if len(wanted) != len(found):
        raise ModelError(
            f"{name} has other {what}s than {reference}: {_listed(found)} against "
            f"{_listed(wanted)}. Compare models that were made from the same one."
        )
    batched = any(a.batched for a in wanted)

    def row(a: ArgSpec) -> tuple[int, ...]:
        return a.shape[1:] if batched else a.shape

    pairs = _pairs(wanted, found, row)
    if pairs is None:
        pairs = list(zip(wanted, found, strict=True))
        shown = ", ".join(f"{b.name} as {a.name}" for a, b in pairs)
        if what == "input":
            raise ModelError(
                f"Which {what} of {name} is which of {reference} cannot be told: names differ and "
                f"shapes are alike ({_listed(found)} against {_listed(wanted)}). Convert with the "
                "same signature, so that names are the same."
            )
        warnings.append(f"The outputs of {name} have other names, and are taken in order: {shown}.")
    for a, b in pairs:
        if row(a) != row(b) or len(a.shape) != len(b.shape):
            raise ModelError(
                f"The {what} {b.name!r} of {name} has shape {list(b.shape)}, and {a.name!r} of "
                f"{reference} has {list(a.shape)}. Compare models that were made from the same one."
            )
    return {a.name: b.tensor_name for a, b in pairs}


def _pairs(
    wanted: Sequence[ArgSpec],
    found: Sequence[ArgSpec],
    row: Callable[[ArgSpec], tuple[int, ...]],
) -> list[tuple[ArgSpec, ArgSpec]] | None:
    """What belongs together by name, or by shape where no two are alike."""
    for names in (lambda a: a.name, lambda a: aliases(a)[-1], row):
        by_name = {names(a): a for a in found}
        keys = [names(a) for a in wanted]
        if len(by_name) == len(set(keys)) == len(wanted) and all(k in by_name for k in keys):
            return [(a, by_name[k]) for a, k in zip(wanted, keys, strict=True)]
    return list(zip(wanted, found, strict=True)) if len(wanted) == 1 else None


def _listed(arguments: Sequence[ArgSpec]) -> str:
    return ", ".join(f"{a.name} {list(a.shape)}" for a in arguments)


def _real(interface: Interface, model: Model) -> tuple[ArgSpec, ...]:
    """The inputs as data is given: real numbers where the model takes integers on a grid."""
    tensors = {t.name: t for t in model.main.inputs}
    return tuple(
        dataclasses.replace(a, dtype="float32")
        if (t := tensors.get(a.tensor_name)) is not None and t.quant is not None
        else a
        for a in interface.inputs
    )
