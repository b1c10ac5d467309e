"""Values that masks hide, by order of magnitude.

Scores of which masked ones are -1e9 have all their power, their variation and their grid from the
mask; the others may all be zero and nothing shows. So values, and their errors, are summed by sign
and octave. Where a gap of more than a quarter of the whole range parts them, what lies above it is
hidden if less than 3 dB of what differs there is left, and

 - fewer than half of the answers are the same, and values are masked in one sample and open in
   another (a channel lies on both sides of the gap), or the gap is far; or
 - there are no answers, and the gap is far: 4,096 times as wide as all that lies above.

What lies below a gap is small beside large values, as the scores of a detector's background are.

Memory: four arrays of 255 numbers.
"""

from __future__ import annotations

import numpy as np

from tfq.parts import ChannelSums, decibel

_HALF = 127  # Octaves of one sign, from 2^-64 on.
_MIDDLE = 64
_GAP = 0.25
_FAR = 2.0**12
_LOST_DB = 3.0
# A side of fewer values, or of a smaller share, is an outlier.
_FEWEST, _SHARE = 3, 0.01
# Differences below this share of the values' size are float rounding.
_ROUNDING = 1e-4


class Magnitudes:
    """Sums of the values of one output by sign and octave."""

    def __init__(self) -> None:
        codes = 2 * _HALF + 1
        self.counts, self.sums, self.squares, self.errors = (np.zeros(codes) for _ in range(4))

    def add(self, e: np.ndarray, r: np.ndarray) -> None:
        """Adds real values of the float and of the integer model, float64 and finite."""
        values, off = e.reshape(-1), (r - e).reshape(-1)
        octave = np.clip(np.frexp(values)[1] + _MIDDLE, 1, _HALF)
        codes = np.sign(values).astype(np.int64) * octave + _HALF
        for kept, weights in (
            (self.counts, None),
            (self.sums, values),
            (self.squares, values * values),
            (self.errors, off * off),
        ):
            kept += np.bincount(codes, weights, minlength=kept.size)

    def hidden(self, sums: ChannelSums, *, other: bool | None) -> tuple[float, float] | None:
        """Bounds, powers of two, of the values that are hidden, or None.

        Args:
          sums: those of the same values by channel.
          other: whether most answers are others; None without answers.
        """
        there = np.flatnonzero(self.counts)
        if there.size < 2 or other is False:
            return None
        ends = [_ends(int(code)) for code in there]
        low, high = ends[0][0], ends[-1][1]
        for i in range(1, there.size):
            below, above = ends[i - 1][1], ends[i][0]
            gap = above - below
            if gap <= _GAP * (high - low) or not self._lost(there[i:]):
                continue
            if gap > _FAR * (high - above):
                return above, high
            if other and np.any((sums.low <= below) & (sums.high >= above)):
                return above, high
        return None

    def _lost(self, at: np.ndarray) -> bool:
        count = self.counts[at].sum()
        if count < max(_FEWEST, _SHARE * self.counts.sum()):
            return False
        power = self.squares[at].sum()
        left = power - self.sums[at].sum() ** 2 / count
        return bool(left > _ROUNDING**2 * power) and decibel(left, self.errors[at].sum()) < _LOST_DB


def _ends(code: int) -> tuple[float, float]:
    """The values that a code stands for lie between these."""
    octave = abs(code - _HALF)
    if not octave:
        return 0.0, 0.0
    low, high = 2.0 ** (octave - 1 - _MIDDLE), 2.0 ** (octave - _MIDDLE)
    return (low, high) if code > _HALF else (-high, -low)
