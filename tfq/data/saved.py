"""Representative samples inside a SavedModel, so that the folder alone converts."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfq.data.arrays import npz_columns
from tfq.data.columns import Column, memory_columns
from tfq.data.fit import Fitter
from tfq.data.labels import output_of
from tfq.data.opening import SAVED_NAME, open_data
from tfq.data.protos import message_class
from tfq.data.source import Sample
from tfq.errors import DataError, TfqError, UsageError, nearest
from tfq.files import atomic_writer, explain
from tfq.graph.interface import ArgSpec, counts_samples

# TensorFlow's DataType enum (types.proto), as far as inputs can be converted.
_DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 9: "int64",
    10: "bool", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
_COPY_BYTES = 1 << 20
_MOST = 256


def save_representative_dataset(
    saved_model_dir: str | os.PathLike[str],
    data: Any,
    *,
    limit: int | None = None,
    inputs: Sequence[str | ArgSpec] | None = None,
) -> Path:
    """Writes samples (and their labels) into a SavedModel folder, as `assets.extra/tfq_*.npz`.

    `python -m tfq.convert saved_model_dir/` then needs no `--data`. The samples are checked against
    the SavedModel's signature, which is read without TensorFlow; one at a time is in memory.

    Args:
      saved_model_dir: the folder with `saved_model.pb`.
      data: whatever `tfq.data.open_data` takes.
      limit: writes at most so many samples; without it 256, with a warning when there are more.
      inputs: names of the inputs in the order of `data` where it goes by order (lists of arrays
        for a model with several inputs), or their full description where the SavedModel has no
        signature.

    Returns:
      The path of the file.

    Raises:
      UsageError: the folder is no SavedModel, or names are needed.
      DataError: the samples cannot be read or do not fit.
      TfqError: the file cannot be written.
    """
    folder = Path(saved_model_dir)
    if not (folder / "saved_model.pb").is_file():
        what = "has no saved_model.pb" if folder.is_dir() else "is no folder"
        raise UsageError(f"{folder} is not a SavedModel: it {what}. Save the model first.")
    specs = _specs(folder, data, inputs)
    most = limit or _MOST
    # Without a limit, one more shows that there are more.
    source = open_data(data, specs, limit=_MOST + 1 if limit is None else limit)
    if source.has_labels and any(s.name == "y" for s in specs):
        raise DataError("Labels are stored as 'y', and an input has that name. Leave them out.")
    path = folder / SAVED_NAME
    batched = Fitter(specs).batched
    count = 0
    try:
        with _Spools(folder) as spools:
            for sample in source:
                for name, array in _rows(sample, batched).items():
                    spools.append(name, array[: most - count], source.description)
                count += sample.real
            path.parent.mkdir(exist_ok=True)
            with atomic_writer(path) as stream:
                spools.write(stream)
    except OSError as e:  # Readers raise DataErrors, so this is the writing.
        raise TfqError(f"Cannot write {path}: {explain(e)}") from None
    if count > most:
        warnings.warn(
            f"{source.name} has more than {most} samples, and {most} are stored in {path}. "
            "limit=N stores as many as you say.",
            stacklevel=2,
        )
    return path


def _rows(sample: Sample, batched: bool) -> dict[str, np.ndarray]:
    """The arrays of one sample, with an axis for the samples in front."""
    rows = {n: (a[: sample.real] if batched else a[np.newaxis]) for n, a in sample.inputs.items()}
    if sample.label is not None:
        rows["y"] = sample.label
    return rows


class _Spools:
    """Arrays that grow row by row in temporary files, then go into one `.npz`."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {}
        self._forms: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        self._counts: dict[str, int] = {}

    def __enter__(self) -> _Spools:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, name: str, rows: np.ndarray, what: str) -> None:
        form = (rows.shape[1:], rows.dtype)
        if name not in self._files:
            self._files[name] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            self._forms[name] = form
            self._counts[name] = 0
        if self._forms[name] != form:
            raise DataError(
                f"{what}: all samples must have one shape and dtype to be stored together; "
                f"{name!r} has {self._forms[name]}. Received: {form}."
            )
        self._files[name].write(np.ascontiguousarray(rows).tobytes())
        self._counts[name] += len(rows)

    def write(self, stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in self._files.items():
                # ZipInfo's own date, of 1980, makes the same samples the same bytes.
                info = zipfile.ZipInfo(f"{name}.npy")
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                shape, dtype = self._forms[name]
                with archive.open(info, "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(
                        member,
                        {
                            "descr": np.lib.format.dtype_to_descr(dtype),
                            "fortran_order": False,
                            "shape": (self._counts[name], *shape),
                        },
                    )
                    file.seek(0)
                    while block := file.read(_COPY_BYTES):
                        member.write(block)


def _specs(folder: Path, data: Any, inputs: Sequence[str | ArgSpec] | None) -> tuple[ArgSpec, ...]:
    """The inputs to store samples for: as given, as the signature says, or as the data has."""
    if inputs is not None and all(isinstance(i, ArgSpec) for i in inputs):
        return tuple(i for i in inputs if isinstance(i, ArgSpec))
    signed = {spec.name: spec for spec in _signature(folder)}
    if inputs is not None:
        names = [i.name if isinstance(i, ArgSpec) else i for i in inputs]
        if signed and set(names) != set(signed):
            raise UsageError(
                f"inputs must name the model's inputs, {', '.join(signed)}. "
                f"Received: {', '.join(names)}."
            )
        if signed:
            return tuple(signed[name] for name in names)
    elif signed:
        if len(signed) > 1 and isinstance(data, list | tuple):
            raise UsageError(
                f"The model has {len(signed)} inputs and a list does not say which array is whose. "
                f"Give a dict by name, or inputs=[...] in the list's order: {', '.join(signed)}."
            )
        return tuple(signed.values())
    return tuple(
        ArgSpec(name, name, (1, *column.shape[1:]), column.dtype.name)
        for name, column in _columns(folder, data, inputs).items()
        if name != "y" and output_of(name) is None
    )


def _columns(folder: Path, data: Any, inputs: Sequence[str | ArgSpec] | None) -> dict[str, Column]:
    """The arrays of `data` by name, where nothing else says what the inputs are."""
    names = [str(i) for i in inputs] if inputs else []
    if isinstance(data, Mapping):
        return memory_columns(data, "data")
    if isinstance(data, str | os.PathLike) and os.fspath(data).endswith(".npz"):
        if os.path.exists(data):
            return npz_columns(Path(data))
    if isinstance(data, list | tuple) and len(data) == len(names):
        return memory_columns(dict(zip(names, data, strict=True)), "data")
    if hasattr(data, "__array__"):
        return memory_columns({names[0] if names else "x": data}, "data")
    raise UsageError(
        f"{folder} has no signature that says what the inputs are. Pass "
        f"inputs=[tfq.data.ArgSpec(name, tensor_name, shape, dtype), ...], or a dict of arrays."
    )


def check_signature(source: Any, signature: str | None) -> None:
    """Fails now for a signature that a SavedModel does not have, before it is loaded.

    Args:
      source: a model in any form; what is no SavedModel is left alone.

    Raises:
      UsageError: there is no such signature; the message names those that there are.
    """
    if signature is None or not isinstance(source, str | os.PathLike):
        return
    if not os.path.isfile(Path(source) / "saved_model.pb"):
        return
    try:
        names = list(_signatures(Path(source)))
    except DataError:
        return  # Loading says what is wrong.
    if signature not in names:
        raise UsageError(
            f"The SavedModel {source} has no signature {signature!r}; it has: "
            f"{', '.join(names)}.{nearest(signature, names)}"
        )


def _signatures(folder: Path) -> dict[str, Any]:
    """The signatures of a SavedModel by key."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        data = (folder / "saved_model.pb").read_bytes()
        saved_model = message_class("saved_model", "SavedModel").FromString(data)
    except (OSError, DecodeError) as e:
        raise DataError(f"{folder / 'saved_model.pb'} cannot be read: {e}.") from None
    return {
        entry.key: entry.value
        for graph in saved_model.meta_graphs
        for entry in graph.signature_def
        if not entry.key.startswith("__")
    }


def _signature(folder: Path) -> list[ArgSpec]:
    """Inputs of "serving_default", else of the first signature; batch 1, other open sizes -1."""
    signatures = _signatures(folder)
    if not signatures:
        return []
    chosen = signatures.get("serving_default") or next(iter(signatures.values()))
    shapes = {entry.key: _shape(entry.value) for entry in chosen.inputs}
    outputs = [_shape(entry.value) for entry in chosen.outputs]
    batched = counts_samples(list(shapes.values()), outputs)
    specs = []
    for entry in sorted(chosen.inputs, key=lambda e: e.key):
        info, shape = entry.value, shapes[entry.key]
        dtype = _DTYPES.get(info.dtype, f"of number {info.dtype} in TensorFlow's types.proto")
        specs.append(ArgSpec(entry.key, info.name, shape, dtype, batched))
    return specs


def _shape(info: Any) -> tuple[int, ...]:
    """The shape in a TensorInfo, with a batch of 1 where it is open."""
    shape = [d.size for d in info.tensor_shape.dim]
    return (1, *shape[1:]) if shape[:1] == [-1] else tuple(shape)
