"""What was done to a prepared float model before it was quantized: in a plan, and in a file.

In this order: RELU6 are relaxed (`tfq.equalize.relax`), channels rescaled (`.rescale`), biases
absorbed (`.absorb`). The first and the last leave the function only where the samples went, so that
there is also the way back: `unchanged`, a model with the tensors of the changed one that computes
what the model computed before.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tfq.equalize.absorb import absorb_prepared
from tfq.equalize.channels import find_groups
from tfq.equalize.relax import CAP, relax_prepared
from tfq.equalize.rescale import rescale_prepared, shown_tensors
from tfq.graph.model import Model, Op, Tensor
from tfq.graph.notes import read_note
from tfq.rewrite.core import copy_model, new_op
from tfq.rewrite.match import WEIGHTED
from tfq.rewrite.prepare import Prepared

# Where an emitted file keeps them: without them its tensors cannot be compared with those of the
# model that it was made from.
_SCALES, _RELAXED, _ABSORBED = "tfq_equalization", "tfq_relaxed", "tfq_absorbed"


class Changed(Protocol):
    """A plan, or a prepared model."""

    @property
    def relaxed(self) -> tuple[str, ...]: ...

    @property
    def equalization(self) -> Mapping[str, tuple[float, ...]]: ...

    @property
    def absorbed(self) -> Mapping[str, tuple[float, ...]]: ...


@dataclasses.dataclass(frozen=True)
class Changes:
    """The same alone.

    Attributes:
      relaxed: first outputs of ops whose RELU6 became RELU.
      equalization: factors of channels, by the name of their group.
      absorbed: parts of biases, by the name of a layer's output.
    """

    relaxed: tuple[str, ...] = ()
    equalization: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    absorbed: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)


def has_changes(changes: Changed) -> bool:
    return bool(changes.relaxed or changes.equalization or changes.absorbed)


def with_changes(prepared: Prepared, changes: Changed) -> Prepared:
    """Makes the changes on a prepared model that has none yet.

    Raises:
      UsageError: they are of another model.
    """
    relaxed = relax_prepared(prepared, changes.relaxed)
    return absorb_prepared(rescale_prepared(relaxed, changes.equalization), changes.absorbed)


def write_changes(model: Model, changes: Changed) -> None:
    """Writes them into a model's metadata; without any, nothing."""
    for name, body in (
        (_RELAXED, list(changes.relaxed)),
        (_SCALES, {n: list(v) for n, v in changes.equalization.items()}),
        (_ABSORBED, {n: list(v) for n, v in changes.absorbed.items()}),
    ):
        if body:
            model.metadata[name] = json.dumps(body).encode()


def read_changes(model: Model) -> Changes:
    """What `write_changes` wrote; none for other models.

    Raises:
      ModelError: the metadata is damaged.
    """
    return Changes(
        read_note(model, _RELAXED, _names_in) or (),
        read_note(model, _SCALES, _scales_in) or {},
        read_note(model, _ABSORBED, _absorbed_in) or {},
    )


def _names_in(body: Any) -> tuple[str, ...]:
    if not isinstance(body, list) or not all(isinstance(n, str) for n in body):
        raise ValueError("it is no list of names")
    return tuple(body)


def _scales_in(body: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    scales = {name: tuple(float(f) for f in factors) for name, factors in body.items()}
    if not all(math.isfinite(f) and f > 0 for factors in scales.values() for f in factors):
        raise ValueError("a factor is not positive")
    return scales


def _absorbed_in(body: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    moved = {name: tuple(float(v) for v in values) for name, values in body.items()}
    if not all(math.isfinite(v) and v >= 0 for values in moved.values() for v in values):
        raise ValueError("a part of a bias is negative")
    return moved


def unchanged(prepared: Prepared) -> bytes:
    """A float model that computes what the prepared one did before it was relaxed and absorbed.

    Its tensors are those of the prepared model, with their names: rescaled channels stay rescaled,
    relaxed layers get a cap for each channel, and what absorbed a bias gets the difference of what
    was there.
    """
    if not prepared.relaxed and not prepared.absorbed:
        return prepared.bytes
    model = copy_model(prepared.model)
    graph = model.main
    ops = {op.key: op for op in graph.ops}
    factors = {
        t.name: np.array(prepared.equalization[g.name])[channels]
        for g in find_groups(graph, shown_tensors(model))
        if g.name in prepared.equalization
        for t, channels in g.tensors.items()
    }
    for name in (*prepared.relaxed, *(n for n in prepared.absorbed if n not in prepared.relaxed)):
        op, moved = ops[name], np.array(prepared.absorbed.get(name, (0.0,)))
        out = op.outputs[0]
        if moved.any():
            bi = WEIGHTED[op.name][2]
            bias = op.input(bi)
            data = (bias.values() + moved).astype(np.float32)
            op.inputs[bi] = Tensor(f"{name}/bias_before", bias.shape, "float32", data)
        chain = [("MINIMUM", "MaximumMinimumOptions", "cap", CAP * factors.get(name, np.ones(1)))]
        if name not in prepared.relaxed:
            chain = []
        if moved.any():
            chain.append(("SUB", "SubOptions", "absorbed", moved))
        if chain:
            _append(graph.ops, op, out, chain)
    return model.to_bytes()


def _append(
    ops: list[Op], op: Op, out: Tensor, chain: Sequence[tuple[str, str, str, np.ndarray]]
) -> None:
    """Puts ops with a constant between an op and its output."""
    at = ops.index(op) + 1
    x = Tensor(f"{out.name}/before", out.shape, "float32")
    op.outputs = [x]
    for i, (kind, options, what, values) in enumerate(chain):
        last = i == len(chain) - 1
        y = out if last else Tensor(f"{out.name}/{what}", out.shape, "float32")
        const = np.asarray(values, np.float32)
        constant = Tensor(f"{out.name}/{what}/value", const.shape, "float32", const)
        ops.insert(at + i, new_op(kind, [x, constant], y, options))
        x = y
