"""Running a model on many samples: in batches where it allows them, in real numbers in and out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from tfq.errors import ModelError, TfqError
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.check import run_in_child
from tfq.graph.model import Model
from tfq.graph.rebatch import is_stateful, with_free_batch
from tfq.runtime import Runner

Arrays = Mapping[str, np.ndarray]

_MOST = 64
# Activations of a batch beyond this leave the processor's cache, and batches stop paying.
_CACHE_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True)
class Runnable:
    """A model in the form in which it takes samples fastest; picklable.

    Attributes:
      model: `.tflite` bytes; their results are those of the file for every sample.
      rows: samples of one run.
      resized: whether `rows` is a size that the model was resized to, and not its own.
      stateful: whether its state is reset before every run.
    """

    model: bytes
    rows: int
    resized: bool
    stateful: bool


def as_written(model: bytes, batched: bool) -> Runnable:
    """The model as the file has it.

    Args:
      model: the file's bytes.
      batched: whether the leading dimension of its inputs counts samples.
    """
    read = Model.from_bytes(model)
    own = read.main.inputs[0].shape[0] if batched else 1
    return Runnable(model, max(1, own), False, is_stateful(read))


def in_batches(model: bytes, batched: bool, samples: Arrays) -> Runnable:
    """The model with as many samples a run as help, where that changes no result.

    Tried, not assumed: both ways are run on `samples`, and integers must be the same to the bit,
    floats to rounding.

    Args:
      model: the file's bytes.
      batched: whether the leading dimension of its inputs counts samples.
      samples: tensor name -> real values [n, ...] of a few samples, two at least to learn anything.
    """
    plain = as_written(model, batched)
    read = Model.from_bytes(model)
    free = with_free_batch(read) if batched and plain.rows == 1 else None
    count = len(next(iter(samples.values())))
    if free is None or count < 2:
        return plain
    # A sample's activations, as the file's types take them.
    size = sum(t.size * _item(t.dtype) for t in read.main.tensors() if not t.is_const)
    rows = 1 << int(math.log2(min(_MOST, max(1, _CACHE_BYTES // max(size, 1)))))
    if rows == 1:
        return plain
    wide = Runnable(free.to_bytes(), rows, True, False)
    few = {name: values[:4] for name, values in samples.items()}
    try:
        run_in_child(wide.model, where="the model in batches", kernels=("xnnpack",), batch=rows)
        one_by_one, together = Evaluated(plain)(few), Evaluated(wide)(few)
    except (TfqError, ValueError):
        return plain
    return wide if all(_same(one_by_one[n], together[n]) for n in one_by_one) else plain


def _item(dtype: str) -> int:
    return {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int64": 8}.get(dtype, 4)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    if np.array_equal(a, b):
        return True
    size = float(np.max(np.abs(a), initial=0.0)) if a.dtype.kind == "f" else 0.0
    return size > 0 and float(np.max(np.abs(a - b))) <= 1e-5 * size


class Evaluated:
    """A runnable with its interpreter: real samples in, real outputs out.

    Args:
      runnable: what to run.
      threads: CPU threads of the interpreter; None for the default of `Runner`.
    """

    def __init__(self, runnable: Runnable, threads: int | None = None):
        self._rows, self._stateful = runnable.rows, runnable.stateful
        self._model = Model.from_bytes(runnable.model)
        self._feed = InputQuantizer(self._model)
        batch = runnable.rows if runnable.resized else None
        self._runner = Runner(runnable.model, threads=threads, batch=batch)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._whole = {d["name"]: tuple(int(n) for n in d["shape"]) for d in self._runner.inputs}

    def __call__(self, samples: Arrays) -> dict[str, np.ndarray]:
        """Runs samples of any number.

        Args:
          samples: tensor name -> real values [n, ...].

        Returns:
          Tensor name -> real values [n, ...].
        """
        count = len(next(iter(samples.values())))
        parts: dict[str, list[np.ndarray]] = {t.name: [] for t in self._model.main.outputs}
        for start in range(0, count, self._rows):
            taken = min(self._rows, count - start)
            # Quantized batch by batch: what a batch needs stays in the cache.
            fed = self._feed({name: v[start : start + taken] for name, v in samples.items()})
            batch = {name: self._batch(name, v) for name, v in fed.items()}
            if self._stateful:
                self._runner.restart()
            for name, value in self._runner.run(batch).items():
                whole = value if value.ndim else value[np.newaxis]
                shared = whole.shape[0] == self._rows
                if not shared and self._rows > 1:
                    raise ModelError(
                        f"The output {name!r} has shape {list(value.shape)} for {self._rows} "
                        "samples: which part belongs to which sample cannot be told. Convert the "
                        "model with a batch of 1."
                    )
                parts[name].append(whole[:taken] if shared else whole[np.newaxis])
                self._check_fixed(name, parts[name][-1].shape[1:])
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        return dequantized(self._model, joined)

    def _check_fixed(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises ModelError where an output is of another shape than for samples before."""
        first = self._shapes.setdefault(name, shape)
        if shape != first:
            raise ModelError(
                f"The output {name!r} has the shape {list(first)} for one sample and {list(shape)} "
                "for another: its size depends on the values, so models cannot be compared by it. "
                "Leave out the op that selects (WHERE, non-maximum suppression), or pad its result."
            )

    def _batch(self, name: str, values: np.ndarray) -> np.ndarray:
        """Fills the last batch with copies: a run always has the same shape."""
        shape = self._whole[name]
        if len(values) < self._rows:
            values = values[np.arange(self._rows) % len(values)]
        return values.reshape(shape)
