"""The part of layer analysis that workers do: run samples through both models, and count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tfq.errors import DataError, ModelError, TfqError
from tfq.evaluate.layers.isolation import IsolatedModels
from tfq.evaluate.layers.pairing import Pairing
from tfq.evaluate.layers.tally import Buffers, Tally
from tfq.graph.model import numpy_dtype
from tfq.graph.numerics import LIMITS, Grid, quantize
from tfq.runtime import Runner


@dataclasses.dataclass
class Partial:
    """What was counted of some samples: a tally for each pair by its name.

    Attributes:
      samples: how many runs of the model.
      tallies: in the order of the pairs.
    """

    samples: int
    tallies: dict[str, Tally]


def merge(partials: Iterable[Partial]) -> Partial:
    """The counts of all samples; the same to the bit in any order.

    Raises:
      DataError: there are none.
    """
    total: Partial | None = None
    for part in partials:
        if total is None:
            # A copy: what was given stays as it is.
            tallies = {n: Tally(t.grid, t.shape) for n, t in part.tallies.items()}
            total = Partial(0, tallies)
        total.samples += part.samples
        for name, tally in total.tallies.items():
            tally.merge(part.tallies[name])
    if total is None or not total.samples:
        raise DataError("Layer analysis was given no samples. Give at least one.")
    return total


@dataclasses.dataclass(frozen=True)
class _Watched:
    """One pair, by index in the interpreters; `model` is that of the isolated values."""

    name: str
    float_name: str
    grid: Grid
    shape: tuple[int, ...]
    float_index: int
    model: int | None
    isolated: int
    accumulated: int
    is_input: bool


class LayerWork:
    """Runs samples through the float, the isolated and the quantized model; for `tfq.executors`.

    Args:
      pairing: the two models.
      isolated: where the isolated values are computed.
    """

    def __init__(self, pairing: Pairing, isolated: IsolatedModels):
        self.models = isolated.models
        # Written anew, so that the position of a tensor in its graph is its index.
        self.quantized = pairing.quantized.to_bytes()
        main = pairing.quantized.main
        at = {t.name: i for i, t in enumerate(main.tensors())}
        inputs = {t.name for t in main.inputs}
        self.watched = []
        for p in pairing.pairs:
            model, index = isolated.index.get(p.name, (None, -1))
            self.watched.append(
                _Watched(
                    p.name,
                    p.float_name,
                    p.grid,
                    p.shape,
                    isolated.float_index[p.name],
                    model,
                    index,
                    at[p.name],
                    p.name in inputs,
                )
            )
        float_inputs = pairing.float_model.main.inputs
        self.inputs = {t.name: (t.shape, numpy_dtype(t.dtype)) for t in float_inputs}
        # Input of the quantized model -> input of the float model, and the grid it is put on.
        self.fed = {
            t.name: (
                pairing.input_names[t.name],
                Grid.of(t.dtype, t.quant) if t.quant is not None and t.dtype in LIMITS else None,
            )
            for t in main.inputs
        }
        self._session: _Session | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}

    def __call__(self, payload: Mapping[str, np.ndarray], threads: int) -> Partial:
        """Counts the errors of some samples.

        Args:
          payload: the float model's input tensor name -> values [n, *one sample]; n samples hold
            as many values as a whole number of runs takes.
          threads: CPU threads to use.

        Raises:
          DataError: the samples do not fit, or become NaN or infinite in the float model.
        """
        runs = self._runs(payload)
        if self._session is None or self._session.threads != threads:
            self._session = _Session(self, threads)
        tallies = {w.name: Tally(w.grid, w.shape) for w in self.watched}
        self._session.count(runs, tallies)
        return Partial(len(runs), tallies)

    def _runs(self, payload: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        arrays: dict[str, np.ndarray] = {}
        for name, (shape, dtype) in self.inputs.items():
            if name not in payload:
                raise DataError(f"The samples lack input {name!r}.")
            values = np.asarray(payload[name])
            size = int(np.prod(shape, dtype=np.int64))
            if not size or not values.size or values.size % size:
                raise DataError(
                    f"Input {name!r} takes {dtype}{list(shape)}. Received: "
                    f"{values.dtype}{list(values.shape)}."
                )
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise DataError(
                    f"Input {name!r} holds NaN or infinite values in one of "
                    f"{len(values)} samples. Remove or repair it."
                )
            arrays[name] = values.astype(dtype, copy=False).reshape(-1, *shape)
        counts = {a.shape[0] for a in arrays.values()}
        if len(counts) > 1:
            raise DataError("The inputs hold different numbers of samples.")
        return [{n: a[i] for n, a in arrays.items()} for i in range(counts.pop() if counts else 1)]


class _Interpreters:
    """One set of the models, and what goes into the quantized one."""

    def __init__(self, work: LayerWork, threads: int):
        self.fed_by = work.fed
        self.fed: dict[str, np.ndarray] = {}
        self.references = [Runner(m, keep_intermediates=True, threads=threads) for m in work.models]
        self.quantized = Runner(work.quantized, keep_intermediates=True, threads=threads)

    def run(self, sample: Mapping[str, np.ndarray]) -> _Interpreters:
        for runner in self.references:
            runner.restart()
            runner.set_inputs(sample)
            _invoke(runner)
        self.fed = {}
        for name, (source, grid) in self.fed_by.items():
            value = sample[source]
            self.fed[name] = quantize(value, grid) if grid and value.dtype.kind == "f" else value
        self.quantized.restart()
        self.quantized.set_inputs(self.fed)
        _invoke(self.quantized)
        return self


def _invoke(runner: Runner) -> None:
    try:
        runner.invoke()
    except TfqError as e:
        raise ModelError(str(e)) from None


class _Session:
    """What one worker keeps: interpreters, and memory to count with.

    With more than one thread there are two sets of interpreters: a second thread runs the next
    sample and counts its values, while the first adds up the errors of this one. The errors alone
    are many short numpy calls, which threads of one process cannot share (measured: two take as
    long as one).
    """

    def __init__(self, work: LayerWork, threads: int):
        # Not the work itself: a cycle would keep the interpreters until garbage is collected.
        self.watched = work.watched
        self.threads = threads
        ahead = threads > 1
        self.sets = [_Interpreters(work, max(1, threads - 1)) for _ in range(1 + ahead)]
        self.buffers = Buffers()

    def count(
        self, samples: Sequence[Mapping[str, np.ndarray]], tallies: Mapping[str, Tally]
    ) -> None:
        if len(self.sets) == 1:
            for sample in samples:
                self._add(self._ran(0, sample, tallies), tallies)
            return
        with ThreadPoolExecutor(max_workers=1) as pool:
            coming = pool.submit(self._ran, 0, samples[0], tallies)
            for n in range(len(samples)):
                done = coming.result()
                if n + 1 < len(samples):
                    coming = pool.submit(self._ran, (n + 1) % 2, samples[n + 1], tallies)
                self._add(done, tallies)

    def _ran(
        self, which: int, sample: Mapping[str, np.ndarray], tallies: Mapping[str, Tally]
    ) -> _Interpreters:
        """Runs a sample and counts its values."""
        ran = self.sets[which].run(sample)
        for w in self.watched:
            expected, _, accumulated = _views(w, ran)
            try:
                tallies[w.name].count_values(expected, accumulated)
            except DataError as e:
                raise DataError(
                    f"Tensor {w.float_name!r} {e} when the float model runs a sample. Check the "
                    "samples' values and preprocessing; the float model itself fails on them."
                ) from None
        return ran

    def _add(self, ran: _Interpreters, tallies: Mapping[str, Tally]) -> None:
        for w in self.watched:
            tallies[w.name].add_errors(*_views(w, ran), self.buffers)


def _views(
    w: _Watched, ran: _Interpreters
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """A float tensor, its isolated and its accumulated counterpart, as they lie in memory."""
    try:
        expected = ran.references[w.model or 0].view(w.float_index)
        accumulated = ran.fed[w.name] if w.is_input else ran.quantized.view(w.accumulated)
        isolated = accumulated if w.is_input else None
        if w.model is not None:
            isolated = ran.references[w.model].view(w.isolated)
    except ModelError as e:
        raise ModelError(f"Tensor {w.name!r} cannot be read after running: {e}") from None
    return expected, isolated, accumulated
