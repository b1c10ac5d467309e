"""Bias correction: each channel's bias such that its mean output is that of the float model.

Rounding weights and activations shifts the mean of a layer's outputs (Nagel et al. 2019, "Data-Free
Quantization Through Weight Equalization and Bias Correction", section 4.2). In order of the graph,
each layer behind the corrected ones before it, with the accumulators Z of its integer inputs:

1. The start is the analytic shift: b + mean(W x + b_float) - mean(Z + b), means over all samples
   and positions.
2. By bisection, b such that  mean(clamp(Z + b)) = mean(float output).  Clamped is to the grid and
   by the fused activation, as the kernel does. Dividing the shift by the share of unclipped outputs
   (Newton's step) leaves channels with few of them hundreds of steps off. A channel whose float
   mean lies at the clamp, where all of it is always clipped, keeps the start.
3. A channel's step is shrunk by what is not sure of it: with the shift d_n of each sample n, its
   mean d and the standard error se of that, by the factor max(0, 1 - se^2 / d^2).

Cost: one run of either model a sample, the accumulators, and 10 to 20 passes over at most 20,000
positions of each layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from tfq.graph.model import Model
from tfq.graph.numerics import LIMITS
from tfq.quantize.emit import Emitted
from tfq.walk.layer import Layer
from tfq.walk.obstacles import obstacle_to_walk
from tfq.walk.store import MEMORY
from tfq.walk.walk import Walk

Inputs = Mapping[str, np.ndarray]

# Positions of a layer, over all samples, that bisection looks at; and the bytes they may take.
POSITIONS = 20_000
_BYTES = 64 << 20

# In steps of the output: where a float mean is this close to a clamp, all of it is clipped.
_AT_CLAMP = 0.02

# Bisections of the whole grid: down to 1/128 of a step of 8 bits.
_BISECTIONS = {"int8": 15, "uint8": 15, "int16": 23}

# Values that are bisected at a time, so that they stay in the cache.
_BLOCK = 1 << 18

# XNNPACK's kernel of FULLY_CONNECTED for int4 weights sums sixteenths.
_MOST, _MOST_NARROW = LIMITS["int32"][1] // 2, 1 << 26


@dataclasses.dataclass(frozen=True)
class BiasCorrection:
    """What was solved, in order of the graph: each layer behind all before it.

    Attributes:
      biases: name of a layer's output in the float model -> its integer bias, where it changes.
      declined: name of a layer that could not be corrected -> why. "" for the whole model.
    """

    biases: Mapping[str, np.ndarray]
    declined: Mapping[str, str]


def correct_biases(
    float_model: Model,
    emitted: Emitted,
    samples: Sequence[Inputs],
    *,
    layers: Collection[str] | None = None,
    memory: int = MEMORY,
    progress: Callable[[int, int], None] | None = None,
) -> BiasCorrection:
    """Solves the biases of an emitted model; a plan takes all or some of them.

    Args:
      float_model: the prepared float model.
      emitted: the quantized model, `spare_biases` among it; it is not changed.
      samples: 16 to 100 (tensor name -> float values); with fewer than 2 nothing is corrected.
      layers: which, by name; None: all.
      memory, progress: as for `Walk`.
    """
    biases, declined = {}, {}
    for name, bias, reason in solve_biases(
        float_model, emitted, samples, layers=layers, memory=memory, progress=progress
    ):
        if bias is not None:
            biases[name] = bias
        elif reason:
            declined[name] = reason
    return BiasCorrection(biases, declined)


def solve_biases(
    float_model: Model,
    emitted: Emitted,
    samples: Sequence[Inputs],
    *,
    layers: Collection[str] | None = None,
    memory: int = MEMORY,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[str, np.ndarray | None, str]]:
    """The same layer by layer, so that what has been solved stays when one stops.

    Yields:
      For each layer its name and its new bias, or None and, where it could not be corrected, why.
    """
    reason = obstacle_to_walk(emitted.model)
    if not reason and len(samples) < 2:
        reason = "it takes at least 2 samples to tell a shift from chance"
    if reason:
        yield "", None, reason
        return
    wanted = [n for n in emitted.biases if layers is None or n in set(layers)]
    with Walk(
        emitted,
        samples,
        layers=wanted,
        float_model=float_model,
        memory=memory,
        progress=progress,
    ) as walk:
        for layer in walk:
            bias, reason = corrected_bias(layer)
            if bias is not None:
                assert layer.bias is not None
                assert layer.row.bias is not None
                layer.replace(layer.row.bias, dataclasses.replace(layer.bias, data=bias))
            yield layer.name, bias, reason


def corrected_bias(layer: Layer) -> tuple[np.ndarray | None, str]:
    """The integer bias of one layer, or None where it stays, and why where it could not be told."""
    bias, target = layer.bias, layer.target
    if bias is None or bias.quant is None or not bias.is_const:
        return None, "it has no constant bias"
    reason = layer.without_accumulators()
    if reason or target is None:
        return None, reason
    assert layer.y.quant is not None
    step = float(layer.y.quant.scale[0])
    old, (low, high) = layer.bias_steps, layer.reach
    z, outputs, arguments = _measured(layer, old)
    wanted, wanted_arguments = target.outputs / step, target.arguments / step
    off = wanted_arguments - arguments
    start = old + off.mean(axis=0)
    goal = wanted.mean(axis=0)
    inside = (goal > low + _AT_CLAMP) & (goal < high - _AT_CLAMP)
    solved = bisect(z, start, goal, (low, high), _BISECTIONS[layer.y.dtype])
    new = np.where(inside, solved, start)
    shifts = np.where(inside, wanted - outputs, off)
    new = old + (new - old) * sureness(shifts)
    new = np.where(np.isfinite(new), new, old)
    result = _in_bounds(bias.values(), np.rint(new / layer.ratio), largest_bias(layer))
    return (result, "") if (result != bias.values()).any() else (None, "")


def _measured(layer: Layer, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In steps of the output: accumulators [channels, positions] at evenly strided positions, and
    channel means [samples, channels] of outputs and of what is clamped to them."""
    low, high = layer.reach
    channels, count = layer.channels, len(layer.inputs)
    most = min(POSITIONS, max(_BYTES // (4 * channels), 1))
    ratio = layer.ratio.astype(np.float32)
    offset = bias.astype(np.float32)
    kept, outputs, arguments = [], [], []
    for n, z in enumerate(layer.accumulators()):
        z *= ratio
        stride = max(1, -(-len(z) * count // most))
        kept.append(z[n % stride :: stride].T.copy())
        z += offset
        arguments.append(z.mean(axis=0, dtype=np.float64))
        np.rint(z, out=z)
        np.clip(z, low, high, out=z)
        outputs.append(z.mean(axis=0, dtype=np.float64))
    return np.concatenate(kept, axis=1), np.array(outputs), np.array(arguments)


def bisect(
    z: np.ndarray, start: np.ndarray, goal: np.ndarray, reach: tuple[int, int], steps: int
) -> np.ndarray:
    """The b of each channel at which mean(clamp(z + b)) is `goal`.

    Args:
      z: [channels, positions].
      start: [channels], the middle of what is searched.
      goal: [channels].
      reach: what is clamped to. As far as half of it each way is searched: 128 steps of 8 bits.
      steps: how often the interval is halved.
    """
    half = (reach[1] - reach[0] + 1) / 2
    # Most biases are off by less than a step: the halvings down to one need not be gone through.
    near = min(max(int(np.log2(half)), 0), steps - 1)
    found = np.empty(len(z))
    rows = max(1, _BLOCK // max(z.shape[1], 1))
    for first in range(0, len(z), rows):
        block = slice(first, first + rows)
        part, middle, wanted = z[block], start[block], goal[block]
        scratch = np.empty_like(part)
        short = _falls_short(part, middle, wanted, reach, scratch)
        edge = middle + np.where(short, half, -half) / 2**near
        far = np.flatnonzero(_falls_short(part, edge, wanted, reach, scratch) == short)
        a, c = np.where(short, middle, edge), np.where(short, edge, middle)
        if far.size:
            wide = middle[far] + np.where(short[far], half, -half)
            a[far], c[far] = _halved(
                part[far],
                np.minimum(middle[far], wide),
                np.maximum(middle[far], wide),
                wanted[far],
                reach,
                near,
            )
        a, c = _halved(part, a, c, wanted, reach, steps - 1 - near)
        found[block] = (a + c) / 2
    return found


def _halved(
    z: np.ndarray,
    a: np.ndarray,
    c: np.ndarray,
    goal: np.ndarray,
    reach: tuple[int, int],
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The intervals [a, c] of all channels, halved so many times."""
    scratch = np.empty_like(z)
    for _ in range(steps):
        middle = (a + c) / 2
        short = _falls_short(z, middle, goal, reach, scratch)
        a, c = np.where(short, middle, a), np.where(short, c, middle)
    return a, c


def _falls_short(
    z: np.ndarray, b: np.ndarray, goal: np.ndarray, reach: tuple[int, int], scratch: np.ndarray
) -> np.ndarray:
    """Whether mean(clamp(z + b)) of each channel is below its goal."""
    np.add(z, b.astype(z.dtype)[:, None], out=scratch)
    np.clip(scratch, *reach, out=scratch)
    return np.asarray(scratch.mean(axis=1) < goal)


def sureness(shifts: np.ndarray) -> np.ndarray:
    """How much of each channel's step is taken: max(0, 1 - se^2 / mean^2), of [samples, channels].

    A shift of zero is nothing to be sure of.
    """
    mean = shifts.mean(axis=0)
    error = shifts.std(axis=0, ddof=1) / np.sqrt(len(shifts))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = 1 - (error / mean) ** 2
    return np.where(mean == 0, 0.0, np.maximum(factor, 0.0))


def largest_bias(layer: Layer) -> int:
    """How large a bias may become."""
    return _MOST if layer.weights.dtype == "int8" else _MOST_NARROW


def _in_bounds(old: np.ndarray, new: np.ndarray, most: int) -> np.ndarray:
    """The new biases, without any that the kernel's accumulator might overflow with."""
    kept = np.abs(old.astype(np.float64)) > most
    return np.where(kept, old, np.clip(new, -most, most).reshape(old.shape)).astype(old.dtype)
