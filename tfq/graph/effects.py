"""Which ops may be dropped, computed early, twice, or once for two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfq.graph.optable import QUANTIZERS, effects

if TYPE_CHECKING:
    from tfq.graph.model import Op


def has_side_effects(op: Op) -> bool:
    """Whether the op does something though nothing reads its outputs."""
    e = effects(op.name)
    return e.writes or e.calls or _changes_variable(op)


def keeps_state(op: Op) -> bool:
    """Whether the op is part of what one run leaves behind for the next."""
    return effects(op.name).state == "variable" or _changes_variable(op)


def is_repeatable(op: Op) -> bool:
    """Whether the op gives the same outputs for the same inputs, and touches nothing else."""
    return effects(op.name).repeatable and not any(
        t is not None and (t.is_variable or t.dtype in ("resource", "variant")) for t in op.inputs
    )


def is_pure(op: Op) -> bool:
    """Whether the op is repeatable and means nothing more.

    DEQUANTIZE of float16 is only a way to store weights in half the space.
    """
    if op.name == "DEQUANTIZE" and op.input(0).dtype == "float16":
        return True
    # Ranges that training wrote into a graph mean something only where they stand.
    return op.name not in QUANTIZERS and is_repeatable(op)


def _changes_variable(op: Op) -> bool:
    return any(t is not None and t.is_variable for t in op.inputs)
