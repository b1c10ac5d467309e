"""An input of a concatenation, or of another op with one grid for all, uses little of that grid.

Where the layers that read it make it large again, that is the cause of what is lost there, too.
"""

from __future__ import annotations

from tfq.evaluate.causes.finding import Claim
from tfq.evaluate.causes.remedies import wider_until_even
from tfq.evaluate.causes.view import FINE, View, fixed, label, moves, partner, width
from tfq.evaluate.causes.wording import number, span
from tfq.evaluate.figures import TensorFigures

NAME = "shared_scale"


def find(view: View, t: TensorFigures) -> Claim | None:
    wide = partner(t)
    if wide is None or fixed(t):
        return None
    used = width(t.observed) / width(t.grid)
    amount = view.step(t) * (1 - used**2)
    if amount < FINE:
        return None
    joints = [j for j in view.joined(t) if moves(j)]
    several = [j for j in joints if len(view.inputs(j)) > 1] or joints
    where = label(several[0]) if several else "An op"
    other = next((label(o) for o in view.analysis.tensors if o.name == wide[0]), wide[0])
    return Claim(
        NAME,
        "One scale shared with a much wider tensor",
        f"{where} forces one grid on all its inputs. This one reaches from "
        f"{span(t.observed)}, {number(100 * used, 2)} % of the "
        f"grid; {other} needs {span(wide[1])}.",
        # All that goes in, or 8 bits are kept; all that reads it, or they come back right behind.
        wider_until_even(
            view,
            t,
            f"Give {where}, its inputs and what reads it 16-bit activations, or scale the "
            "branches alike in training.",
        ),
        amount,
    )
