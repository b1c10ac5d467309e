"""The figures of a model as causes look at them: noise relative to the signal, and who reads whom.

The noise that a tensor's own op adds is told apart into

    step     rounding to the tensor's own grid: scale^2 / 12 over the signal's power
    clip     float values beyond the grid's ends, from the histogram
    weights  rounding of the op's weights: the same ratio as that of the weights themselves, for
             inputs and rounding errors that are not correlated

and the rest, which came in with its inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tfq.evaluate.causes import noise
from tfq.evaluate.figures import LayerAnalysis, Reading, TensorFigures
from tfq.graph.optable import Kind, op_names, spec
from tfq.observe.sketch import Bins

# Noise below this part of the signal (30 dB) is not worth a word: 8 bits give 35 to 45 dB.
FINE = 1e-3

# A quarter of the grid: two bits are idle.
NARROW = 0.25

# Three bits less for the median channel than for the widest.
UNEVEN = 8.0

# Noise that is so many times as large behind a tensor, and not explained there, was hidden in it.
_HIDDEN = 4.0

_SQUASHING = op_names(lambda row: row.squashes) | {"LOG_SOFTMAX"}


class View:
    """One analysis, with what is asked of it again and again.

    Args:
      analysis: the figures.
      options: how the model was converted, as far as known: keys as in `Config.as_dict`.
      outputs: names of the outputs, by tensor.
    """

    def __init__(
        self,
        analysis: LayerAnalysis,
        options: Mapping[str, Any],
        outputs: Mapping[str, str] | None = None,
    ):
        self.analysis = analysis
        self.options = options
        self._output_names = outputs or {}
        self.rules: tuple[Mapping[str, Any], ...] = tuple(options.get("rules") or ())
        self._named = {t.name: t for t in analysis.tensors}
        self._readers: dict[str, list[TensorFigures]] = {}
        for t in analysis.tensors:
            for name in dict.fromkeys(t.inputs):
                self._readers.setdefault(name, []).append(t)
        self._reaching = self._find_reaching()
        self._bins = {t.name: noise.bins_of(t) for t in analysis.tensors}
        self._power = {t.name: self._power_of(t) for t in analysis.tensors}

    def inputs(self, t: TensorFigures) -> list[TensorFigures]:
        return [self._named[n] for n in t.inputs if n in self._named]

    def readers(self, t: TensorFigures) -> list[TensorFigures]:
        return self._readers.get(t.name, [])

    def outputs(self) -> list[TensorFigures]:
        """Where the model's error is read: tensors that nothing reads, and what they squash.

        Behind a sigmoid or softmax that is sure of itself, an error cannot be seen.
        """
        last = [t for t in self.analysis.tensors if self.is_output(t)]
        return [*(i for t in last if t.op in _SQUASHING for i in self.inputs(t)), *last]

    def is_output(self, t: TensorFigures) -> bool:
        """Whether nothing reads `t`."""
        return not self.readers(t)

    def output_name(self, t: TensorFigures) -> str:
        """What the user calls an output."""
        # Behind a float output, the integers have a name of their own.
        name = t.name.removesuffix(f"/{t.dtype}")
        return self._output_names.get(t.name) or self._output_names.get(name) or name

    def sources(self, t: TensorFigures) -> set[str]:
        """Names of all tensors that `t` depends on, itself included."""
        found: set[str] = set()
        stack = [t]
        while stack:
            here = stack.pop()
            if here.name not in found:
                found.add(here.name)
                stack += self.inputs(here)
        return found

    def users(self, t: TensorFigures) -> list[TensorFigures]:
        """The tensors that are computed from `t`, behind ops that only move its values."""
        found: list[TensorFigures] = []
        for r in self.readers(t):
            found += self.users(r) if moves(r) and same_grid(r, t) else [r]
        return found

    def users_until_even(self, t: TensorFigures) -> list[TensorFigures]:
        """The same, and what reads them in turn while small channels are lost beside large ones."""
        found: dict[str, TensorFigures] = {}
        stack = self.users(t)[::-1]
        while stack:
            here = stack.pop()
            if here.name not in found:
                found[here.name] = here
                if self._hides(here):
                    stack += self.users(here)[::-1]
        return list(found.values())

    def _hides(self, t: TensorFigures) -> bool:
        """Whether what is small in `t` matters to what reads it."""
        if t.channels is not None and t.channels.imbalance >= UNEVEN:
            return True
        return (self.passed_on(t) or 0.0) >= max(FINE, _HIDDEN * (self.accumulated(t) or 0.0))

    def joined(self, t: TensorFigures) -> list[TensorFigures]:
        """`t` and all that ops which only move values give the same grid, in order of execution."""
        found = {t.name: t}
        stack = [t]
        while stack:
            here = stack.pop()
            before = self.inputs(here) if moves(here) else []
            near = [*before, *(r for r in self.readers(here) if moves(r))]
            for other in near:
                if other.name not in found and same_grid(other, here):
                    found[other.name] = other
                    stack.append(other)
        return [o for o in self.analysis.tensors if o.name in found]

    def bins(self, t: TensorFigures) -> Bins | None:
        """The float values, or None where they are unknown."""
        return self._bins[t.name]

    def _power_of(self, t: TensorFigures) -> float:
        if t.power is not None:
            return t.power
        bins = self.bins(t)
        return 0.0 if bins is None else noise.power(bins)

    def variance(self, t: TensorFigures) -> float:
        """Of the float values; 0 where unknown."""
        bins = self.bins(t)
        return 0.0 if bins is None else max(noise.power(bins) - noise.mean(bins) ** 2, 0.0)

    def relative(self, t: TensorFigures, value: float) -> float:
        """A noise power over the power of the float values; 0 where that is unknown."""
        power = self._power[t.name]
        return value / power if power > 0 else 0.0

    def step(self, t: TensorFigures) -> float:
        return self.relative(t, t.scale**2 / 12)

    def clip(self, t: TensorFigures) -> float:
        bins = self.bins(t)
        if bins is None or not t.saturation:
            return 0.0
        return self.relative(t, noise.clipping(bins, *t.grid))

    def weights(self, t: TensorFigures) -> float:
        return 0.0 if t.weights is None else noise.relative(t.weights.sqnr_db)

    def isolated(self, t: TensorFigures) -> float | None:
        """Noise of the tensor's own making, relative to the signal.

        No more than what is there as the model runs: bias correction makes a layer worse by itself
        to undo what came before, and equalized layers do not fit the float model's inputs.
        """
        if t.isolated is None:
            return None
        running = self.accumulated(t)
        isolated = noise.relative(t.isolated.sqnr_db)
        return isolated if running is None else min(isolated, running)

    def accumulated(self, t: TensorFigures) -> float | None:
        return None if t.accumulated is None else noise.relative(t.accumulated.sqnr_db)

    def own(self, t: TensorFigures) -> float:
        """The part of a tensor's noise that its own grid and weights explain."""
        return self.step(t) + self.clip(t) + self.weights(t)

    def passed_on(self, t: TensorFigures) -> float | None:
        """Noise that shows only in what is computed from `t`, and is not explained there.

        Small channels, or small differences, carry next to nothing of a tensor's power: their loss
        is seen where the next layer's weights make them large. None where nothing reads `t`.
        """
        found = []
        for u in self.users(t):
            isolated, here = self.isolated(u), self.accumulated(t)
            if isolated is not None:
                found.append(isolated - self.own(u))
            there = self.accumulated(u)
            if there is not None and here is not None:
                found.append(there - here - self.own(u))
        return max(0.0, *found) if found else None

    def bias(self, t: TensorFigures, reading: Reading) -> tuple[float, float]:
        """The part of the noise that is a constant error, relative to the signal and to the noise.

        The channels' mean errors b_c give mean(b_c^2): where that was not counted, it is at least
        worst^2 / channels.
        """
        total = noise.relative(reading.sqnr_db)
        if reading.shift is not None:
            return reading.shift * total, reading.shift
        channels = t.channels.count if t.channels else 1
        square = max(reading.bias_lsb**2, reading.worst_bias_lsb**2 / channels) * t.scale**2
        part = min(self.relative(t, square), total)
        return part, (part / total if total > 0 else 0.0)

    def reaching(self, t: TensorFigures) -> float:
        """No more of the noise of `t` got through to the worst of `outputs` that it leads to.

        That is what this output has, or the next layers, whichever is less. Infinite where neither
        was read. Where a next layer hides it behind larger channels, what those behind it show is
        what counts.
        """
        there = [
            max(n, self.passed_on(u) or 0.0)
            for u in self.users(t)
            if (n := self.accumulated(u)) is not None
        ]
        return min(self._reaching[t.name], max(there, default=math.inf))

    def _find_reaching(self) -> dict[str, float]:
        read = {t.name for t in self.outputs()}
        found: dict[str, float] = {}
        for t in reversed(self.analysis.tensors):
            here = self.accumulated(t)
            ends = [found[r.name] for r in self.readers(t)]
            if t.name in read:
                ends.append(math.inf if here is None else here)
            found[t.name] = max(ends)
        return found

    def repeats(self, t: TensorFigures) -> float:
        """How many values a channel of `t` had over all samples."""
        return self.analysis.samples * math.prod(t.shape) / (t.shape[-1] if t.shape else 1)

    def option(self, name: str, default: str = "") -> str:
        """An option's value by name; of a range rule its name."""
        value = self.options.get(name)
        if isinstance(value, Mapping):
            value = value.get("rule")
        return default if value is None else str(value).partition(":")[0]

    def range_rule(self, t: TensorFigures) -> str:
        """The name of the rule that gave a tensor its range; "" where that is not known."""
        own = (self.options.get("ranges") or {}).get(t.name)
        return str(own.get("rule", "")) if isinstance(own, Mapping) else self.option("calibration")

    def tried(self, improvement: str) -> str | None:
        """What conversion kept of an improvement, "" for nothing; None where it was not tried."""
        return (self.options.get("improvements") or {}).get(improvement)

    def is_set(self, name: str, value: str) -> bool:
        """Whether the file is known to be made with this value of an option."""
        return name in self.options and self.options[name] == value


