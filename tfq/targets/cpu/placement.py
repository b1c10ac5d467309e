"""Which ops XNNPACK took, read from the interpreter that runs the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfq.graph.model import Model, Op
from tfq.targets.measurement import Evidence
from tfq.targets.placement import OpPlacement, Placement

_DELEGATE = "DELEGATE"
_WHERE = {"builtin": "built-in kernel", "reference": "reference kernel"}


def delegated(ops: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Which op runs in which partition: index of the op -> number of the partition, from 0.

    The interpreter keeps the ops that a delegate took, and adds one op for each partition. What it
    took is what lies between that one's outputs and its inputs.

    Args:
      ops: of the main graph, "name", "inputs" and "outputs" (indices of tensors) of each.
    """
    maker = {
        t: index for index, op in enumerate(ops) if op["name"] != _DELEGATE for t in op["outputs"]
    }
    owner: dict[int, int] = {}
    partitions = [op for op in ops if op["name"] == _DELEGATE]
    for number, partition in enumerate(partitions):
        stop, seen = set(partition["inputs"]), set()
        reached = list(partition["outputs"])
        while reached:
            tensor = reached.pop()
            if tensor in stop or tensor in seen or tensor not in maker:
                continue
            seen.add(tensor)
            owner[maker[tensor]] = number
            reached += ops[maker[tensor]]["inputs"]
    return owner


def place(model: Model, ops: Sequence[Mapping[str, Any]], kernels: str) -> Placement:
    """The placement of a loaded model.

    Args:
      model: the parsed file.
      ops: as of `delegated`.
      kernels: "xnnpack", "builtin" or "reference".
    """
    owner = delegated(ops)
    found = []
    for index, op in enumerate(model.main.ops):
        fast = index in owner
        if fast:
            why = ""
        elif kernels != "xnnpack":
            why = f"the {kernels} kernels were asked for"
        else:
            why = _why(op)
        found.append(
            OpPlacement(
                index=index,
                op=op.name,
                output=op.outputs[0].name if op.outputs else "",
                where="XNNPACK" if fast else _WHERE.get(kernels, "built-in kernel"),
                fast=fast,
                partition=owner.get(index),
                why=why,
            )
        )
    return Placement(tuple(found), Evidence.HOST)


def _why(op: Op) -> str:
    """What is certain: that XNNPACK did not take the op, and what it was offered."""
    weighted = len(op.inputs) > 2 and op.name.endswith(("CONV_2D", "FULLY_CONNECTED"))
    bias = op.inputs[2] if weighted else None
    if bias is not None and bias.dtype == "int32" and bias.quant is None:
        return "XNNPACK does not take a bias without quantization parameters"
    types = [t.dtype for t in op.inputs if t is not None]
    shown = " x ".join(dict.fromkeys(types)) or "nothing"
    gives = ", ".join(dict.fromkeys(t.dtype for t in op.outputs)) or "nothing"
    return f"XNNPACK does not take it as it is here ({shown} -> {gives})"
