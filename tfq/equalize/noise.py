"""How much noise few bits add to the outputs of a layer, when its channels are scaled.

The formulas are those of `scales`. All noise is relative to the output's power.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.equalize.channels import Use
from tfq.observe.channels import ChannelStatistics
from tfq.rewrite.match import WEIGHTED

LEVELS = {"int8": 255.0, "int16": 65535.0}

# Relative to the signal: 120 dB below.
_NO_NOISE = 1e-12


@dataclasses.dataclass(eq=False)
class Factors:
    """The scales that a group has at the moment."""

    t: np.ndarray


class Layer:
    """A weighted op as the noise model sees it.

    Rows are output channels. Columns are input channels, of which a depthwise row has one.

    Args:
      use: the op.
      per_tensor: whether its weights will have one scale.
      bits: of the weights.
      most: rows to look at, spread evenly; noise is an average over them.
    """

    def __init__(self, use: Use, per_tensor: bool, bits: int = 8, most: int | None = None):
        op, w = use.op, use.weights
        self.depthwise = op.name == "DEPTHWISE_CONV_2D"
        self.per_tensor = per_tensor
        self.levels = 2.0 ** (bits - 1) - 1
        count = w.shape[WEIGHTED[op.name][3]]
        few = most is not None and not self.depthwise
        self.rows = np.arange(0, count, -(-count // most) if few and most else 1)
        if self.depthwise:
            rows = np.moveaxis(w, 3, 0)[:, None]
        elif op.name == "FULLY_CONNECTED":
            rows = w[self.rows][..., None]
        else:
            rows = np.moveaxis(w[self.rows], 3, 1)
        rows = rows.reshape(*rows.shape[:2], -1).astype(np.float64)
        self.taps = rows.shape[2]
        self.squares = np.einsum("ock,ock->oc", rows, rows)
        self.largest = np.abs(rows).max(axis=2, initial=0.0)

    def columns(self, values: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Values of channels, laid out to be combined with rows and columns."""
        return values[channels][:, None] if self.depthwise else values[channels][None]

    def weight_noise(self, t: np.ndarray, square: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Noise that rounding weights adds to each output, relative to the output's power.

        Args:
          t: scale of each column; square: its mean square before; v: scale of each row.
        """
        largest = (self.largest * v[:, None] / t).max(axis=1)
        steps = (largest.max(initial=0.0) if self.per_tensor else largest) / self.levels
        power = np.sum(np.broadcast_to(t * t * square, self.squares.shape), axis=1) * self.taps
        return _ratio(steps**2 / 12 * power, v * v * self.power(square))

    def input_noise(
        self, t: np.ndarray, square: np.ndarray, active: np.ndarray, step: float
    ) -> np.ndarray:
        """The same of rounding the scaled input, where it is active, to a grid with this step."""
        noise = step**2 / 12 * np.sum(self.squares * active / (t * t), axis=1)
        return _ratio(noise, self.power(square))

    def power(self, square: np.ndarray) -> np.ndarray:
        return np.sum(self.squares * square, axis=1)


def _ratio(noise: np.ndarray, power: np.ndarray) -> np.ndarray:
    return np.divide(noise, power, out=np.zeros(power.shape), where=power > 0)


def _level(relative: np.ndarray) -> float:
    """One figure for a layer, from the noise of each output relative to its power.

    The mean logarithm: what most outputs gain counts, not one that is all but silent. More noise
    than signal is no worse than as much.
    """
    return float(np.mean(np.log(relative / (1 + relative) + _NO_NOISE)))


@dataclasses.dataclass
class Reader:
    """One reader of a group: its layer, and the input it reads."""

    layer: Layer
    channels: np.ndarray
    seen: ChannelStatistics
    levels: float
    after: Factors | None = None  # the group that it writes

    def noise(self, t: np.ndarray) -> float:
        high, low = (t * self.seen.high).max(), (t * self.seen.low).min()
        columns = self.layer.columns(t, self.channels)
        square = self.layer.columns(self.seen.square, self.channels)
        active = self.layer.columns(self.seen.nonzero, self.channels)
        step = float(high - low) / self.levels
        total = self.layer.input_noise(columns, square, active, step)
        total = total + self.layer.weight_noise(columns, square, self.row_scales())
        return _level(total)

    def row_scales(self) -> np.ndarray:
        """What the group that is written scales the rows by."""
        return (
            np.ones(self.layer.rows.size) if self.after is None else self.after.t[self.layer.rows]
        )

    def sensitivity(self) -> np.ndarray:
        """What rounding each unscaled channel adds to the outputs' relative noise."""
        square = self.layer.columns(self.seen.square, self.channels)
        power = self.layer.power(square)[:, None]
        parts = _ratio(self.layer.squares, np.broadcast_to(power, self.layer.squares.shape))
        parts = parts[:, 0] if self.layer.depthwise else parts.sum(axis=0)
        total = np.zeros(self.seen.nonzero.size)
        np.add.at(total, self.channels, parts)
        return total * self.seen.nonzero


@dataclasses.dataclass
class Writer:
    """One writer of a group whose weights have one scale."""

    layer: Layer
    before: tuple[Reader, Factors] | None = None  # what it reads, if that is a group too

    def noise(self, v: np.ndarray) -> float:
        t, square = self._input()
        return _level(self.layer.weight_noise(t, square, v))

    def largest(self) -> np.ndarray:
        """The largest weight of each row."""
        t, _ = self._input()
        return np.asarray((self.layer.largest / t).max(axis=1))

    def _input(self) -> tuple[np.ndarray, np.ndarray]:
        if self.before is None:
            return np.ones((1, 1)), np.ones((1, 1))
        reader, factors = self.before
        columns = self.layer.columns
        return columns(factors.t, reader.channels), columns(reader.seen.square, reader.channels)