def bits(t: TensorFigures) -> int:
    return 16 if t.dtype in ("int16", "uint16") else 8


def enters(t: TensorFigures) -> bool:
    """Whether `t` is an input of the model, as it is or as its quantized values."""
    return t.op == "INPUT" or (t.op == "QUANTIZE" and not t.inputs)


def width(ends: tuple[float, float]) -> float:
    """Of the range that a grid needs, which holds zero."""
    return max(ends[1], 0.0) - min(ends[0], 0.0)


def same_grid(a: TensorFigures, b: TensorFigures) -> bool:
    return (a.dtype, a.scale, a.zero_point) == (b.dtype, b.scale, b.zero_point)


def moves(t: TensorFigures) -> bool:
    """Whether the op of `t` selects or moves integers without rescaling them."""
    s = spec(t.op)
    return s is not None and s.kind is Kind.SAME


def fixed(t: TensorFigures) -> bool:
    """Whether the kernel fixes the grid of `t`."""
    s = spec(t.op)
    return s is not None and t.dtype in s.fixed and abs(s.fixed[t.dtype][0] / t.scale - 1) < 1e-6


def partner(t: TensorFigures) -> tuple[str, tuple[float, float]] | None:
    """The tensor that makes the shared grid of `t` so wide that `t` uses little of it, if any."""
    if not t.shares_with or width(t.observed) > NARROW * width(t.grid):
        return None
    widest = max(t.shares_with, key=lambda other: width(other[1]))
    return widest if width(widest[1]) >= 0.5 * width(t.grid) else None


def label(t: TensorFigures) -> str:
    """A tensor for a person: its layer, else the first of the names that fusing joined."""
    return t.layer or t.name.partition(";")[0]
