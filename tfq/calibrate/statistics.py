"""The statistics of a model's tensors: the result of calibration, and its file."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping

import numpy as np

from tfq.errors import DataError
from tfq.files import ARRAY_DAMAGE, atomic_writer, read_bytes
from tfq.observe.sketch import MODES, Sketch

_FORMAT = "tfq-statistics"
_VERSION = 1
_LISTS = ("bins", "counts", "minima_bins", "minima_counts", "maxima_bins", "maxima_counts")
_DAMAGE = (*ARRAY_DAMAGE, KeyError, TypeError, MemoryError)


def fingerprint(model: bytes) -> str:
    """The SHA-256 of a model file, as hexadecimal."""
    return hashlib.sha256(model).hexdigest()


@dataclasses.dataclass(frozen=True)
class Statistics(Mapping[str, Sketch]):
    """Sketches by tensor name.

    Attributes:
      sketches: what was seen of each tensor.
      model_sha256: `fingerprint` of the float model that was run.
      samples: how many samples were run.
      mode: "full", or "minmax" without histograms.
    """

    sketches: Mapping[str, Sketch]
    model_sha256: str
    samples: int
    mode: str = "full"

    def __getitem__(self, name: str) -> Sketch:
        return self.sketches[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sketches)

    def __len__(self) -> int:
        return len(self.sketches)

    def check_model(self, model: bytes, where: str = "These statistics") -> None:
        """Raises DataError unless the statistics are of `model`."""
        actual = fingerprint(model)
        if actual != self.model_sha256:
            raise DataError(
                f"{where} were made for another model (SHA-256 {self.model_sha256[:12]}..., this "
                f"model's is {actual[:12]}...). Calibrate this model, or give the model they "
                "belong to."
            )

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of both sets of samples, the same bit for bit in any order.

        Raises:
          DataError: they are of different models, tensors or modes.
        """
        for what, mine, theirs in (
            ("model (SHA-256)", self.model_sha256[:12], other.model_sha256[:12]),
            ("mode", self.mode, other.mode),
        ):
            if mine != theirs:
                raise DataError(
                    f"Statistics of different {what} cannot be merged: {mine} and {theirs}. "
                    "Calibrate the same model in the same mode."
                )
        if odd := sorted(self.sketches.keys() ^ other.sketches.keys()):
            raise DataError(
                f"Statistics of different tensors cannot be merged: {len(odd)} tensors, "
                f"{odd[0]!r} among them, are in one only. Calibrate the same tensors."
            )
        merged = {name: sketch.merge(other[name]) for name, sketch in self.sketches.items()}
        return dataclasses.replace(self, sketches=merged, samples=self.samples + other.samples)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a compressed `.npz` of exactly this name; an existing file is replaced whole.

        Raises:
          TfqError: the file cannot be written (UsageError where its folder does not exist).
        """
        states = [sketch.state() for sketch in self.sketches.values()]
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "model_sha256": self.model_sha256,
            "samples": self.samples,
            "mode": self.mode,
            "tensors": list(self.sketches),
        }
        arrays: dict[str, np.ndarray] = {
            "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
            "count": np.array([s["count"] for s in states], np.int64),
            "extremes": np.array([s["extremes"] for s in states], np.float64).reshape(-1, 2),
        }
        for key in _LISTS:
            dtype = np.uint16 if key.endswith("bins") else np.int64
            arrays[key] = np.concatenate([s[key] for s in states] or [[]]).astype(dtype)
            if key.endswith("bins"):
                arrays[f"{key}_size"] = np.array([s[key].size for s in states], np.int64)
        with atomic_writer(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @staticmethod
    def load(path: str | os.PathLike[str], *, model: bytes | None = None) -> Statistics:
        """Reads what `save` wrote.

        Args:
          path: the file.
          model: the float model the statistics must belong to; None accepts any.

        Raises:
          UsageError: there is no such file, or it cannot be opened.
          DataError: the file is damaged, of a later version, or made for another model.
        """
        where = f"The statistics in {os.fspath(path)!r}"
        content = read_bytes(path)
        try:
            arrays = _arrays(content)
        except _DAMAGE as e:
            raise DataError(f"{where} cannot be read: {e}. Calibrate again.") from None
        try:
            header = json.loads(arrays["header"].tobytes())
            if header["format"] != _FORMAT:
                raise KeyError("format")
            if header["version"] > _VERSION:
                raise DataError(
                    f"{where} are of version {header['version']}, newer than this tfq reads "
                    f"({_VERSION}). Upgrade tfq or calibrate again."
                )
            statistics = _unpack(header, arrays)
        except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as e:
            raise DataError(
                f"{where} are damaged, or not statistics ({type(e).__name__}: {e}). "
                "Calibrate again."
            ) from None
        if model is not None:
            statistics.check_model(model, where)
        return statistics


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    if content[:2] != b"PK":
        raise ValueError("it is not an .npz file")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    # A member whose name or first bytes are not those of an array comes as bytes.
    odd = [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]
    if odd:
        raise ValueError(f"{odd[0]!r} in it is no array")
    return arrays


def _unpack(header: dict, arrays: dict[str, np.ndarray]) -> Statistics:
    if header["mode"] not in MODES:
        raise ValueError(f"mode {header['mode']!r}")
    names, samples = header["tensors"], header["samples"]
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError("the tensors have no names")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
        raise ValueError(f"samples {samples!r}")
    for key, array in arrays.items():
        # Complex numbers, booleans and texts would only fail where they are used.
        wanted = "f" if key == "extremes" else "iu"
        if array.dtype.kind not in wanted or array.ndim != (2 if key == "extremes" else 1):
            raise ValueError(f"{key!r} is {array.dtype}{list(array.shape)}")
    sizes = {key: arrays[f"{key}_size"] for key in _LISTS if key.endswith("bins")}
    starts = {key: np.concatenate([[0], np.cumsum(size)]) for key, size in sizes.items()}
    sketches = {}
    for i, name in enumerate(names):
        state = {
            "mode": header["mode"],
            "count": arrays["count"][i],
            "extremes": arrays["extremes"][i],
        }
        for key in _LISTS:
            start = starts[key.replace("counts", "bins")]
            state[key] = arrays[key][start[i] : start[i + 1]]
        sketches[name] = Sketch.from_state(state)
        if sketches[name].samples not in (0, samples):
            raise ValueError(f"{name!r} was seen in another number of samples")
    return Statistics(sketches, str(header["model_sha256"]), samples, header["mode"])
