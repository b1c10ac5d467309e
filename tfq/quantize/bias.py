"""Sequential empirical bias correction, on the emitted integer model itself.

Rounding weights and activations shifts the mean of a layer's outputs, and the shifts add up from
layer to layer. For each weighted layer and channel, over samples and positions,

    delta = mean(float output - integer output) / share of integer outputs that are not clipped

is what the channel's output is off by; its bias is moved by delta (Nagel et al. 2019, "Data-Free
Quantization Through Weight Equalization and Bias Correction", section 4.2, the empirical form, here
measured on the integer kernels instead of a simulation).

It goes in rounds: the layers are cut into as many stretches as there are rounds, and round k
corrects stretch k and everything before it, so that later layers are measured on inputs that are
already corrected. A channel's correction is kept only where it lowers that channel's mean error on
samples that it was not computed from, and a round only where on those samples no output, and no
part of one, loses and at least one gains (`tfq.trial`).

Cost: rounds + 1 runs of the integer model and one of the float model over the samples.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfq.graph.boundary import InputQuantizer
from tfq.graph.model import Graph, Model, Tensor
from tfq.graph.numerics import LIMITS, Grid
from tfq.graph.optable import Kind, spec
from tfq.quantize.emit import Emitted
from tfq.quantize.output_errors import OutputErrors, Watched, affordable_checks, watched
from tfq.runtime import Runner
from tfq.trial import Change, PartError, judge_change

# Fewer unclipped outputs than this say little about the channel.
_MIN_SHARE = 0.1

# Samples on which the share of clipped outputs is counted: it need not be exact.
_CLIP_SAMPLES = 16

Inputs = Mapping[str, np.ndarray]

# Per channel: means over the samples of fit and of check; the same and the unclipped share.
_Means = tuple[np.ndarray, np.ndarray]
_Shifts = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Correction:
    """What bias correction did.

    Attributes:
      layers: how many layers had at least one bias changed.
      rounds: rounds kept of rounds tried.
      changes: what the kept round does to every part of every output, on the samples that
        corrections were not computed from; where none was kept, what the best of them would do.
    """

    layers: int
    rounds: tuple[int, int]
    changes: tuple[Change, ...] = ()


@dataclasses.dataclass
class _Layer:
    name: str
    bias: Tensor
    grid: Grid  # of the bias
    float_index: int
    index: int
    out: Grid
    channels: int


def correct_biases(
    float_model: Model,
    float_bytes: bytes,
    emitted: Emitted,
    fit: Sequence[Inputs],
    check: Sequence[Inputs],
    *,
    rounds: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> Correction:
    """Corrects the biases of `emitted` in place.

    Args:
      float_model, float_bytes: the prepared float model.
      emitted: the quantized model; its bias constants are replaced.
      fit: samples (tensor name -> float values) that corrections are computed from.
      check: other samples, which decide what is kept.
      rounds: how many stretches the layers are corrected in.
      progress: called with (runs done, runs in all).

    Returns:
      What was done. With no layer to correct, or no samples, nothing is.
    """
    layers = _layers(float_model, emitted)
    if not layers or not fit or not check:
        return Correction(0, (0, 0))
    targets = watched(float_model, emitted)
    check = check[: affordable_checks(targets, float_model, check)]
    total = (len(fit) + len(check)) * (rounds + 1) + len(check)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    float_means, outputs = _float_means(float_bytes, layers, targets, fit, check, tick)
    first: tuple[PartError, ...] | None = None
    best = [layer.bias.values() for layer in layers]
    best_score, best_touched, kept = math.inf, set[str](), 0
    tried_score, changes = math.inf, tuple[Change, ...]()
    touched: set[str] = set()
    for r in range(rounds + 1):
        # After the last correction only the error is of interest.
        reach = -(-len(layers) * (r + 1) // rounds) if r < rounds else 0
        shifts, errors = _measure(
            emitted, layers[:reach], OutputErrors(targets, outputs), fit, check, tick
        )
        if first is None:
            first = errors
        elif touched:
            verdict = judge_change(first, errors)
            if verdict.kept and verdict.score < best_score:
                best_score, kept, changes = verdict.score, r, verdict.changes
                best = [layer.bias.values() for layer in layers]
                best_touched = set(touched)
            elif not kept and verdict.score < tried_score:
                tried_score, changes = verdict.score, verdict.changes
        if r == rounds:
            break
        for k, layer in enumerate(layers[:reach]):
            if _apply(layer, shifts[k], float_means[k]):
                touched.add(layer.name)
    for layer, bias in zip(layers, best, strict=True):
        layer.bias.data = bias
    return Correction(len(best_touched), (kept, rounds), changes)


# Multiplications over which samples are spent, and how many there are at least. Large models have
# many positions in each sample, so that few samples give means as good.
_BUDGET = 4e9
_FEWEST = 16


def affordable(
    graph: Graph, fit: Sequence[Inputs], check: Sequence[Inputs]
) -> tuple[Sequence[Inputs], Sequence[Inputs]]:
    """As many samples of both kinds as a model of this size is corrected with."""
    macs = 0
    for op in graph.ops:
        s = spec(op.name)
        if s is not None and s.kind is Kind.WEIGHTED and s.weights is not None:
            w = op.input(s.weights)
            channels = w.shape[s.axis] if s.axis is not None else 1
            macs += op.outputs[0].size * (w.size // max(channels, 1))
    count = max(int(_BUDGET / max(macs, 1)), _FEWEST)
    share = len(check) / max(len(fit) + len(check), 1)
    checks = max(round(count * share), 1)
    return fit[: max(count - checks, 1)], check[:checks]


def _layers(float_model: Model, emitted: Emitted) -> list[_Layer]:
    graph = emitted.model.main
    index = {t: i for i, t in enumerate(graph.tensors())}
    float_index = {t.name: i for i, t in enumerate(float_model.main.tensors())}
    biases = {id(b): name for name, b in emitted.biases.items()}
    layers = []
    for op in graph.ops:
        s = spec(op.name)
        if s is None or s.kind is not Kind.WEIGHTED or s.bias is None or len(op.inputs) <= s.bias:
            continue
        bias = op.inputs[s.bias]
        name = biases.get(id(bias))
        if bias is None or bias.quant is None or name is None:
            continue
        out = op.outputs[0]
        if out.quant is None:
            continue
        layers.append(
            _Layer(
                name,
                bias,
                Grid.of(bias.dtype, bias.quant),
                float_index[name],
                index[out],
                Grid.of(out.dtype, out.quant),
                bias.size,
            )
        )
    return layers


# float32 sums of this many integers of 16 bits stay exact; float64 takes over from there.
_EXACT = 256

# Shorter rows than this are added side by side, or numpy's loop overhead dominates.
_WIDTH = 1024


def _channel_means(values: np.ndarray, channels: int) -> np.ndarray:
    """Mean over all but the last axis, float64 [channels].

    float32 additions of whole rows are several times faster than numpy's mixed-type sums.
    """
    flat = values.reshape(-1)
    side = max(1, _WIDTH // channels)
    width = channels * side
    whole = flat.size // width
    total = np.zeros(width, np.float64)
    rows = flat[: whole * width].reshape(whole, width)
    for start in range(0, whole, _EXACT):
        block = rows[start : start + _EXACT].astype(np.float32, copy=False)
        total += block.sum(axis=0)
    rest = flat[whole * width :].reshape(-1, channels).astype(np.float32, copy=False)
    means = total.reshape(side, channels).sum(axis=0) + rest.sum(axis=0)
    return means * (channels / flat.size)


def _float_means(
    float_bytes: bytes,
    layers: Sequence[_Layer],
    targets: Sequence[Watched],
    fit: Sequence[Inputs],
    check: Sequence[Inputs],
    tick: Callable[[], None],
) -> tuple[list[_Means], list[list[np.ndarray]]]:
    """Per layer (mean over fit, mean over check) per channel, and the targets' values on check."""
    runner = Runner(float_bytes, keep_intermediates=True)
    sums = [[np.zeros(layer.channels) for layer in layers] for _ in range(2)]
    outputs = []
    for part, samples in enumerate((fit, check)):
        for inputs in samples:
            runner.reset_state()
            runner.run(inputs)
            if part == 1:
                outputs.append([w.read(runner.tensor(w.float_index)) for w in targets])
            for k, layer in enumerate(layers):
                values = runner.view(layer.float_index)
                sums[part][k] += _channel_means(values, layer.channels)
                del values
            tick()
    return [(sums[0][k] / len(fit), sums[1][k] / len(check)) for k in range(len(layers))], outputs


