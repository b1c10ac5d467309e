"""The integers that a plan gives some constants: as JSON, and as a file beside the plan's.

The file is an `.npz` of whole numbers, the same bytes for the same integers. It is named after
what is in it, so that a plan and its arrays are never of two different runs: a new plan takes the
place of an old one in one rename, whatever moment the process ends at.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import UsageError
from tfq.files import ARRAY_DAMAGE, read_bytes
from tfq.graph.notes import GARBLED

Arrays = Mapping[str, np.ndarray]

_DTYPES = ("int8", "int16", "int32", "int64")
_MOST_DIMENSIONS = 8
# A .tflite holds no more.
_MOST_BYTES = 2**31
_DAMAGE = (OSError, *ARRAY_DAMAGE)


def equal(a: Arrays, b: Arrays) -> bool:
    """Whether two sets have the same names, dtypes, shapes and integers."""
    return a.keys() == b.keys() and all(
        v.dtype == b[n].dtype and np.array_equal(v, b[n]) for n, v in a.items()
    )


def as_json(arrays: Arrays) -> dict[str, Any]:
    """Every array as what JSON can hold."""
    return {
        name: {"dtype": str(a.dtype), "shape": list(a.shape), "values": a.reshape(-1).tolist()}
        for name, a in arrays.items()
    }


def from_json(body: Mapping[str, Any]) -> np.ndarray:
    """One array that `as_json` wrote, or a person.

    Raises:
      ValueError, KeyError, TypeError: it is none.
    """
    dtype, shape, values = body["dtype"], body["shape"], body["values"]
    if dtype not in _DTYPES:
        raise ValueError(f"'dtype' is none of {', '.join(_DTYPES)}: {dtype!r}")
    if not isinstance(values, list) or not all(type(v) is int for v in values):
        raise ValueError("'values' is not a list of whole numbers")
    sizes = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not sizes or len(shape) > _MOST_DIMENSIONS or math.prod(shape) != len(values):
        raise ValueError(f"'shape' is not that of {len(values)} values: {shape!r}")
    limits = np.iinfo(dtype)
    if bad := [v for v in values if not limits.min <= v <= limits.max]:
        raise ValueError(f"{bad[0]} is no {dtype}")
    return np.array(values, dtype).reshape(shape)


def pack(arrays: Sequence[np.ndarray]) -> bytes:
    """The file's bytes: the arrays in order."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, array in enumerate(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            # A ZipInfo of its own has no time in it.
            info = zipfile.ZipInfo(f"{i}.npy")
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def unpack(content: bytes) -> list[np.ndarray]:
    """What `pack` wrote.

    Raises:
      ValueError: it is something else, damaged, or larger than any model.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(m.file_size for m in members) > _MOST_BYTES:
                raise ValueError("it is larger than any model")
            if [m.filename for m in members] != [f"{i}.npy" for i in range(len(members))]:
                raise ValueError("its members have other names")
            return [_read_array(archive.read(m)) for m in members]
    except _DAMAGE as e:
        raise ValueError(f"{type(e).__name__}: {e}") from None


def _read_array(member: bytes) -> np.ndarray:
    """One array, its header not believed: numpy would allocate whatever it says."""
    stream = io.BytesIO(member)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array of another format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if str(dtype) not in _DTYPES or fortran or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"an array that is not of whole numbers: {dtype}")
    data = member[stream.tell() :]
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array that is not of its shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape)


def beside(path: str, content: bytes) -> tuple[str, str]:
    """The name of the file of arrays beside the plan at `path`, and its SHA-256."""
    digest = hashlib.sha256(content).hexdigest()
    return _name(path, digest), digest


def _name(path: str, digest: str) -> str:
    stem = os.path.splitext(os.path.basename(path))[0]
    return f"{stem}.{digest[:12]}.npz"


def written_beside(path: str) -> str | None:
    """The file of arrays that was written with the plan at `path`; None where there is none."""
    if not os.path.isfile(path):
        return None
    try:
        section = json.loads(read_bytes(path))["arrays"]
        name = file_of(section)
        # A file of another name is not for tfq to remove.
        ours = name == _name(path, section["sha256"])
    except (UsageError, *GARBLED):
        return None
    return os.path.join(os.path.dirname(path), name) if ours else None


def file_of(section: object) -> str:
    """The name of the file of arrays that a plan's JSON gives.

    Raises:
      ValueError, KeyError, TypeError: it gives none, or one in another folder.
    """
    if not isinstance(section, dict):
        raise ValueError(f"'arrays' is not a section: {section!r}")
    name = section["file"]
    # What a plan names is read, so that it may name a neighbour only.
    if not isinstance(name, str) or not name.endswith(".npz") or name != os.path.basename(name):
        raise ValueError(f"'file' is no name of an .npz file: {name!r}")
    if "\0" in name:
        raise ValueError(f"'file' is no name of an .npz file: {name!r}")
    return name


def read_beside(path: str, section: Any) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of the plan at `path`.

    Args:
      path: of the plan's JSON.
      section: its "arrays": the file, its SHA-256, and the names of "biases" and "weights".

    Raises:
      UsageError: there is no such file, it is another plan's, or damaged.
    """
    try:
        where = os.path.join(os.path.dirname(path), file_of(section))
        digest = section["sha256"]
        kinds = {kind: section.get(kind, []) for kind in ("biases", "weights")}
        for names in kinds.values():
            if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
                raise ValueError(f"not a list of names: {names!r}")
            if len(set(names)) != len(names):
                raise ValueError("a name twice")
    except GARBLED as e:
        raise UsageError(
            f"{path} lacks or garbles a field (in 'arrays': {type(e).__name__}: {e}). "
            "Compare it with one written by --plan_out."
        ) from None
    if not os.path.isfile(where):
        raise UsageError(
            f"There is no file {where}, which holds the biases and weights of {path}. "
            "Copy both files, or make a new plan with --plan_out."
        )
    content = read_bytes(where) if os.path.getsize(where) <= _MOST_BYTES else b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise UsageError(
            f"{where} is not the file that {path} was written with. Copy both files of one plan, "
            "or make a new one with --plan_out."
        )
    try:
        arrays = iter(unpack(content))
        found = {kind: {n: next(arrays) for n in names} for kind, names in kinds.items()}
        if next(arrays, None) is not None:
            raise ValueError("it holds more arrays than the plan names")
    except (*GARBLED, StopIteration, RuntimeError, MemoryError, SyntaxError) as e:
        raise UsageError(
            f"{where} cannot be read ({type(e).__name__}: {e}). Make a new plan with --plan_out."
        ) from None
    return found
