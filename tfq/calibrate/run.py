"""Running samples through a float model to fill one sketch per tensor.

Memory does not depend on the number of samples: tensors are read in place, in the interpreter's
own memory, and only sketches are kept (256 KB for each tensor with negative values, else 128 KB).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.calibrate.sketch import MODES, Sketch
from tfq.calibrate.statistics import Statistics, fingerprint
from tfq.errors import DataError, ModelError, UsageError, nearest, unknown_option
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


def calibrate(
    model: bytes,
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    tensors: Collection[str] | None = None,
    mode: str = "full",
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
    initial: Statistics | None = None,
) -> Statistics:
    """Runs every sample and returns the statistics of the main graph's float32 tensors.

    Args:
      model: a float `.tflite` file's bytes.
      samples: maps from input tensor name to values of the tensor's exact shape and dtype; read
        once. Variable tensors start from their initial values for each sample.
      tensors: names of the tensors to look at; None means all inputs and computed float32 tensors.
      mode: "full", or "minmax" for extremes only (no histogram; several times cheaper).
      threads: CPU threads of the interpreter; None for the default of `Runner`.
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
    graph = Model.from_bytes(model)
    if initial is not None:
        initial.check_model(model, "The statistics to continue from")

    def read_runner() -> Runner:
        return Runner(model, keep_intermediates=True, threads=threads)

    in_passing = mode == "minmax"
    runner = Runner(model, ranges=True, threads=threads) if in_passing else read_runner()
    watched = _watched(graph, runner, tensors)
    sizes = {t.name: t.size for t in graph.main.tensors()}
    unseen = {name for name, _, _ in watched} - {t.name for t in graph.main.inputs}
    outputs = {d["name"]: d["index"] for d in runner.outputs if d["dtype"] == np.float32}
    stateful = any(t.is_variable for t in graph.main.tensors()) or any(
        op.name == "VAR_HANDLE" for op in graph.main.ops
    )
    sketches = {name: Sketch(mode) for name, _, _ in watched}
    expected = {d["name"]: (tuple(d["shape"]), np.dtype(d["dtype"])) for d in runner.inputs}
    count = 0
    for sample in samples:
        _check_sample(sample, expected, count)
        if stateful:
            runner.reset_state()
        runner.set_inputs(sample)
        found = runner.invoke_for_ranges() if in_passing else None
        if in_passing and (found is None or not found.keys() >= unseen):
            in_passing = False
            runner = read_runner()
            runner.set_inputs(sample)
        if not in_passing:
            runner.invoke()
        at = ""
        try:
            for at, index, bounds in watched:
                if found is None or not in_passing:
                    sketches[at].update(runner.view(index), bounds)
                elif at in sample:
                    sketches[at].update(sample[at])
                else:
                    sketches[at].update_extremes(*found[at], sizes[at])
            if in_passing:
                # LiteRT's own minimum and maximum pass over a NaN among numbers.
                for at in outputs:
                    if np.isnan(runner.view(outputs[at]).sum()):
                        raise DataError("holds NaN")
        except DataError as e:
            raise _not_finite(at, at in expected, count, str(e)) from None
        except ValueError as e:
            raise ModelError(f"Tensor {at!r} cannot be read after running: {e}") from None
        count += 1
        if progress is not None:
            progress(count)
    if not count and initial is None:
        raise DataError("The representative data has no samples. Give at least one.")
    result = Statistics(sketches, fingerprint(model), count, mode)
    return result if initial is None else initial.merge(result)


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
