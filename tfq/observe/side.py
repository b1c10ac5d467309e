"""One of the models that run on a sample: fed with it, run, and read in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from tfq.errors import DataError, ModelError, UsageError, nearest
from tfq.graph.boundary import InputQuantizer
from tfq.graph.model import Model
from tfq.observe.observer import Renamed
from tfq.runtime import Runner

Inputs = Mapping[str, np.ndarray]


class Extremes(NamedTuple):
    """Of a tensor of which the values themselves are not readable, or not worth reading."""

    low: float
    high: float
    size: int


class Side:
    """A model, ready for samples.

    Args:
      name: what the model is called.
      data: its bytes, float or quantized, and what its inputs are called in samples.
      main: the same, read.
      wanted: the tensors of its main graph that will be read (`Read.tensor`).
      in_passing: LiteRT's own extremes will do, wherever it finds them.
      restart: what the source itself keeps in variables starts anew for each sample, too.
      threads: CPU threads; None for the default of `Runner`.

    Attributes:
      keeps_state: whether state goes on from one sample to the next, so that they have an order.

    Raises:
      ModelError: the model cannot run, or tensors of it cannot be told apart.
      UsageError: there is no such tensor.
    """

    def __init__(
        self,
        name: str,
        data: Renamed,
        main: Model,
        wanted: Iterable[str | int],
        *,
        in_passing: bool,
        restart: bool,
        threads: int | None,
    ):
        self.name = name
        self._data, self._names = data.model, data.inputs
        self._threads, self._restart = threads, restart
        self._feed = InputQuantizer(main)
        tensors = list(main.main.tensors())
        self._position = [t.name for t in tensors]
        self._sizes: dict[str | int, int] = {t.name: t.size for t in tensors}
        wanted = tuple(dict.fromkeys(wanted))
        named = [n for n in wanted if isinstance(n, str)]
        _check_names(name, named, Counter(t.name for t in tensors))
        ends = {t.name for t in (*main.main.inputs, *main.main.outputs)}
        self._inside = any(n not in ends for n in wanted)
        self._computed = set(named) - {t.name for t in main.main.inputs}
        self._has_variables = any(t.is_variable for g in main.graphs for t in g.tensors())
        # A source's own state goes on from sample to sample.
        self.keeps_state = not restart and any(
            op.name == "VAR_HANDLE" for g in main.graphs for op in g.ops
        )
        self._in_passing = in_passing
        self._runner = (
            Runner(self._data, ranges=True, threads=threads) if in_passing else self._reading()
        )
        index: dict[str, int] = {}
        # Delegates append tensors; the first one is the file's.
        for detail in self._runner.tensor_details():
            index.setdefault(detail["name"], detail["index"])
        self._index = {n: index[n] if isinstance(n, str) else n for n in wanted}
        self._input_at = {d["index"]: d["name"] for d in self._runner.inputs}
        self._outputs = {
            d["name"]: d["index"] for d in self._runner.outputs if d["dtype"] == np.float32
        }
        self._expected = {
            d["name"]: (tuple(d["shape"].tolist()), np.dtype(d["dtype"]))
            for d in self._runner.inputs
        }
        self._fed: dict[str, np.ndarray] = {}
        self._found: Mapping[str | int, tuple[float, float]] = {}

    def _reading(self) -> Runner:
        return Runner(self._data, keep_intermediates=self._inside, threads=self._threads)

    def is_input(self, tensor: str) -> bool:
        return tensor in self._expected

    def name_of(self, tensor: str | int) -> str:
        return tensor if isinstance(tensor, str) else self._position[tensor]

    def run(self, sample: Inputs, number: int) -> None:
        """Runs a sample; variable tensors start from their initial values.

        Raises:
          DataError: the sample does not fit.
          ModelError: it does not run.
        """
        if self._names:
            sample = {own: sample[given] for own, given in self._names.items() if given in sample}
        self._fed = self._feed(sample)
        _check_sample(self._fed, self._expected, number)
        if self._restart:
            self._runner.restart()
        elif self._has_variables:
            self._runner.reset_state()
        self._runner.set_inputs(self._fed)
        if self._in_passing:
            found = self._runner.invoke_for_ranges()
            if found is not None and found.keys() >= self._computed:
                self._found = {n: found[n] for n in self._computed}
                return
            self._in_passing, self._found = False, {}
            self._runner = self._reading()
            self._runner.set_inputs(self._fed)
        self._runner.invoke()

    def read(self, tensor: str | int) -> np.ndarray | Extremes:
        """What a tensor holds, in place; what was found in passing, if that is all."""
        if (found := self._found.get(tensor)) is not None:
            return Extremes(*found, self._sizes[tensor])
        if isinstance(tensor, int):
            own = self._input_at.get(tensor)
            return self._view(tensor) if own is None else self._fed[own]
        if tensor in self._fed:
            return self._fed[tensor]
        return self._view(self._index[tensor])

    def _view(self, index: int) -> np.ndarray:
        try:
            return np.asarray(self._runner.view(index))  # A view of a scalar is no array.
        except ModelError as e:
            name = self._position[index]
            raise ModelError(f"Tensor {name!r} cannot be read after running: {e}") from None

    def output_with_nan(self) -> str | None:
        """An output that holds NaN, where values were not looked at one by one.

        LiteRT's own minimum and maximum pass over a NaN among numbers.
        """
        if not self._in_passing:
            return None
        for name, index in self._outputs.items():
            if np.isnan(self._runner.view(index).sum()):
                return name
        return None


def _check_names(model: str, wanted: Iterable[str], uses: Mapping[str, int]) -> None:
    for name in wanted:
        if uses.get(name, 0) > 1:
            raise ModelError(
                f"{uses[name]} tensors are named {name!r}, so their statistics cannot be told "
                "apart. Give every tensor a name of its own."
            )
        if name not in uses:
            raise UsageError(
                f"The {model} model has no tensor named {name!r} in its main graph."
                f"{nearest(name, list(uses))}"
            )


def _check_sample(
    sample: Inputs, expected: Mapping[str, tuple[tuple[int, ...], np.dtype]], number: int
) -> None:
    if sample.keys() != expected.keys():
        raise DataError(
            f"Sample {number} does not have exactly the model's inputs: it needs "
            f"{sorted(expected)}. Received: {sorted(sample)}."
        )
    for name, (shape, dtype) in expected.items():
        value = sample[name]
        if tuple(value.shape) != shape or value.dtype != dtype:
            raise DataError(
                f"Sample {number} does not fit input {name!r}: it needs {dtype}{list(shape)}. "
                f"Received: {value.dtype}{list(value.shape)}."
            )
