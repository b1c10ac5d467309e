"""Running samples through a float model to fill one sketch per tensor.

Memory does not depend on the number of samples: tensors are read in place, in the interpreter's
own memory, and only sketches are kept (256 KB for each tensor with negative values, else 128 KB).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.calibrate.sketch import MODES, Sketch
from tfq.calibrate.statistics import Statistics, fingerprint
from tfq.errors import DataError, ModelError, UsageError, nearest, unknown_option
from tfq.executors import Shard, Workers
from tfq.graph.model import Model, Op, Tensor
from tfq.runtime import Runner

_UNBOUNDED = (-np.inf, np.inf)
_ACTIVATION_BOUNDS = {
    "RELU": (0.0, np.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "RELU_0_TO_1": (0.0, 1.0),
}
_ACTIVATIONS = {v: k for k, v in vars(schema.ActivationFunctionType).items() if k[0] != "_"}


# Samples that a worker gets at once: enough to pay for sending its sketches back.
_SHARD_BYTES = 16 << 20
_SHARD_SAMPLES = 64


def calibrate(
    model: bytes,
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    tensors: Collection[str] | None = None,
    mode: str = "full",
    threads: int | None = None,
    workers: Workers | None = None,
    progress: Callable[[int], None] | None = None,
    initial: Statistics | None = None,
) -> Statistics:
    """Runs every sample and returns the statistics of the main graph's float32 tensors.

    Args:
      model: a float `.tflite` file's bytes.
      samples: maps from input tensor name to values of the tensor's exact shape and dtype; read
        once. Variable tensors start from their initial values for each sample; what the source
        itself keeps in variables (VAR_HANDLE) goes on from one sample to the next.
      tensors: names of the tensors to look at; None means all inputs and computed float32 tensors.
      mode: "full", or "minmax" for extremes only (no histogram; several times cheaper).
      threads: CPU threads of the interpreter; None for the default of `Runner`.
      workers: where to run, if not in this process alone; the result is the same to the bit. Not
        used for a model whose state goes on from sample to sample.
      progress: called with the number of samples run so far, after each.
      initial: statistics to continue from; they are not changed.

    Raises:
      DataError: a sample does not fit or a tensor becomes NaN or infinite (the message says which),
        there is no sample at all, or `initial` is of another model, mode or set of tensors.
      ModelError: the model cannot run, or a tensor of it cannot be read.
      UsageError: an unknown mode, or a name in `tensors` that the model does not compute.
    """
    if mode not in MODES:
        raise unknown_option("calibration mode", mode, MODES)
    if initial is not None:
        initial.check_model(model, "The statistics to continue from")
    work = _Calibration(model, None if tensors is None else tuple(tensors), mode)
    work.start(threads)
    done = progress or (lambda count: None)
    if workers is None or workers.count == 1 or work.carries_on:
        sketches = work.sketches()
        count = 0
        for sample in samples:
            work.add(sample, count, sketches)
            count += 1
            done(count)
        result = Statistics(sketches, fingerprint(model), count, mode)
    else:
        result = Statistics(work.sketches(), fingerprint(model), 0, mode)
        for part in workers.map(work, _shards(samples)):
            result = result.merge(part)
            done(result.samples)
    if not result.samples and initial is None:
        raise DataError("The representative data has no samples. Give at least one.")
    return result if initial is None else initial.merge(result)


def _shards(samples: Iterable[Mapping[str, np.ndarray]]) -> Iterator[Shard]:
    """Groups of samples; which ones depends on the samples alone."""
    group: list[Mapping[str, np.ndarray]] = []
    size = start = number = 0
    for sample in samples:
        group.append(sample)
        size += sum(v.nbytes for v in sample.values())
        if size >= _SHARD_BYTES or len(group) == _SHARD_SAMPLES:
            yield _shard(number, start, group)
            start, number, size, group = start + len(group), number + 1, 0, []
    if group:
        yield _shard(number, start, group)


def _shard(number: int, start: int, group: list[Mapping[str, np.ndarray]]) -> Shard:
    return Shard(number, f"samples {start} to {start + len(group) - 1}", (start, group))


class _Calibration:
    """A model with all its tensors readable, and what is read of them; picklable."""

    def __init__(self, model: bytes, tensors: tuple[str, ...] | None, mode: str):
        self.model = model
        self.tensors = tensors
        self.mode = mode
        self._runner: Runner | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "tensors": self.tensors, "mode": self.mode, "_runner": None}

    def __call__(
        self, payload: tuple[int, list[Mapping[str, np.ndarray]]], threads: int
    ) -> Statistics:
        start, group = payload
        if self._runner is None:
            self.start(threads)
        sketches = self.sketches()
        for i, sample in enumerate(group):
            self.add(sample, start + i, sketches)
        return Statistics(sketches, fingerprint(self.model), len(group), self.mode)

    def sketches(self) -> dict[str, Sketch]:
        return {name: Sketch(self.mode) for name, _, _ in self._watched}

    def start(self, threads: int | None) -> None:
        """Makes the interpreter.

        Raises:
          ModelError: the model cannot run, or tensors of it cannot be told apart.
          UsageError: there is no such tensor.
        """
        main = Model.from_bytes(self.model)
        self._threads = threads
        self._in_passing = self.mode == "minmax"
        runner = (
            Runner(self.model, ranges=True, threads=threads)
            if self._in_passing
            else self._reading_runner()
        )
        self._runner = runner
        self._watched = _watched(main, runner, self.tensors)
        self._sizes = {t.name: t.size for t in main.main.tensors()}
        self._unseen = {n for n, _, _ in self._watched} - {t.name for t in main.main.inputs}
        self._outputs = {d["name"]: d["index"] for d in runner.outputs if d["dtype"] == np.float32}
        self._fused_state = any(t.is_variable for t in main.main.tensors())
        # A source's own state goes on from sample to sample: they cannot be shared out.
        self.carries_on = any(op.name == "VAR_HANDLE" for op in main.main.ops)
        self._expected = {
            d["name"]: (tuple(d["shape"]), np.dtype(d["dtype"])) for d in runner.inputs
        }

    def _reading_runner(self) -> Runner:
        return Runner(self.model, keep_intermediates=True, threads=self._threads)

    def add(
        self, sample: Mapping[str, np.ndarray], number: int, sketches: Mapping[str, Sketch]
    ) -> None:
        """Runs a sample and adds what every tensor held to its sketch.

        Raises:
          DataError: the sample does not fit, or a tensor becomes NaN or infinite.
        """
        assert self._runner is not None
        _check_sample(sample, self._expected, number)
        if self._fused_state:
            self._runner.reset_state()
        self._runner.set_inputs(sample)
        found = self._runner.invoke_for_ranges() if self._in_passing else None
        if self._in_passing and (found is None or not found.keys() >= self._unseen):
            self._in_passing = False
            self._runner = self._reading_runner()
            self._runner.set_inputs(sample)
        if not self._in_passing:
            self._runner.invoke()
        at = ""
        try:
            for at, index, bounds in self._watched:
                if found is None or not self._in_passing:
                    sketches[at].update(self._runner.view(index), bounds)
                elif at in sample:
                    sketches[at].update(sample[at])
                else:
                    sketches[at].update_extremes(*found[at], self._sizes[at])
            if self._in_passing:
                # LiteRT's own minimum and maximum pass over a NaN among numbers.
                for at in self._outputs:
                    if np.isnan(self._runner.view(self._outputs[at]).sum()):
                        raise DataError("holds NaN")
        except DataError as e:
            raise _not_finite(at, at in self._expected, number, str(e)) from None
        except ModelError as e:
            raise ModelError(f"Tensor {at!r} cannot be read after running: {e}") from None


def _watched(
    model: Model, runner: Runner, tensors: Collection[str] | None
) -> list[tuple[str, int, tuple[float, float]]]:
    """Name, interpreter index and bounds of each tensor to look at: inputs first, as computed."""
    main = model.main
    computed: dict[Tensor, tuple[float, float]] = dict.fromkeys(main.inputs, _UNBOUNDED)
    for op in main.ops:
        computed.update(dict.fromkeys(op.outputs, _bounds(op)))
    names = [t.name for t in computed if t.dtype == "float32" and t.size]
    if tensors is not None:
        for name in tensors:
            if name not in names:
                raise UsageError(
                    f"The model computes no float32 tensor named {name!r} in its main graph."
                    f"{nearest(name, names)}"
                )
        wanted = set(tensors)
        names = [n for n in names if n in wanted]
    uses = Counter(t.name for t in main.tensors())
    for name in names:
        if uses[name] > 1:
            raise ModelError(
                f"{uses[name]} tensors are named {name!r}, so their statistics cannot be told "
                "apart. Give every tensor a name of its own."
            )
    index: dict[str, int] = {}
    for detail in runner.tensor_details():  # Delegates append tensors; the first one is the file's.
        index.setdefault(detail["name"], detail["index"])
    bounds = {t.name: b for t, b in computed.items()}
    return [(name, index[name], bounds[name]) for name in names]


def _bounds(op: Op) -> tuple[float, float]:
    """What the values an op computes cannot lie beyond, by its (fused) activation."""
    fused = getattr(op.options, "fusedActivationFunction", 0)
    return _ACTIVATION_BOUNDS.get(op.name if not fused else _ACTIVATIONS[fused], _UNBOUNDED)


def _check_sample(
    sample: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    number: int,
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


def _not_finite(name: str, is_input: bool, number: int, problem: str) -> DataError:
    if is_input:
        return DataError(f"Sample {number} {problem} in input {name!r}. Remove or repair it.")
    return DataError(
        f"Tensor {name!r} {problem} when the float model runs sample {number}. Check that sample's "
        "values and preprocessing; the float model itself fails on it."
    )
