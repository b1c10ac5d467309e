"""Inputs of a concatenation whose values fit into a few steps of the grid that all inputs share.

CONCATENATION and PACK have one grid for all their inputs, at the output or anywhere in the graph.
An input starves if its values span less than eight steps of it while another's span more, and less
than 10 dB of their spread are left. Where the outputs behind it are good, nothing needs it.

Cost: up to eight runs of the float model, cut behind the last concatenation; where an input is
suspected, as many again of both models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tfq.graph.model import Model, Op, Tensor
from tfq.graph.numerics import LIMITS, Grid, dequantize
from tfq.graph.origin import has_fixed_range, moves
from tfq.observe.extremes import ExtremesObserver
from tfq.observe.loop import observe
from tfq.observe.observer import FLOAT, INTEGER, Observer, Read
from tfq.parts import ChannelSums
from tfq.verify.meter import FEW_STEPS

Inputs = Mapping[str, np.ndarray]

_JOINTS = ("CONCATENATION", "PACK")
_SAMPLES = 8
_FEW_DB = 10.0
# A spread below this share of the widest input's is float rounding.
_NOTHING = 2.0**-20


@dataclasses.dataclass(frozen=True)
class StarvedInput:
    """Attributes:
    tensor: the input, by its name in the float model.
    joint: the output of the concatenation.
    outputs: the model's outputs that the concatenation leads to.
    moved_to: those of them that are its values, only moved.
    low, high: of the float values.
    steps: how many steps of the shared grid they span.
    spread_db: signal, less its channels' means, to quantization noise.
    requantized: whether the input is computed on another grid, and only read on the shared one.
    """

    tensor: str
    joint: str
    outputs: tuple[str, ...]
    moved_to: tuple[str, ...]
    low: float
    high: float
    steps: float
    spread_db: float
    requantized: bool = False


@dataclasses.dataclass(frozen=True)
class _Input:
    """One input of a concatenation in both models."""

    op: Op
    float_tensor: Tensor
    tensor: Tensor
    grid: Grid


def find_starved(
    float_bytes: bytes,
    emitted: bytes,
    samples: Sequence[Inputs],
) -> tuple[StarvedInput, ...]:
    """Looks at every concatenation.

    Args:
      float_bytes: the float model with the same tensor names.
      emitted: the quantized model.
      samples: tensor name -> float values; the first eight are run.
    """
    model, float_model = Model.from_bytes(emitted), Model.from_bytes(float_bytes)
    found = _inputs(model, float_model)
    if not found:
        return ()
    samples = samples[:_SAMPLES]
    names = dict.fromkeys(i.float_tensor.name for i in found)
    ranges = {name: ExtremesObserver(Read(name), in_passing=False) for name in names}
    observe(_cut(float_bytes, names), samples, list(ranges.values()))
    spreads = {name: each.high - each.low for name, each in ranges.items()}
    widest: dict[Op, float] = {}
    for i in found:
        widest[i.op] = max(widest.get(i.op, 0.0), spreads[i.float_tensor.name])
    suspects = [
        i
        for i in found
        if _NOTHING * widest[i.op]
        < spreads[i.float_tensor.name]
        < FEW_STEPS * i.grid.scale[0]
        < widest[i.op]
    ]
    if not suspects:
        return ()
    compared = [_Compared(i) for i in suspects]
    models = {
        FLOAT: _cut(float_bytes, [i.float_tensor.name for i in suspects]),
        INTEGER: _cut(emitted, [i.tensor.name for i in suspects]),
    }
    observe(models, samples, compared)
    reach, producers = _outputs_behind(model), model.main.producers()
    result = []
    for i, each in zip(suspects, compared, strict=True):
        db = each.spread_db
        if db >= _FEW_DB:
            continue
        low, high = ranges[i.float_tensor.name].low, ranges[i.float_tensor.name].high
        outputs, moved = reach[i.op]
        result.append(
            StarvedInput(
                i.float_tensor.name,
                i.op.outputs[0].name,
                outputs,
                moved,
                low,
                high,
                (high - low) / i.grid.scale[0],
                db,
                _is_requantized(i.tensor, producers),
            )
        )
    return tuple(result)


def _inputs(model: Model, float_model: Model) -> list[_Input]:
    float_ops = {op.outputs[0].name: op for op in float_model.main.ops if op.outputs}
    producers = model.main.producers()
    found = []
    for op in model.main.ops:
        if op.name not in _JOINTS or len(op.inputs) < 2:
            continue
        out = op.outputs[0]
        twin = float_ops.get(out.name) or float_ops.get(out.name.removesuffix(f"/{out.dtype}"))
        if twin is None or twin.name != op.name or has_fixed_range(out, producers):
            continue
        for t, f in zip(op.inputs, twin.inputs, strict=False):
            if t is None or f is None or t.is_const or f.is_const or f.dtype != "float32":
                continue
            if t.quant is not None and t.dtype in LIMITS and t.shape == f.shape and f.size:
                found.append(_Input(op, f, t, Grid.of(t.dtype, t.quant)))
    return found


def _is_requantized(t: Tensor, producers: Mapping[Tensor, Op]) -> bool:
    op = producers.get(t)
    return op is not None and op.name == "QUANTIZE"


def _cut(data: bytes, names: Iterable[str]) -> bytes:
    """A model that computes some of its tensors and nothing else."""
    model = Model.from_bytes(data)
    wanted = set(names)
    model.main.outputs = [t for t in model.main.tensors() if t.name in wanted]
    model.signatures = []
    model.main.prune()
    return model.to_bytes()


class _Compared(Observer):
    """The error of one input of a concatenation."""

    def __init__(self, of: _Input):
        self.tensors = (Read(of.float_tensor.name), Read(of.tensor.name, INTEGER))
        self._grid = of.grid
        self._sums: ChannelSums | None = None

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        want, got = values
        if self._sums is None:
            # Of the run: what a file states may be another shape.
            self._sums = ChannelSums(want.shape)
        self._sums.add(want, dequantize(got, self._grid))

    @property
    def spread_db(self) -> float:
        assert self._sums is not None
        return self._sums.whole().spread_db


def _outputs_behind(model: Model) -> dict[Op, tuple[tuple[str, ...], tuple[str, ...]]]:
    """For every concatenation the outputs behind it, and those that only move its values."""
    graph = model.main
    names = {t: t.name for t in graph.outputs}
    behind: dict[Tensor, tuple[set[str], set[str]]] = {}
    found = {}
    for op in reversed(graph.ops):
        every: set[str] = set()
        moved: set[str] = set()
        for t in op.outputs:
            own = {names[t]} if t in names else set()
            later = behind.get(t, (set(), set()))
            every |= own | later[0]
            moved |= own | later[1]
        if op.name in _JOINTS:
            found[op] = tuple(sorted(every)), tuple(sorted(moved))
        for source in op.inputs:
            if source is not None:
                mine = behind.setdefault(source, (set(), set()))
                mine[0].update(every)
                if moves(op):
                    mine[1].update(moved)
    return found
