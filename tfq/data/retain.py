"""Which samples are kept, and which are kept from calibration.

Data is read once, yet bias correction and proof need samples again: a bounded number of them is
retained while calibration streams past. Some of them calibration never sees, so that proof is not
done on what the ranges were fitted to. Both choices are functions of the sample's index alone:
the same on every run, machine and order of arrival.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from tfq.data.source import Sample, SampleSource

HELD_BACK_STRIDE = 8
HELD_BACK_FROM = 48


def mix(value: int) -> int:
    """A well-mixed 64-bit hash of an integer: splitmix64 (Steele, Lea and Flood, 2014)."""
    mask = (1 << 64) - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def mix_all(values: np.ndarray) -> np.ndarray:
    """`mix` of every integer of an array, uint64."""
    value = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class RetainedSamples:
    """A uniform random choice of at most `limit` samples of a stream of unknown length.

    Every index has a pseudo-random priority and the lowest are kept (bottom-k sampling), so the
    choice depends on the set of samples offered and not on their order.

    Args:
      limit: the most samples kept.
      max_bytes: the most memory of their arrays in bytes; one sample is kept in any case.
      seed: another choice.
    """

    def __init__(self, limit: int = 64, max_bytes: int = 64 << 20, seed: int = 0):
        self.limit = limit
        self.max_bytes = max_bytes
        self._salt = mix(seed)
        # (-priority, -index, number, sample): the number keeps samples from being compared.
        self._heap: list[tuple[int, int, int, Sample]] = []
        self._offered = 0
        self._bytes = 0

    def offer(self, sample: Sample) -> None:
        """Considers `sample` (each index is to be offered once). O(log limit)."""
        entry = (-mix(sample.index ^ self._salt), -sample.index, self._offered, sample)
        self._offered += 1
        heapq.heappush(self._heap, entry)
        self._bytes += sample.nbytes
        while self._heap and len(self._heap) > self.limit:
            self._drop()
        while len(self._heap) > 1 and self._bytes > self.max_bytes:
            self._drop()

    def _drop(self) -> None:
        self._bytes -= heapq.heappop(self._heap)[3].nbytes

    @property
    def samples(self) -> list[Sample]:
        """The samples kept, in the order of their index."""
        return sorted((entry[3] for entry in self._heap), key=lambda s: s.index)

    def __len__(self) -> int:
        return len(self._heap)


def held_back(index: int, count: int | None, maximum: int = 32) -> bool:
    """Whether sample `index` is kept from calibration.

    One of every 8 is, at a place within the 8 that varies, so that data whose classes alternate
    is not caught by its period. Of many samples fewer are: `maximum` spread over all of them. With
    fewer than 48 samples calibration needs them all; where `count` is unknown the first 48 are
    calibration's.
    """
    if maximum <= 0 or (count is not None and count < HELD_BACK_FROM):
        return False
    start = 0 if count is not None else HELD_BACK_FROM
    stride = max(HELD_BACK_STRIDE, -(-(count or 0) // maximum))
    block, place = divmod(index - start, stride)
    return 0 <= block < maximum and place == mix(block) % stride


def split(source: SampleSource, held_back_max: int = 32) -> Iterator[tuple[Sample, bool]]:
    """Streams all samples of `source`, each with whether it is held back from calibration."""
    for sample in source:
        yield sample, held_back(sample.index, source.count, held_back_max)
