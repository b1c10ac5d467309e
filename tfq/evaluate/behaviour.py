"""What quantization did to a model's behaviour beyond its accuracy.

Each probe changes samples a little and asks how much the model's answers change, the quantized
models' beside the float one's: a model may keep its accuracy and still have become nervous.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from tfq.data.retain import mix, mix_all

Arrays = Mapping[str, np.ndarray]

_BRIGHTNESS = 0.02  # Of the input's range: 5 of 255 grey levels.


@dataclasses.dataclass(frozen=True)
class Probe:
    """A small change of the input.

    Attributes:
      name: for the report.
      title: for a person.
      images: whether it only makes sense for images.
    """

    name: str
    title: str
    images: bool = False


PROBES = (
    Probe("noise", "input noise of 1 LSB"),
    Probe("brighter", "2 % more brightness", images=True),
    Probe("shift", "a shift by 1 pixel", images=True),
)


@dataclasses.dataclass(frozen=True)
class Steps:
    """What one step and the whole range of each input are, in real units.

    Attributes:
      lsb: one step of the input's grid by argument name; 0 for inputs without real values.
      span: the width of the grid.
      images: names of the inputs that are images: [n, height, width, 1, 3 or 4 channels].
    """

    lsb: Mapping[str, float]
    span: Mapping[str, float]
    images: tuple[str, ...]


def changed(probe: Probe, samples: Arrays, indices: np.ndarray, steps: Steps, seed: int) -> Arrays:
    """`samples` with the probe's change.

    Args:
      probe: which.
      samples: argument name -> real values [n, ...].
      indices: the samples' numbers, [n]: each has noise of its own, wherever it is worked on.
      steps: sizes of the change.
      seed: of the noise.
    """
    if probe.name == "noise":
        return {name: _noisy(v, indices, steps.lsb[name], seed) for name, v in samples.items()}
    result = dict(samples)
    for name in steps.images:
        if probe.name == "brighter":
            result[name] = (samples[name] + _BRIGHTNESS * steps.span[name]).astype(np.float32)
        else:
            moved = np.roll(samples[name], 1, axis=2)
            moved[:, :, 0] = moved[:, :, 1]
            result[name] = moved
    return result


def _noisy(values: np.ndarray, indices: np.ndarray, lsb: float, seed: int) -> np.ndarray:
    if not lsb or values.dtype.kind != "f":
        return values
    result = np.empty_like(values)
    for i, index in enumerate(indices):
        rng = np.random.default_rng([seed, int(index)])
        step = rng.integers(-1, 2, values.shape[1:], dtype=np.int8)
        result[i] = values[i] + step.astype(np.float32) * np.float32(lsb)
    return result


def chosen(start: int, rows: int, total: int | None, limit: int, seed: int) -> np.ndarray:
    """The places in [0, rows) of a block at `start` whose samples are taken: about `limit` in all.

    A function of the sample's number alone, so that every split of the work takes the same; where
    the number of samples is known, at least one is taken. Where it is not, sample i is taken as if
    i + 1 were all: these are some more than `limit` (its logarithm times more), from everywhere,
    the first among them, and `thinned` makes them even.
    """
    numbers = np.arange(start, start + rows)
    if total is None:
        return np.flatnonzero(_hashes(numbers, seed) < _share(limit / (numbers + 1.0)))
    return np.flatnonzero(_taken(numbers, total, limit, seed))


def thinned(numbers: Sequence[int], total: int, limit: int, seed: int) -> list[int]:
    """The places of those `numbers` that `chosen` takes of `total` samples."""
    return np.flatnonzero(_taken(np.array(numbers, np.int64), total, limit, seed)).tolist()


def _taken(numbers: np.ndarray, total: int, limit: int, seed: int) -> np.ndarray:
    """Whether each sample is among `limit` of all."""
    if limit <= 0 or total <= 0:
        return np.zeros(len(numbers), bool)
    share = _share(np.array(limit / total))
    # By chance all hashes of a few samples may be above the share.
    return (_hashes(numbers, seed) < share) | (numbers == _lowest(total, seed))


def _share(share: np.ndarray) -> np.ndarray:
    """What hashes of that share are below."""
    return np.asarray(np.ceil(share * 2.0**53))


@functools.lru_cache
def _lowest(total: int, seed: int) -> int:
    """The number in [0, total) with the lowest hash."""
    best = (2.0**53, 0)
    for start in range(0, total, 1 << 20):
        hashes = _hashes(np.arange(start, min(start + (1 << 20), total)), seed)
        place = int(hashes.argmin())
        best = min(best, (float(hashes[place]), start + place))
    return best[1]


def _hashes(numbers: np.ndarray, seed: int) -> np.ndarray:
    """In 53 bits, which a float holds exactly."""
    return mix_all(numbers.astype(np.uint64) ^ np.uint64(mix(seed))) >> np.uint64(11)


def distance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The Euclidean distance of each sample's values, [n]."""
    off = (after.astype(np.float64) - before.astype(np.float64)).reshape(len(before), -1)
    return np.sqrt(np.sum(off * off, axis=1))
