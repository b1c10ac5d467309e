"""The parts of a concatenation as outputs of their own, each with its own grid.

Pattern: CONCATENATION(a, b, ...) -> moves -> output, where the moves are RESHAPE, SQUEEZE,
EXPAND_DIMS, TRANSPOSE, QUANTIZE and DEQUANTIZE.

    concat(a, b) moved = concat'(a moved, b moved)

where the moves keep the concatenated dimension apart from the others; the parts go through the same
moves, up to the first that does not. Output NAME of a signature becomes NAME_0, NAME_1, ... in its
place; without a signature, outputs are called by their tensors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tfq.errors import UsageError, nearest
from tfq.graph.interface import read_interface
from tfq.graph.model import Model, Op, Tensor
from tfq.graph.optable import MOVES, RESHAPES
from tfq.rewrite.core import new_op

_CONVERSIONS = {"QUANTIZE", "DEQUANTIZE"}
_FLAG = "split_output"


def splittable(model: Model, signature: str | None = None) -> tuple[str, ...]:
    """Names of the outputs that `split_outputs` can split."""
    producers = model.main.producers()
    tensors = {t.name: t for t in model.main.outputs}
    return tuple(
        a.name
        for a in read_interface(model, signature).outputs
        if a.tensor_name in tensors and not _obstacle(model, tensors[a.tensor_name], producers)
    )


def split_outputs(data: bytes, names: Sequence[str], signature: str | None = None) -> bytes:
    """Gives parts of outputs as outputs of their own.

    Args:
      data: a `.tflite` file, float or quantized.
      names: outputs by name in the signature, or by tensor; one may be a part that another left.
      signature: which of the file's.

    Raises:
      UsageError: there is no such output, or it does not come from a concatenation.
    """
    model = Model.from_bytes(data)
    for name in names:
        _split(model, name, signature)
    return model.to_bytes()


def _split(model: Model, name: str, signature: str | None) -> None:
    graph = model.main
    interface = read_interface(model, signature)
    outputs = {t.name: t for t in graph.outputs}
    of_main = [a for a in interface.outputs if a.tensor_name in outputs]
    known = {a.tensor_name: outputs[a.tensor_name] for a in of_main}
    known |= {a.name: outputs[a.tensor_name] for a in of_main}
    if name not in known:
        close = nearest(name, [a.name for a in interface.outputs])
        others = _others(model, signature)
        raise UsageError(f"{_FLAG}: the model has no output {name!r}.{close}{others}")
    producers = graph.producers()
    output = known[name]
    why = _obstacle(model, output, producers)
    if why:
        raise UsageError(f"{_FLAG}: output {name!r} {why}.{_others(model, signature)}")
    concat, moves = _behind(output, producers)
    assert concat is not None
    pieces = [t for t in concat.inputs if t is not None]
    axis = concat.options.axis % len(concat.outputs[0].shape)
    taken = {t.name for t in graph.tensors()}
    for move in moves:
        after = _axis_after(move, axis, pieces)
        if after is None:
            break
        moved = []
        for i, piece in enumerate(pieces):
            shape = _shape_after(move, axis, after, piece)
            like = move.outputs[0]
            own = _fresh(f"{output.name}_{i}", taken)
            out = Tensor(own, shape, like.dtype, quant=like.quant)
            graph.ops.append(_same_move(move, piece, out, taken))
            moved.append(out)
        pieces, axis = moved, after
    for s in model.signatures:
        if s.graph == 0:
            s.outputs = _replaced(s.outputs, output, pieces)
    at = graph.outputs.index(output)
    rest = [t for t in graph.outputs if t is not output]
    new = [p for p in dict.fromkeys(pieces) if p not in rest]
    graph.outputs = [*rest[:at], *new, *rest[at:]]
    graph.prune()


def _others(model: Model, signature: str | None = None) -> str:
    names = splittable(model, signature)
    return f" Outputs that can be split: {', '.join(names) or 'none'}."


def _behind(output: Tensor, producers: Mapping[Tensor, Op]) -> tuple[Op | None, list[Op]]:
    """What computes the values of an output, and what moves them after that, in order."""
    moves: list[Op] = []
    op = producers.get(output)
    while op is not None and op.name in MOVES | _CONVERSIONS:
        moves.insert(0, op)
        op = producers.get(op.input(0))
    return op, moves


def _obstacle(model: Model, output: Tensor, producers: Mapping[Tensor, Op]) -> str:
    """Why an output cannot be split, or ""."""
    op, _ = _behind(output, producers)
    if op is None or op.name != "CONCATENATION":
        made = "an input or a constant" if op is None else op.label
        return f"comes from {made}, and not from a concatenation"
    if op.options is None or op.options.fusedActivationFunction:
        return "comes from a concatenation with an activation of its own"
    if len(op.inputs) < 2:
        return "comes from a concatenation of one tensor"
    parts = [t for t in op.inputs if t is not None]
    fixed = [t.name for t in parts if t.is_const or t in model.main.inputs]
    if fixed:
        return f"has {fixed[0]!r} among its parts, which is an input or a constant"
    return ""


def _axis_after(move: Op, axis: int, pieces: Sequence[Tensor]) -> int | None:
    """Where the concatenated dimension is after a move; None where it is no dimension any more."""
    if move.name in _CONVERSIONS:
        return axis
    if move.name == "TRANSPOSE":
        perm = move.input(1)
        return perm.values().reshape(-1).tolist().index(axis) if perm.is_const else None
    before, target = pieces[0].shape, move.outputs[0].shape
    outer, inner = math.prod(before[:axis]), math.prod(before[axis + 1 :])
    for i in range(len(target)):
        behind = math.prod(target[i + 1 :])
        if math.prod(target[:i]) != outer or not behind or target[i] == 1:
            continue
        if all(p.shape[axis] * inner % behind == 0 for p in pieces):
            return i
    return None


def _shape_after(move: Op, axis: int, after: int, piece: Tensor) -> tuple[int, ...]:
    if move.name in _CONVERSIONS:
        return piece.shape
    if move.name == "TRANSPOSE":
        return tuple(piece.shape[i] for i in move.input(1).values().reshape(-1).tolist())
    target = list(move.outputs[0].shape)
    inner = math.prod(piece.shape[axis + 1 :])
    target[after] = piece.shape[axis] * inner // math.prod(target[after + 1 :])
    return tuple(target)


def _same_move(move: Op, piece: Tensor, out: Tensor, taken: set[str]) -> Op:
    if move.name in RESHAPES:
        shape = np.array(out.shape, np.int32)
        name = _fresh(f"{out.name}/shape", taken)
        const = Tensor(name, shape.shape, "int32", shape)
        return new_op("RESHAPE", [piece, const], out, "ReshapeOptions", newShape=list(out.shape))
    return dataclasses.replace(move, inputs=[piece, *move.inputs[1:]], outputs=[out])


def _fresh(name: str, taken: set[str]) -> str:
    found, n = name, 1
    while found in taken:
        n += 1
        found = f"{name}_{n}"
    taken.add(found)
    return found


def _replaced(
    outputs: Mapping[str, Tensor], old: Tensor, pieces: Sequence[Tensor]
) -> dict[str, Tensor]:
    """The outputs of a signature with NAME_0, NAME_1, ... in the place of NAME."""
    found: dict[str, Tensor] = {}
    others = {n for n, t in outputs.items() if t is not old}
    for n, t in outputs.items():
        if t is not old:
            found[n] = t
            continue
        for i, piece in enumerate(pieces):
            found[_fresh(f"{n}_{i}", others)] = piece
    return found