def _measure(
    emitted: Emitted,
    layers: Sequence[_Layer],
    outputs: OutputErrors,
    fit: Sequence[Inputs],
    check: Sequence[Inputs],
    tick: Callable[[], None],
) -> tuple[list[_Shifts], tuple[PartError, ...]]:
    """Runs the integer model: per layer (fit mean, check mean, unclipped share), and the errors."""
    data = emitted.model.to_bytes()
    runner = Runner(data, keep_intermediates=True)
    feed = InputQuantizer(emitted.model)
    means = [[np.zeros(layer.channels) for layer in layers] for _ in range(2)]
    unclipped = [np.zeros(layer.channels) for layer in layers]
    for part, samples in enumerate((fit if layers else (), check)):
        for n, inputs in enumerate(samples):
            runner.reset_state()
            runner.run(feed(inputs))
            if part == 1:
                outputs.update(n, [runner.tensor(w.index) for w in outputs.targets])
            for k, layer in enumerate(layers):
                q = runner.view(layer.index).reshape(-1, layer.channels)
                lo, hi = LIMITS[layer.out.dtype]
                mean = _channel_means(q, layer.channels)
                means[part][k] += (mean - layer.out.zero_point[0]) * layer.out.scale[0]
                if part == 0 and n < _CLIP_SAMPLES:
                    inside = (q > lo) & (q < hi)
                    unclipped[k] += _channel_means(inside.view(np.int8), layer.channels)
                del q
            tick()
    clip_samples = min(len(fit), _CLIP_SAMPLES)
    shifts = [
        (means[0][k] / len(fit), means[1][k] / len(check), unclipped[k] / clip_samples)
        for k in range(len(layers))
    ]
    return shifts, outputs.result()


