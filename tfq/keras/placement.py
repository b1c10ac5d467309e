"""Where a quantized model has quantizers: after each op as the runtime computes it.

The runtime has a quantized tensor wherever one of its ops ends, and an op is more than a layer: a
convolution with the BatchNormalization and the ReLU after it is one, a pooling shares the grid of
what it reads. From the kinds of the calls follows, before any quantizer is made:

  * a weighted op's chain (-> BatchNormalization) (-> ReLU) has one quantizer, at its end, as long
    as nothing else reads what is between; a sum or product of two takes the ReLU in as well;
  * tensors that SAME ops bind form a group with one quantizer, which the tensors that enter the
    group pass; what only moves its values needs none, an average is rounded again;
  * outputs that kernels fix (softmax) are rounded to the kernel's grid, which no one trains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
from keras import tree

from tfq.keras.flat_model import Call, FlatModel, Value
from tfq.keras.kinds import Kind, fixed_grid

__all__ = ["Placement", "place"]

# Operations that select among tensors and constants; zero is on every grid.
_WITH_CONSTANTS = ("Append", "Concatenate", "Maximum", "Minimum", "Pad", "Stack")

# A kernel that ends with a clamp takes the ReLU after it in.
_CLAMPING = ("Add", "Subtract", "Multiply")


@dataclasses.dataclass(frozen=True)
class Placement:
    """Attributes:
    groups: each quantized value -> the value that stands for its group.
    paths: that value -> the path of the layer whose rules decide, the first that enters the group.
    marked: the values that pass their group's quantizer.
    fixed: value -> (scale, zero point) of the kernel.
    """

    groups: Mapping[Value, Value]
    paths: Mapping[Value, list[str]]
    marked: frozenset[Value]
    fixed: Mapping[Value, tuple[float, int]]


def place(flat: FlatModel, bits: int) -> Placement:
    """Places quantizers.

    Args:
      flat: the model.
      bits: of activations, which fixed grids depend on.
    """
    readers: dict[Value, list[Call]] = {}
    for call in flat.calls:
        for v in call.inputs:
            readers.setdefault(v, []).append(call)
    fused = _fused(flat, readers)
    groups = _Groups()
    marked: dict[Value, str] = {v: v.name for v in flat.inputs if v.is_float}
    fixed: dict[Value, tuple[float, int]] = {}
    for call in flat.calls:
        outputs = [v for v in call.outputs if v.is_float]
        if call.kind is Kind.PLAIN or not outputs or call in fused:
            continue
        if call.kind is Kind.FIXED:
            grid = fixed_grid(call.operation, bits)
            if grid is not None:
                fixed.update(dict.fromkeys(outputs, grid))
                continue
        if call.kind in (Kind.SAME, Kind.AVERAGE, Kind.IDENTITY):
            free = [v for v in call.inputs if v not in fixed]
            if not free:
                # Values of a fixed grid only: they stay on it, unless they are averaged.
                if call.kind is Kind.AVERAGE or len({fixed[v] for v in call.inputs}) != 1:
                    marked.update(dict.fromkeys(outputs, call.path))
                else:
                    fixed.update(dict.fromkeys(outputs, fixed[call.inputs[0]]))
                continue
            for v in [*free, *outputs]:
                groups.tie(free[0], v)
            rounds = call.kind is Kind.AVERAGE or len(free) < len(call.inputs)
            if rounds or _brings_constants(call):
                marked.update(dict.fromkeys(outputs, call.path))
            continue
        marked.update(dict.fromkeys(outputs, call.path))
    moved = {
        v
        for call in flat.calls
        if call.kind in (Kind.SAME, Kind.AVERAGE, Kind.IDENTITY)
        for v in call.outputs
    }
    found = {v: groups.find(v) for v in marked}
    paths: dict[Value, list[str]] = {}
    for v, root in found.items():
        # What only moves has no say in its group's quantizer, as long as anything else enters it.
        names = paths.setdefault(root, [])
        if v not in moved:
            names.append(marked[v])
    for v, root in found.items():
        if not paths[root]:
            paths[root].append(marked[v])
    return Placement(found, paths, frozenset(marked), fixed)


def _fused(flat: FlatModel, readers: Mapping[Value, list[Call]]) -> frozenset[Call]:
    """The calls whose result nothing but the next one reads, which is part of the same kernel."""
    outside = set(flat.outputs)
    fused: set[Call] = set()
    makers = {v: s for s in flat.calls for v in s.outputs}

    def alone(v: Value) -> bool:
        return v not in outside and len(readers.get(v, [])) == 1

    for call in flat.calls:
        if call.kind not in (Kind.NORM, Kind.CLAMP) or not call.inputs:
            continue
        x = call.inputs[0]
        before = makers.get(x)
        if before is None or not alone(x):
            continue
        weighted = before.kind is Kind.WEIGHTED and _linear(before)
        clamping = before.kind is Kind.NORM or (
            type(before.operation).__name__ in _CLAMPING and len(before.inputs) == 2
        )
        if weighted or (clamping and call.kind is Kind.CLAMP):
            fused.add(before)
    return frozenset(fused)


def _linear(call: Call) -> bool:
    function = getattr(call.operation, "activation", keras.activations.linear)
    return getattr(function, "__name__", "") == "linear"


def _brings_constants(call: Call) -> bool:
    """Whether numbers of the user's enter the group, which its range then has to hold."""
    if type(call.operation).__name__ not in _WITH_CONSTANTS:
        return False
    constants = [a for a in tree.flatten((call.args, call.kwargs)) if not isinstance(a, Value)]
    return any(
        np.any(np.asarray(a, np.float64) != 0)
        for a in constants
        if a is not None and not isinstance(a, str | bool)
    )


class _Groups:
    def __init__(self) -> None:
        self._parent: dict[Value, Value] = {}

    def find(self, v: Value) -> Value:
        while v in self._parent:
            v = self._parent[v]
        return v

    def tie(self, a: Value, b: Value) -> None:
        a, b = self.find(a), self.find(b)
        if a is not b:
            self._parent[b] = a
