"""The counting of layer analysis: one observer for each pair, on samples of the float model."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfq.errors import DataError
from tfq.evaluate.layers.isolation import IsolatedModels
from tfq.evaluate.layers.pairing import Pair, Pairing
from tfq.evaluate.layers.tally import Buffers, Tally
from tfq.graph.model import numpy_dtype
from tfq.observe.loop import observe
from tfq.observe.observer import FLOAT, INTEGER, Observer, Read, Renamed

if TYPE_CHECKING:
    from tfq.executors import Workers

# Samples that a worker gets at once: enough to be worth sending, few enough to keep all busy.
SHARD = 8


@dataclasses.dataclass
class Counts:
    """What was counted: a tally for each pair by its name.

    Attributes:
      samples: how many runs of the model.
      tallies: in the order of the pairs.
    """

    samples: int
    tallies: dict[str, Tally]


def count(
    pairing: Pairing,
    isolated: IsolatedModels,
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    threads: int | None = None,
    workers: Workers | None = None,
    progress: Callable[[int], None] | None = None,
) -> Counts:
    """Runs samples through the float, the isolated and the quantized model.

    Args:
      pairing: the two models.
      isolated: where the isolated values are computed.
      samples: the float model's input tensor name -> the values of one run, or of several.
      threads: CPU threads to use in this process; None for the default of `Runner`.
      workers: where to run, if not in this process alone; the result is the same to the bit.
      progress: called with the number of runs so far.

    Raises:
      DataError: there is no sample, or one does not fit, or becomes NaN or infinite in the float
        model.
    """
    # Written anew, so that the position of a tensor in its graph is its index.
    quantized = Renamed(pairing.quantized.to_bytes(), pairing.input_names)
    at = {t.name: i for i, t in enumerate(pairing.quantized.main.tensors())}
    inputs = {t.name for t in pairing.quantized.main.inputs}
    tallies = {
        p.name: _TallyObserver(p, isolated, at[p.name], is_input=p.name in inputs)
        for p in pairing.pairs
    }
    runs = observe(
        {**{_reference(i): m for i, m in enumerate(isolated.models)}, INTEGER: quantized},
        _runs(pairing, samples),
        list(tallies.values()),
        restart=True,
        ahead=True,
        block=SHARD,
        threads=threads,
        workers=workers,
        progress=progress,
    )
    if not runs:
        raise DataError("Layer analysis was given no samples. Give at least one.")
    return Counts(runs, {name: each.tally for name, each in tallies.items()})


def _reference(i: int) -> str:
    """What the i-th of the isolated models is called; each holds the whole float model."""
    return f"{FLOAT} ({i + 1})" if i else FLOAT


def _runs(
    pairing: Pairing, samples: Iterable[Mapping[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    inputs = {t.name: (t.shape, numpy_dtype(t.dtype)) for t in pairing.float_model.main.inputs}
    for sample in samples:
        arrays: dict[str, np.ndarray] = {}
        for name, (shape, dtype) in inputs.items():
            if name not in sample:
                raise DataError(f"The samples lack input {name!r}.")
            values = np.asarray(sample[name])
            size = int(np.prod(shape, dtype=np.int64))
            if not size or not values.size or values.size % size:
                raise DataError(
                    f"Input {name!r} takes {dtype}{list(shape)}. Received: "
                    f"{values.dtype}{list(values.shape)}."
                )
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise DataError(
                    f"Input {name!r} holds NaN or infinite values. Remove or repair that sample."
                )
            arrays[name] = values.astype(dtype, copy=False).reshape(-1, *shape)
        counts = {len(a) for a in arrays.values()}
        if len(counts) > 1:
            raise DataError("The inputs hold different numbers of samples.")
        for i in range(counts.pop() if counts else 1):
            yield {n: a[i] for n, a in arrays.items()}


_scratch = threading.local()


class _TallyObserver(Observer):
    """Tallies one pair: its float tensor, and the quantized one alone and as the model runs.

    Histograms are counted in the first half, beside the errors of the sample before: those alone
    are many short numpy calls, which threads of one process cannot share (measured: two take as
    long as one).
    """

    def __init__(self, p: Pair, isolated: IsolatedModels, index: int, *, is_input: bool):
        model, alone = isolated.index.get(p.name, (None, -1))
        reference = _reference(model or 0)
        self._is_input = is_input
        self._has_isolated = model is not None
        tensors = [Read(isolated.float_index[p.name], reference), Read(index, INTEGER)]
        self.tensors = [*tensors, Read(alone, reference)] if self._has_isolated else tensors
        self.tally = Tally(p.grid, p.shape)

    def look(self, number: int, values: Sequence[np.ndarray]) -> None:
        self.tally.count_values(values[0], values[1])

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        expected, accumulated = values[:2]
        # An input is rounded alone whether or not the model runs.
        isolated = accumulated if self._is_input else None
        if self._has_isolated:
            isolated = values[2]
        if not hasattr(_scratch, "buffers"):
            _scratch.buffers = Buffers()
        self.tally.add_errors(expected, isolated, accumulated, _scratch.buffers)

    def merge(self, other: Observer) -> None:
        assert isinstance(other, _TallyObserver)
        self.tally.merge(other.tally)
