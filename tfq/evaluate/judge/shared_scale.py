"""An input of a concatenation, or of another op with one grid for all, uses little of that grid."""

from __future__ import annotations

from tfq.evaluate.figures import TensorFigures
from tfq.evaluate.judge.finding import Claim
from tfq.evaluate.judge.remedies import wider
from tfq.evaluate.judge.view import FINE, View, fixed, label, moves, partner, same_grid, width

NAME = "shared_scale"


def find(view: View, t: TensorFigures) -> Claim | None:
    wide = partner(t)
    if wide is None or fixed(t):
        return None
    used = width(t.observed) / width(t.grid)
    amount = view.step(t) * (1 - used**2)
    if amount < FINE:
        return None
    joint = [r for r in view.readers(t) if moves(r) and same_grid(r, t)]
    where = label(joint[0]) if joint else "an op"
    other = next((label(o) for o in view.analysis.tensors if o.name == wide[0]), wide[0])
    return Claim(
        NAME,
        "one scale shared with a much wider tensor",
        f"{where} forces one grid on all its inputs. This one reaches from {t.observed[0]:.4g} "
        f"to {t.observed[1]:.4g}, {100 * used:.2g} % of the grid; {other} needs {wide[1][0]:.4g} "
        f"to {wide[1][1]:.4g}.",
        # All that goes in, or 8 bits are kept; all that reads it, or they come back right behind.
        wider(
            (*(i for j in joint for i in view.inputs(j)), *joint, *view.users(t)),
            f"Give {where}, its inputs and what reads it 16-bit activations, or scale the "
            "branches alike in training.",
        ),
        amount,
    )
