"""Whether the samples are on the scale that the model was trained for.

Photos divided by 255 convert without an error in a model that takes 0 to 255, and the other way
round; the file is then good for nothing. Three kinds of evidence are strong enough to say so:

- a grid that was not calibrated from these samples (training chose it, the user, a plan), of which
  they use the part that a division by 255 leaves, or far beyond which they lie;
- the constants of a Rescaling or Normalization behind the input (`input_constants`), s * (x - c):
  samples that all are nearly 0 beside c, or far beyond it, or that a division by 255 makes vanish;
- for images, how the first layer and the whole network answer (`input_response`).

Where none of them speaks, nothing is said: 0 to 1 for -1 to 1, for one, cannot be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfq.graph.model import Graph, Model, Tensor
from tfq.graph.numerics import LIMITS, Grid
from tfq.verify.input_constants import affines
from tfq.verify.input_response import Network

Range = tuple[float, float]

BYTE, UNIT, SIGNED = (0.0, 255.0), (0.0, 1.0), (-1.0, 1.0)
TWICE = (0.0, 1 / 255)  # Divided by 255 once more.
_SOUND = (-32768.0, 32767.0)

# How samples of the first range become samples of the second: arrays, and images in files.
_WAYS = {
    (BYTE, UNIT): "arrays divided by 255; images in files with --scale=0.00392157",
    (BYTE, SIGNED): "arrays as x / 127.5 - 1; images in files with --mean=127.5 --scale=0.00784314",
    (UNIT, BYTE): "arrays times 255; images in files without --scale",
    (UNIT, SIGNED): "arrays as 2 * x - 1; images in files with --mean=127.5 --scale=0.00784314",
    (SIGNED, BYTE): "arrays as (x + 1) * 127.5; images in files without --mean and --scale",
    (SIGNED, UNIT): "arrays as (x + 1) / 2; images in files with --scale=0.00392157",
    (TWICE, UNIT): "arrays times 255; images in files with --scale=0.00392157",
    (TWICE, BYTE): "arrays times 65025; images in files without --scale",
}

_NEARLY = 0.05  # Ranges that differ by less are the same.
_ALIKE = 0.01  # The same of constants.
_IMAGE_SIDE = 8
_CONTRAST = 0.1  # Standard deviation over the range, below which images show too little.
_MOST = 8  # Samples that a network is asked with.

# Photos as 0 to 1 are 1/127 of the centre 127.5; a division by 255 leaves 1/255 of them.
_VANISHED = 16.0
_FAR = 32.0

# What samples are divided by -> the range that this is for: bytes, or sound in 16 bits.
_DIVISORS = {255: BYTE, 256: BYTE, 127.5: BYTE, 128: BYTE, 32767: _SOUND, 32768: _SOUND}

# Values beyond a grid are a matter of the range rule, until they are many and it is far.
_BEYOND, _TIMES = 0.1, 4.0


def near(value: float, wanted: float, tolerance: float = _NEARLY) -> bool:
    """Whether two numbers are the same but for rounding and a few missing values."""
    return abs(value / wanted - 1) <= tolerance


def usual(low: float, high: float) -> Range | None:
    """Which of the usual ranges of images values from `low` to `high` are in, if one."""
    if low >= 0 and near(high, TWICE[1]):
        return TWICE
    if high <= 0.5 or high > 255 * (1 + _NEARLY):
        return None
    if high <= 1 + _NEARLY:
        if low >= 0:
            return UNIT
        return SIGNED if low >= -1 - _NEARLY else None
    return BYTE if low >= 0 and high > 64 else None


def way_out(seen: Range, *wanted: Range) -> str | None:
    """What to do with samples of one usual range for a model of another; None where unknown."""
    have = usual(*seen)
    ways = [(w, _WAYS.get((have, w))) for w in (usual(*r) for r in wanted) if have and w]
    known = [f"as {span(range_)} ({way})" for range_, way in ways if way]
    return f"Give them {', or '.join(known)}." if known else None


def span(ends: Range) -> str:
    """ "0 to 255"."""
    return " to ".join(f"{v:.4g}" if abs(v) < 1000 else f"{v:.0f}" for v in ends)


def is_what_division_leaves(grid: Range, seen: Range) -> bool:
    """Whether samples use just the part of a grid that a division by 255 (127.5) leaves.

    By chance no data do.
    """
    if seen[1] <= 0 or seen[0] == seen[1]:
        return False
    ratio = (grid[1] - grid[0]) / (seen[1] - seen[0])
    return near(ratio, 255.0) if seen[0] >= 0 else grid[0] >= 0 and near(ratio, 127.5)


def grids_of(model: bytes) -> dict[str, Range]:
    """Tensor name -> the real values that an input spans, of quantized inputs."""
    return {
        t.name: Grid.of(t.dtype, t.quant).range()
        for t in Model.from_bytes(model).main.inputs
        if t.quant is not None and t.dtype in LIMITS
    }


def input_warnings(
    model: bytes,
    samples: Sequence[Mapping[str, np.ndarray]],
    grids: Mapping[str, Range],
    names: Mapping[str, str],
) -> list[str]:
    """What to say of inputs whose samples are on another scale than the model's.

    Args:
      model: the float model, as it came.
      samples: tensor name -> values as the input takes them, of some samples.
      grids: tensor name -> the real values that a quantized input spans, where it is one.
      names: tensor name -> the input's name, for the message.
    """
    if not samples:
        return []
    graph = Model.from_bytes(model)
    found = []
    for tensor in graph.main.inputs:
        arrays = [s[tensor.name] for s in samples if tensor.name in s]
        if not arrays or not tensor.size or arrays[0].dtype.kind not in "iuf":
            continue
        seen = (float(min(a.min() for a in arrays)), float(max(a.max() for a in arrays)))
        why, wanted = _of_grid(grids.get(tensor.name), seen, arrays)
        if not why:
            why, wanted, explicit = _of_constants(graph.main, tensor, seen, arrays)
            if not why and not explicit and len(graph.main.inputs) == 1:
                why, wanted = _of_answers(graph, tensor, seen, arrays)
        if why:
            found.append(_warning(names.get(tensor.name, tensor.name), seen, why, wanted))
    return found


def _warning(name: str, seen: Range, why: str, wanted: tuple[Range, ...]) -> str:
    way = way_out(seen, *wanted)
    return (
        f"THE SAMPLES DO NOT FIT THE INPUT {name}: they hold {span(seen)}, and "
        f"{why}. {way or 'Scale them as in training (images in files: --scale, --mean).'}"
    )


_Finding = tuple[str, tuple[Range, ...]]
_NOTHING: _Finding = ("", ())


def _of_grid(grid: Range | None, seen: Range, arrays: Sequence[np.ndarray]) -> _Finding:
    if grid is None or grid[1] <= grid[0] or seen[1] <= seen[0]:
        return _NOTHING
    if is_what_division_leaves(grid, seen):
        return f"its grid spans {span(grid)}", (grid,)
    step = (grid[1] - grid[0]) / 255
    beyond = sum(
        int(np.count_nonzero((a < grid[0] - step) | (a > grid[1] + step))) for a in arrays
    ) / sum(a.size for a in arrays)
    if beyond > _BEYOND and seen[1] - seen[0] > _TIMES * (grid[1] - grid[0]):
        return f"its grid spans {span(grid)}; {beyond:.0%} of them lie beyond", (grid,)
    return _NOTHING


def _of_constants(
    graph: Graph, tensor: Tensor, seen: Range, arrays: Sequence[np.ndarray]
) -> tuple[str, tuple[Range, ...], bool]:
    """What a Rescaling or Normalization says; at last whether there is one.

    Where several read the input, all of them have to say that the samples do not fit.
    """
    found = [_of_affine(*a, seen, arrays) for a in affines(graph, tensor)]
    if not found or not all(why for why, _ in found):
        return *_NOTHING, bool(found)
    return *found[0], True


def _of_affine(
    scale: np.ndarray, offset: np.ndarray, seen: Range, arrays: Sequence[np.ndarray]
) -> _Finding:
    """What s * x + o says, of `affines`."""
    largest = max(abs(seen[0]), abs(seen[1]))
    if not largest or (scale <= 0).any():
        return _NOTHING
    if not offset.any():
        divisor = 1 / float(np.median(scale))
        known = min(_DIVISORS, key=lambda d: abs(divisor - d))
        if not near(divisor, known, _ALIKE) or largest > 1 + _NEARLY:
            return _NOTHING
        range_ = _DIVISORS[known]
        return f"it divides them by {known:g}, which is for {span(range_)}", (range_,)
    center = -offset / scale
    if (center <= 0).any():
        return _NOTHING
    middle, spread = float(np.median(center)), float(np.median(1 / scale))
    wanted = (middle - 2 * spread, middle + 2 * spread)
    for range_ in (BYTE, UNIT):
        # Half of the range is what (x - c) * s makes 1; the deviation of images is a quarter.
        half = range_[1] / 2
        scaled = 0.3 * half < spread < 1.1 * half or (range_ == BYTE and spread == 1)
        if half / 2 < middle < 1.5 * half and scaled:
            wanted = range_
    divides = "" if spread == 1 else f" and divides by {spread:.4g}"
    text = f"it subtracts {middle:.4g}{divides}"
    if spread != 1 or wanted == BYTE:
        text += f", which is for {span(wanted)}"
    if largest < float(center.min()) / _VANISHED:
        return f"{text}; beside that they are all nearly 0", (wanted,)
    mean = float(np.mean([np.mean(np.abs(a)) for a in arrays]))
    if mean > _FAR * float(center.max()) and mean > _FAR * float((1 / scale).max()):
        return f"{text}; they are far beyond that", (wanted,)
    return _NOTHING


def _of_answers(
    model: Model, tensor: Tensor, seen: Range, arrays: Sequence[np.ndarray]
) -> _Finding:
    """What the network's answers say of images."""
    kind = usual(*seen)
    if kind is None or not _is_image(tensor):
        return _NOTHING
    some = [a.astype(np.float32) for a in arrays[:: max(1, len(arrays) // _MOST)][:_MOST]]
    if len(some) < 2 or np.std(some) < _CONTRAST * (kind[1] - kind[0]):
        return _NOTHING
    network = Network(model)
    if not network.speaks:
        return _NOTHING
    if kind == BYTE:
        if network.is_loud(some, [x / 255 for x in some]):
            return (
                "its first layer's responses are so far above its biases that its ReLU6 cuts most "
                "of them off",
                (UNIT, SIGNED),
            )
        return _NOTHING
    louder = [(x + 1) * 127.5 if kind == SIGNED else x * 255 for x in some]
    if network.is_faint(some, louder):
        wanted = UNIT if kind == TWICE else BYTE
        return (
            "they are so small beside the biases of its first layer that all look alike to it, "
            f"which as {span(wanted)} they would not",
            (wanted,),
        )
    return _NOTHING


def _is_image(tensor: Tensor) -> bool:
    """[..., height, width, channels], or channels first."""
    if tensor.dtype != "float32" or len(tensor.shape) not in (3, 4):
        return False
    shape = tensor.shape[-3:]
    for sides, channels in ((shape[:2], shape[2]), (shape[1:], shape[0])):
        if channels in (1, 3, 4) and min(sides) >= _IMAGE_SIDE:
            return True
    return False
