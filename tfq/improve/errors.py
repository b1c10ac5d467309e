"""The error of every output, and of its parts, sample by sample: what a trial is judged by.

Behind a saturated softmax or sigmoid an error cannot be seen, so besides the outputs themselves the
arguments of what squashes them are compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfq.graph.boundary import own_grid
from tfq.graph.model import Model, Tensor
from tfq.graph.numerics import Grid, dequantize
from tfq.graph.optable import MOVES, op_names
from tfq.graph.origin import has_fixed_range, last_grid
from tfq.improve.judge import PartError
from tfq.observe.loop import observe
from tfq.observe.observer import INTEGER, Observer, Read
from tfq.observe.values import ValuesObserver
from tfq.parts import Slice, channel_axis, find_slices, spreads
from tfq.quantize.candidate import Candidate
from tfq.quantize.emit import Emitted

Inputs = Mapping[str, np.ndarray]

_SQUASHING = op_names(lambda row: row.squashes)

# What is kept of the float model's outputs, but of no fewer samples than so many.
_MOST_BYTES = 256 << 20
_FEWEST = 4

# Deviation between samples, in steps, below which a squashed output says nothing.
_IDLE_STEPS = 8.0


@dataclasses.dataclass
class Watched:
    """A tensor on which both models are compared: an output, or what its softmax is of."""

    output: str
    argument: str  # "" for the output itself, or "before SOFTMAX"
    float_tensor: str
    tensor: str
    float_index: int
    index: int
    grid: Grid | None  # None for a float output
    step: float  # of the grid that the values were on last
    counts: bool  # integers that are no real numbers: class numbers, flags
    centered: bool  # a softmax does not see what is added to all its arguments
    whole: bool  # kernels fix the range, so that there are no parts

    def read(self, values: np.ndarray) -> np.ndarray:
        if self.counts:
            return values
        real = values.astype(np.float32, copy=False)
        return real - real.mean(axis=-1, keepdims=True) if self.centered else real


def watched(float_model: Model, emitted: Emitted) -> list[Watched]:
    """All outputs, and the arguments of those that are squashed."""
    main, graph = float_model.main, emitted.model.main
    producers, made = main.producers(), graph.producers()
    index = {t: i for i, t in enumerate(graph.tensors())}
    float_index = {t: i for i, t in enumerate(main.tensors())}
    found = []

    def add(output: Tensor, t: Tensor, e: Tensor, argument: str, centered: bool) -> None:
        grid = last_grid(e, made)
        found.append(
            Watched(
                output.name,
                argument,
                t.name,
                e.name,
                float_index[t],
                index[e],
                own_grid(e),
                grid.scale[0] if grid is not None else 0.0,
                not e.is_float and grid is None,
                centered,
                centered or has_fixed_range(t, producers),
            )
        )

    for output, e in zip(main.outputs, graph.outputs, strict=True):
        if output.is_const or e not in index:
            continue
        add(output, output, e, "", False)
        t, centered, name = output, False, ""
        while (op := producers.get(t)) is not None and op.name in _SQUASHING | MOVES:
            before = emitted.tensors.get(op.input(0).name)
            if before is None or before.quant is None or before not in index:
                break
            centered |= op.name == "SOFTMAX"
            name = name if op.name in MOVES else op.name
            t = op.input(0)
        e = emitted.tensors.get(t.name, e)
        if name and e in index:
            add(output, t, e, f"before {name}", centered)
    return found


class OutputErrors(Observer):
    """The errors of one integer model against kept outputs of the float model.

    Args:
      targets: what is compared.
      expected: for every sample the values of `targets` in the float model.
    """

    def __init__(self, targets: Sequence[Watched], expected: Sequence[Sequence[np.ndarray]]):
        self.tensors = tuple(Read(w.tensor, INTEGER) for w in targets)
        self.targets = targets
        self.expected = expected
        self.slices = [
            _slices(w, [values[k] for values in expected]) for k, w in enumerate(targets)
        ]
        self._errors: list[list[list[float]]] = [[[] for _ in s] for s in self.slices]
        self._powers: list[list[list[float]]] = [[[] for _ in s] for s in self.slices]
        self._sizes = [[0 for _ in s] for s in self.slices]

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        for k, w in enumerate(self.targets):
            got = w.read(values[k] if w.grid is None else dequantize(values[k], w.grid))
            expected = self.expected[number][k]
            for i, part in enumerate(self.slices[k]):
                e, g = (expected, got) if part is None else (part.of(expected), part.of(got))
                if w.counts:
                    error, power = float(np.sum(e != g)), float(e.size)
                else:
                    wide = e.astype(np.float64)
                    error = float(np.sum((g - wide) ** 2))
                    power = float(np.sum(wide * wide))
                self._errors[k][i].append(error)
                self._powers[k][i].append(power)
                self._sizes[k][i] = e.size

    def result(self) -> tuple[PartError, ...]:
        return tuple(
            PartError(
                w.output,
                " ".join(filter(None, (w.argument, "" if part is None else str(part)))),
                np.array(self._errors[k][i]),
                np.array(self._powers[k][i]),
                1.0 if w.counts else self._sizes[k][i] * w.step**2 * (1 if w.whole else 1 / 12),
            )
            for k, w in enumerate(self.targets)
            for i, part in enumerate(self.slices[k])
        )


def _slices(w: Watched, expected: Sequence[np.ndarray]) -> list[Slice | None]:
    """The whole, and its parts."""
    if w.whole or w.counts or not expected:
        return [None]
    shape = expected[0].shape
    axis = channel_axis(shape)
    if axis is None or not expected[0].size:
        return [None]
    others = tuple(i for i in range(len(shape)) if i != axis)
    low = np.min([v.min(axis=others) for v in expected], axis=0)
    high = np.max([v.max(axis=others) for v in expected], axis=0)
    return [None, *find_slices(spreads(low, high), axis, len(shape))]


class OutputJudge:
    """Measures candidates on samples of its own; the float model has run them once.

    Args:
      first: any candidate: its float model gives the expected outputs, its emitted one says what
        can be compared. Candidates of a rescaled float model compute the same outputs.
      samples: tensor name -> float values; as many are used as outputs may be kept of
        (`_MOST_BYTES`, but at least 4).
    """

    def __init__(self, first: Candidate, samples: Sequence[Inputs]):
        self._first = first
        prepared = first.prepared
        targets = watched(prepared.model, first.emitted)
        sizes = {t.name: t.size for t in prepared.model.main.tensors()}
        size = 4 * sum(sizes[w.float_tensor] for w in targets)
        most = max(_MOST_BYTES // max(size, 1), _FEWEST)
        self.samples = samples[:: -(-len(samples) // most)] if len(samples) > most else samples
        kept = ValuesObserver([Read(w.float_tensor) for w in targets])
        observe(prepared.bytes, self.samples, [kept])
        self._expected = {
            _key(w): [w.read(values[k]) for values in kept.result()] for k, w in enumerate(targets)
        }
        squashed = {w.output for w in targets if w.argument}
        for w in targets:
            if w.output in squashed and not w.argument and _is_idle(w, self._expected[_key(w)]):
                del self._expected[_key(w)]

    def errors(self, candidate: Candidate) -> dict[tuple[str, str], PartError]:
        """The errors of a candidate, by output and part.

        Raises:
          ModelError: LiteRT refuses its model.
        """
        emitted = candidate.emitted
        targets = [
            w for w in watched(self._first.prepared.model, emitted) if _key(w) in self._expected
        ]
        expected = [[self._expected[_key(w)][n] for w in targets] for n in range(len(self.samples))]
        errors = OutputErrors(targets, expected)
        observe({INTEGER: candidate.bytes}, self.samples, [errors])
        return {(e.output, e.part): e for e in errors.result()}


def _is_idle(w: Watched, expected: Sequence[np.ndarray]) -> bool:
    """Whether a squashed output varies by so little that a step of its grid decides its decibels.

    A detector that finds nothing on any sample says 0.00 or 0.01; its argument says how far off
    it is.
    """
    if not w.whole or not expected:
        return False
    deviation = np.sqrt(np.mean(np.var(np.stack(expected), axis=0, dtype=np.float64)))
    return bool(deviation < _IDLE_STEPS * w.step)


def _key(w: Watched) -> tuple[str, str]:
    return w.output, w.argument
