"""Finds the weights of training-side quantizers again after a graph was rewritten: by their values.

A record says which integers q and scales s a constant had. Converter and rewrites transpose it, cut
it into slices, and multiply its channels by factors f (a folded BatchNormalization: gamma / sigma,
which may be negative). Nothing else: so each row of an op's weights, a row being what belongs to
one output channel, is

    w = f s q      with integers q, or -q where f is negative, on the grid |f s|

and that is what is looked for and proven, row by row: w / |f s| has to be q to 1e-3 of a step.
Rows are looked up by the pattern of the signs of q, which no factor changes.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from tfq.errors import ModelError
from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.graph.notes import read_note
from tfq.graph.numerics import Grid, weight_grid
from tfq.graph.optable import Kind, spec
from tfq.sources.layers import layer_of
from tfq.sources.trained_grids import METADATA, Record

_ZERO = {"uint8": (128, 8), "uint4": (8, 4), "int8": (0, 8), "int4": (0, 4)}  # and bits
_OFF_STEP = 1e-3  # Of a step: folding in float32 errs by 1e-5 at 127 steps.
_SAME_SCALE = 2e-6  # Relative: nothing was folded in.


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """A record's integers as rows: one way to say which of its dimensions are channels."""

    integers: np.ndarray  # [rows, length], float64
    scales: np.ndarray  # [rows], float32

    @functools.cached_property
    def by_pattern(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for i, pattern in enumerate(_patterns(self.integers)):
            found.setdefault(pattern, []).append(i)
        return found


@dataclasses.dataclass(frozen=True)
class _Match:
    record: Record
    scales: np.ndarray  # float32 [rows]
    exact: float  # Share of rows whose scale is the trained one.
    whole: bool  # All of the record's rows.


def find_weights(
    graph: Graph, records: Sequence[Record], trained: Collection[str]
) -> dict[str, Grid]:
    """The grids of constants, by tensor name.

    Args:
      graph: rewritten, with unique names.
      records: of the constants as they were.
      trained: names of the tensors that have a trained grid already.

    Returns:
      "int8", "int4" or "int2" grids, per channel or per tensor, on which quantizing gives the
      integers of training.

    Raises:
      ModelError: a record's weights are nowhere: they would be shipped on another grid.
    """
    if not records:
        return {}
    grids: dict[str, Grid] = {}
    # Nothing but zeros fits any grid.
    found = {r for r in records if not r.integers.any()}
    used: set[Record] = set()
    for tensor, axis in _weights(graph).items():
        rows = np.moveaxis(tensor.values().astype(np.float64), axis, 0)
        rows = rows.reshape(rows.shape[0], -1)
        if not rows.any():
            continue
        matches = [m for r in records if (m := _match(rows, r)) is not None]
        found |= {m.record for m in matches}
        if not matches:
            continue
        best = max(matches, key=lambda m: (m.exact, m.record not in used, m.whole))
        used.add(best.record)
        one = best.record.scales.size == 1 and np.unique(best.scales).size == 1
        scales = best.scales[:1] if one else best.scales
        grids[tensor.name] = weight_grid(scales, f"int{best.record.bits}", None if one else axis)
    lost = [r for r in records if r not in found]
    others = _other_constants(graph, lost, trained, grids)
    lost = [r for r in lost if r not in others]
    if lost:
        layer = layer_of(f"{lost[0].name}/weights") or lost[0].name
        raise ModelError(
            f"The trained weights of layer {layer!r} are in no op of the converted model on "
            "their grid, so they would be rounded again. A layer computes them further (a product "
            "of weights, a normalisation of the kernel): leave it out of quantization with a rule."
        )
    return grids


def take_records(model: Model) -> list[Record]:
    """Takes the records of trained weights out of a model: those in its metadata, and those of
    constants under QUANTIZE and DEQUANTIZE or FAKE_QUANT, which become constants on their grid.

    Constants on an asymmetric grid stay as they are: they are no weights.
    """
    records = read_note(model, METADATA, lambda said: [Record.from_json(r) for r in said]) or []
    model.metadata.pop(METADATA, None)
    for graph in model.graphs:
        consumers = graph.consumers()
        gone: set[Op] = set()
        for op in graph.ops:
            x = op.inputs[0] if op.inputs else None
            if x is None or not x.is_const or x.dtype != "float32":
                continue
            y = op.outputs[0]
            if op.name == "QUANTIZE":
                found = _of_pair(x, y)
                users = [u for u, _ in consumers.get(y, [])]
                if found is None or any(u.name != "DEQUANTIZE" for u in users):
                    continue
                results = [u.outputs[0] for u in users]
                gone |= {op, *users}
            elif op.name == "FAKE_QUANT":
                found, results = _of_fake_quant(op, x), [y]
                if found is None:
                    continue
                gone.add(op)
            else:
                continue
            record, data = found
            records.append(record)
            for result in results:
                result.data, result.signature = data, None
        graph.ops = [op for op in graph.ops if op not in gone]
    return records


def _of_pair(x: Tensor, q: Tensor) -> tuple[Record, np.ndarray] | None:
    if q.quant is None or q.dtype not in _ZERO:
        return None
    zero, bits = _ZERO[q.dtype]
    if np.any(q.quant.zero_point != zero):
        return None
    axis = q.quant.axis if q.quant.per_axis else -1
    return Record.of(x.name, x.values(), q.quant.scale, bits, axis)


def _of_fake_quant(op: Op, x: Tensor) -> tuple[Record, np.ndarray] | None:
    o = op.options
    if (
        o.numBits not in (4, 8)
        or not o.narrowRange
        or not math.isclose(o.min, -o.max, rel_tol=1e-5)
    ):
        return None
    scale = np.float32(np.float32(o.max - o.min) / np.float32(2**o.numBits - 2))
    return Record.of(x.name, x.values(), np.array([scale]), o.numBits, -1) if scale > 0 else None


def _weights(graph: Graph) -> dict[Tensor, int]:
    """Constant float weights, with the dimension of their channels."""
    found: dict[Tensor, int] = {}
    for op in graph.ops:
        s = spec(op.name)
        if s is None or s.kind is not Kind.WEIGHTED or s.weights is None:
            continue
        w = op.inputs[s.weights] if s.weights < len(op.inputs) else None
        if w is not None and w.is_const and w.dtype == "float32" and s.axis is not None:
            found[w] = s.axis
    return found


def _match(rows: np.ndarray, record: Record) -> _Match | None:
    """How the rows of an op's weights [channels, length], not all zero, come from a record."""
    for candidate in _as_rows(record, rows.shape[1]):
        if len(candidate.scales) < len(rows):
            continue
        for chosen in _places(rows, candidate):
            scales = _proven(rows, candidate, chosen)
            if scales is not None:
                exact = np.mean(scales == candidate.scales[chosen])
                return _Match(record, scales, float(exact), record.integers.size == rows.size)
    return None


def _as_rows(record: Record, length: int) -> Iterator[_Rows]:
    """The ways to say which dimensions of the record are channels, with rows of that length."""
    q = record.integers
    per_channel = record.scales.size > 1
    dims = [d for d in range(q.ndim) if q.shape[d] > 1 or (per_channel and d == record.axis)]
    along = [-1 if per_channel and d == record.axis else 1 for d in range(q.ndim)]
    scales = np.broadcast_to(record.scales.reshape(along), q.shape)
    for count in range(len(dims) + 1):
        for chosen in itertools.combinations(dims, count):
            n = math.prod(q.shape[d] for d in chosen)
            if n * length != q.size or (per_channel and record.axis not in chosen):
                continue
            # The natural order comes first; a Conv3D's depth moves behind height and width.
            for rest in itertools.permutations([d for d in range(q.ndim) if d not in chosen]):
                order = [*chosen, *rest]
                yield _Rows(
                    q.transpose(order).reshape(n, length).astype(np.float64),
                    scales.transpose(order).reshape(n, length)[:, 0],
                )


def _places(rows: np.ndarray, candidate: _Rows) -> Iterator[np.ndarray]:
    """Which rows of the record those of the op may be: a stretch of them."""
    filled = np.flatnonzero(rows.any(axis=1))
    first = int(filled[0])
    for place in candidate.by_pattern.get(_patterns(rows[first : first + 1])[0], []):
        start = place - first
        if 0 <= start <= len(candidate.scales) - len(rows):
            yield np.arange(start, start + len(rows))


def _patterns(rows: np.ndarray) -> list[bytes]:
    """The signs of each row, those of its first value that is not 0 being +."""
    signs = np.sign(rows).astype(np.int8)
    first = np.argmax(np.abs(signs), axis=1)
    signs *= signs[np.arange(len(signs)), first][:, None]
    return [row.tobytes() for row in signs]


def _proven(rows: np.ndarray, candidate: _Rows, chosen: np.ndarray) -> np.ndarray | None:
    """The scale of each row, if every value is the trained integer times it; else None."""
    q, trained = candidate.integers[chosen], candidate.scales[chosen]
    peak = np.argmax(np.abs(q), axis=1)
    each = np.arange(len(rows))
    # Zeros lie on any grid: a channel that pruning or gamma = 0 emptied keeps the trained one.
    empty: np.ndarray = ~np.any(rows, axis=1)
    step = np.where(empty, 1.0, q[each, peak])
    if np.any(step == 0):
        return None
    factors = np.where(empty, trained, rows[each, peak] / step)
    scales = np.abs(factors).astype(np.float32)
    scales = np.where(np.abs(scales - trained) <= _SAME_SCALE * trained, trained, scales)
    if bool(np.any(scales == 0)):
        return None
    wanted = np.where(empty[:, None], 0.0, q * np.sign(factors)[:, None])
    if np.abs(rows / scales.astype(np.float64)[:, None] - wanted).max() > _OFF_STEP:
        return None
    return scales.astype(np.float32)


def _other_constants(
    graph: Graph, lost: Sequence[Record], trained: Collection[str], grids: dict[str, Grid]
) -> list[Record]:
    """Records of constants that no weighted op reads, an embedding's table for one: these keep
    their one scale. What only looks up in a table has the table's grid.
    """
    found = []
    uses = [(op, t) for op in graph.ops for t in op.inputs]
    for record in lost:
        if record.scales.size > 1:
            continue
        values = record.integers.reshape(-1) * record.scales[0]
        for op, t in uses:
            if t is None or not t.is_const or t.dtype != "float32" or t.size != values.size:
                continue
            if not np.array_equal(np.sort(t.values(), axis=None), np.sort(values)):
                continue
            grids[t.name] = weight_grid(record.scales, "int8", None)
            out = op.outputs[0].name
            if op.name in ("GATHER", "EMBEDDING_LOOKUP") and out not in trained:
                grids[out] = grids[t.name]
            found.append(record)
    return found
