"""Running samples through a float model to fill one sketch per tensor.

Memory does not depend on the number of samples: only sketches are kept (256 KB for each tensor with
negative values, else 128 KB).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.calibrate.statistics import Statistics, fingerprint
from tfq.errors import DataError, UsageError, nearest, unknown_option
from tfq.executors import Workers
from tfq.graph.model import Model, Op, Tensor
from tfq.graph.optable import spec
from tfq.observe.loop import observe
from tfq.observe.observer import Read
from tfq.observe.sketch import MODES
from tfq.observe.sketches import SketchObserver

_UNBOUNDED = (-np.inf, np.inf)
_ACTIVATIONS = {v: k for k, v in vars(schema.ActivationFunctionType).items() if k[0] != "_"}


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
    observers = {
        name: SketchObserver(Read(name), mode, bounds)
        for name, bounds in _watched(Model.from_bytes(model), tensors).items()
    }
    count = observe(
        model,
        samples,
        list(observers.values()),
        threads=threads,
        workers=workers,
        progress=progress,
    )
    if not count and initial is None:
        raise DataError("The representative data has no samples. Give at least one.")
    sketches = {name: observer.sketch for name, observer in observers.items()}
    result = Statistics(sketches, fingerprint(model), count, mode)
    return result if initial is None else initial.merge(result)


def _watched(model: Model, tensors: Collection[str] | None) -> dict[str, tuple[float, float]]:
    """Names and bounds of the tensors to look at: inputs first, as computed."""
    main = model.main
    computed: dict[Tensor, tuple[float, float]] = dict.fromkeys(main.inputs, _UNBOUNDED)
    for op in main.ops:
        computed.update(dict.fromkeys(op.outputs, _bounds(op)))
    found = {t.name: b for t, b in computed.items() if t.dtype == "float32" and t.size}
    if tensors is None:
        return found
    for name in tensors:
        if name not in found:
            raise UsageError(
                f"The model computes no float32 tensor named {name!r} in its main graph."
                f"{nearest(name, list(found))}"
            )
    wanted = set(tensors)
    return {name: bounds for name, bounds in found.items() if name in wanted}


def _bounds(op: Op) -> tuple[float, float]:
    """What the values an op computes cannot lie beyond, by its (fused) activation."""
    fused = getattr(op.options, "fusedActivationFunction", 0)
    row = spec(_ACTIVATIONS[fused] if fused else op.name)
    return _UNBOUNDED if row is None or row.clamp is None else row.clamp