def _apply(layer: _Layer, measured: _Shifts, expected: _Means) -> bool:
    """Moves the biases of one layer where unseen samples agree; whether any changed."""
    mean_fit, mean_check, share = measured
    off_fit, off_check = expected[0] - mean_fit, expected[1] - mean_check
    # A clipped output does not move with the bias, so the others must move further.
    helps = np.abs(off_check - off_fit) < np.abs(off_check)
    delta = np.where(helps & (share >= _MIN_SHARE), off_fit / np.maximum(share, _MIN_SHARE), 0.0)
    step = np.rint(delta / np.array(layer.grid.scale))
    if not step.any():
        return False
    old = layer.bias.values()
    lo, hi = LIMITS["int32"]
    new = np.clip(old.astype(np.float64) + step, lo // 2, hi // 2)
    changed = np.where(np.abs(old.astype(np.float64)) > hi // 2, old, new).astype(old.dtype)
    layer.bias.data = changed
    return bool((changed != old).any())


def drop_idle_biases(emitted: Emitted) -> int:
    """Takes biases away that are all zero, where the kernel does without; returns how many.

    Ops without a bias were given one so that it could be corrected. A bias with a scale and a zero
    point for each of 1,000 channels is 16 KB.
    """
    dropped = 0
    for op in emitted.model.main.ops:
        s = spec(op.name)
        if s is None or s.kind is not Kind.WEIGHTED or s.bias is None or s.needs_bias:
            continue
        bias = op.inputs[s.bias] if s.bias < len(op.inputs) else None
        if bias is not None and bias.is_const and not bias.values().any():
            op.inputs = [None if t is bias else t for t in op.inputs]
            dropped += 1
    return dropped
