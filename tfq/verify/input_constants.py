"""What constants make of an input before anything else does, s * x + o: Rescaling, Normalization.

It need not be the first op: images are cropped, resized, padded, transposed or their channels
reversed before it ("caffe" preprocessing in keras.applications), and several branches may begin
with one. So every path from the input is followed through ops that only move values, and
conversions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.origin import moved_inputs, moves

_ARITHMETIC = ("MUL", "DIV", "ADD", "SUB")
_NO_VALUES = ("SHAPE", "RANK")  # What they read of a tensor is not its values.
_LEAVES_OTHERS = ("FLOOR_MOD",)  # Shares a grid with its input, but changes the values.


@dataclasses.dataclass(frozen=True, eq=False)
class _Affine:
    """scale * x + offset, each [1] or one for each channel; `found`, when it is of an op."""

    scale: np.ndarray
    offset: np.ndarray
    found: bool

    def same(self, other: _Affine) -> bool:
        if self.found != other.found:
            return False
        ours, theirs = (np.stack((a.scale, a.offset)) for a in (self, other))
        return np.array_equal(ours, theirs)


def affines(graph: Graph, tensor: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scale and offset, float64 [1] or [channels], of what constants make of an input at once.

    Returns:
      Each pair once; none without any. Arithmetic goes on to the next op where all readers of what
      it gives agree: x / 255 is what a model makes of x, even if one of two branches doubles it.
    """
    consumers = graph.consumers()
    known = {tensor: _Affine(np.ones(1), np.zeros(1), False)}
    cut: set[Tensor] = set()
    for op in graph.ops:
        state = _after(op, known)
        if state is not None:
            known.update(dict.fromkeys(op.outputs, state))
            if getattr(op.options, "fusedActivationFunction", 0):
                cut.update(op.outputs)
    ends: dict[Tensor, list[_Affine]] = {}
    for t, state in reversed(known.items()):
        readers = [] if t in cut else [op for op, _ in consumers.get(t, [])]
        readers = [op for op in readers if op.name not in _NO_VALUES]
        behind = _distinct(a for op in readers for out in op.outputs for a in ends.get(out, []))
        on = all(ends.get(out) for op in readers for out in op.outputs)
        if state.found and not (on and len(behind) == 1):
            behind = [state]
        ends[t] = behind
    return [(a.scale, a.offset) for a in ends[tensor]]


def _distinct(found: Iterable[_Affine]) -> list[_Affine]:
    some: list[_Affine] = []
    for affine in found:
        if not any(affine.same(a) for a in some):
            some.append(affine)
    return some


def _after(op: Op, known: dict[Tensor, _Affine]) -> _Affine | None:
    """What an op makes of the input, as far as it is known of what the op reads."""
    if op.name == "CAST" or (moves(op) and op.name not in _LEAVES_OTHERS):
        values = op.inputs if op.name == "CAST" else moved_inputs(op)
        read = _distinct(known[t] for t in values if t in known)
        return read[0] if len(read) == 1 else None
    if op.name not in _ARITHMETIC or len(op.inputs) != 2:
        return None
    for place, t in enumerate(op.inputs):
        constant = _constant(op.inputs[1 - place])
        if t in known and constant is not None:
            return _computed(op.name, place, known[t], constant)
    return None


def _constant(t: Tensor | None) -> np.ndarray | None:
    """One number, or one for each channel (of whatever axis), [1] or [channels]; else None."""
    if t is None or not t.is_const or not t.size or t.size != max(t.shape, default=1):
        return None
    if t.quant is not None and not t.dtype.startswith("float"):
        return None  # Whole numbers of steps.
    return t.values().astype(np.float64).reshape(-1)


def _computed(name: str, place: int, x: _Affine, constant: np.ndarray) -> _Affine | None:
    """Arithmetic on s * x + o, which is operand `place`; None where it is not of that form."""
    scale, offset = x.scale, x.offset
    if 1 < len(scale) != len(constant) > 1:
        return None  # Of different axes.
    if name == "MUL":
        scale, offset = scale * constant, offset * constant
    elif name == "DIV":
        if place == 1 or not constant.all():
            return None
        scale, offset = scale / constant, offset / constant
    elif name == "ADD":
        offset = offset + constant
    elif place == 0:
        offset = offset - constant
    else:
        scale, offset = -scale, constant - offset
    scale, offset = np.broadcast_arrays(scale, offset)
    return _Affine(scale, offset, True)
