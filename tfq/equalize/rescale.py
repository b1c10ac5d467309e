"""Moves scales per channel from the layers behind activations to those before them.

For channel c of a group, scaled by t_c > 0:

    writers   W[c, ...] t_c,  b[c] t_c      readers   W[..., c] / t_c

so every tensor of the group is t_c times what it was, and everything else is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfq.equalize.channels import find_groups, input_channels
from tfq.errors import UsageError
from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.rewrite.core import copy_model
from tfq.rewrite.match import WEIGHTED
from tfq.rewrite.prepare import Prepared, written

Scales = Mapping[str, tuple[float, ...]]


def rescale_prepared(prepared: Prepared, scales: Scales) -> Prepared:
    """The same with the channels of some groups scaled; see `rescale`."""
    if not scales:
        return prepared
    model, data, sha = written(rescale(prepared.model, scales))
    return dataclasses.replace(prepared, model=model, bytes=data, sha256=sha, equalization=scales)


def rescale(model: Model, scales: Scales) -> Model:
    """A copy of a prepared float model with the channels of some groups scaled.

    Args:
      model: left as it is.
      scales: group name -> a positive factor for each of its channels.

    Raises:
      UsageError: the model has no such group, or it has another number of channels.
    """
    result = copy_model(model)
    graph = result.main
    groups = {g.name: g for g in find_groups(graph, shown_tensors(result))}
    uses, names = count_uses(graph), {t.name for t in graph.tensors()}
    for name, factors in scales.items():
        group = groups.get(name)
        if group is None or group.size != len(factors):
            raise UsageError(
                f"The plan scales {len(factors)} channels of {name!r}, which this model "
                + ("does not let be scaled. " if group is None else f"has {group.size} of. ")
                + "Undo the last edit, or make a new plan with --plan_out."
            )
        values = np.array(factors, np.float64)
        for use in group.writers:
            _scale_outputs(use.op, values[use.channels], uses, names)
        for use in group.readers:
            _scale_inputs(use.op, 1 / values[use.channels])
    return result


def shown_tensors(model: Model) -> list[Tensor]:
    """The main graph's tensors that signatures name."""
    return [
        t
        for s in model.signatures
        if s.graph == 0
        for t in (*s.inputs.values(), *s.outputs.values())
    ]


def _scale_outputs(op: Op, factors: np.ndarray, uses: dict[Tensor, int], names: set[str]) -> None:
    _, wi, bi, axis = WEIGHTED[op.name]
    _multiply(op.input(wi), factors, axis)
    bias = op.inputs[bi] if bi < len(op.inputs) else None
    if bias is None or not bias.values().any():
        return
    _multiply(own_bias(op, uses, names), factors, len(bias.shape) - 1)


def count_uses(graph: Graph) -> dict[Tensor, int]:
    """How many inputs of ops each tensor is."""
    uses: dict[Tensor, int] = {}
    for op in graph.ops:
        for t in op.inputs:
            if t is not None:
                uses[t] = uses.get(t, 0) + 1
    return uses


def own_bias(op: Op, uses: dict[Tensor, int], names: set[str]) -> Tensor:
    """The bias of a layer, which no other op reads: if others do, the op gets one of its own.

    Args:
      op: one with a bias.
      uses: how many read each tensor; kept up to date.
      names: of all tensors; the same.
    """
    bi = WEIGHTED[op.name][2]
    bias = op.input(bi)
    if uses[bias] > 1:
        name, n = f"{op.outputs[0].name}/bias", 0
        while name in names:
            n += 1
            name = f"{op.outputs[0].name}/bias_{n}"
        names.add(name)
        uses[bias] -= 1
        bias = op.inputs[bi] = Tensor(name, bias.shape, bias.dtype, bias.values())
        uses[bias] = 1
    return bias


def _scale_inputs(op: Op, factors: np.ndarray) -> None:
    where = input_channels(op)
    assert where is not None  # Groups have no other readers.
    _multiply(op.input(WEIGHTED[op.name][1]), factors, where[0])


def _multiply(tensor: Tensor, factors: np.ndarray, axis: int) -> None:
    along = [1] * len(tensor.shape)
    along[axis] = -1
    scaled = tensor.values().astype(np.float64) * factors.reshape(along)
    tensor.data = scaled.astype(np.float32)
