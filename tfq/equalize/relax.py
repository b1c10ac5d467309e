"""RELU6 without its cap, where no sample ever reaches it.

A scale per channel passes through RELU, not through RELU6: scaled, every channel would need a cap
of its own, which no fused activation has. Where a layer's values stay below 6, RELU is the same
function; on other samples it may not be, which is why what is made of it is compared with the model
as it was (`tfq.equalize.changes`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

from tfq.errors import UsageError
from tfq.graph.model import Graph, Model, Op
from tfq.rewrite.core import copy_model, like, new_op
from tfq.rewrite.match import ACT, activation
from tfq.rewrite.prepare import Prepared, written

CAP = 6.0


def is_capped(op: Op) -> bool:
    """Whether an op ends in RELU6."""
    return op.name == "RELU6" or activation(op) == ACT.RELU6


def never_capped(graph: Graph, largest: Callable[[str], float | None]) -> list[str]:
    """Names of the first outputs of the ops whose RELU6 capped nothing on the samples.

    Args:
      graph: its ops are looked at.
      largest: the largest value that was seen of a tensor, by its name; None where none is known.
    """
    seen = {op.key: largest(op.key) for op in graph.ops if is_capped(op)}
    return [name for name, high in seen.items() if high is not None and high < CAP]


def relax(model: Model, names: Collection[str]) -> Model:
    """A copy of a prepared float model in which some RELU6 are RELU.

    Args:
      model: left as it is.
      names: of the first outputs of ops that end in RELU6.

    Raises:
      UsageError: there is no such op.
    """
    result = copy_model(model)
    ops = result.main.ops
    found = {op.key: i for i, op in enumerate(ops) if is_capped(op)}
    for name in names:
        if name not in found:
            raise UsageError(
                f"The plan relaxes the RELU6 of {name!r}, which this model does not have. Undo the "
                "last edit, or make a new plan with --plan_out."
            )
        op = ops[found[name]]
        if op.name == "RELU6":
            ops[found[name]] = new_op("RELU", op.inputs, op.outputs[0])
        else:
            ops[found[name]] = like(op, op.inputs, op.outputs[0], fusedActivationFunction=ACT.RELU)
    return result


def relax_prepared(prepared: Prepared, names: Collection[str]) -> Prepared:
    """The same with some RELU6 relaxed; see `relax`. It comes before any rescaling."""
    if not names:
        return prepared
    model, data, sha = written(relax(prepared.model, names))
    return dataclasses.replace(prepared, model=model, bytes=data, sha256=sha, relaxed=tuple(names))
