"""The short record of what improvements did, for the plan and the file (`tfq.plan.evidence`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfq.improve.judge import Change
from tfq.improve.trials import Outcome
from tfq.plan.evidence import Effect, Evidence, Refusal

# In the place of -inf and NaN, of outputs that are so themselves.
_LOST = -300.0


def record(outcomes: Sequence[Outcome]) -> tuple[Evidence, ...]:
    """Each improvement with the figures that say most; all are in the summary of a conversion."""
    return tuple(
        Evidence(o.name, o.kept, len(o.attempts), _effects(o.changes), _worst(o), _why(o))
        for o in outcomes
    )


def _effects(changes: Sequence[Change]) -> tuple[Effect, ...]:
    """Of every output the whole, and the part that loses most or gains least."""
    found = []
    for output in dict.fromkeys(c.output for c in changes):
        own = [c for c in changes if c.output == output]
        parts = [c for c in own if c.part]
        shown = [c for c in own if not c.part]
        shown += [max(parts, key=lambda c: c.loss_db)] if parts else []
        found += [
            Effect(c.output, c.part, _rounded(c.before_db), _rounded(c.after_db)) for c in shown
        ]
    return tuple(found)


def _worst(outcome: Outcome) -> Refusal | None:
    """What would have lost most among what was refused."""
    losses = [
        (c.loss_db, a.what, c) for a in outcome.attempts if not a.kept for c in a.changes if c.loses
    ]
    if not losses:
        return None
    loss, what, change = max(losses, key=lambda found: found[0])
    return Refusal(what, change.output, change.part, _rounded(loss) or 0.0)


def _why(outcome: Outcome) -> str:
    """Why nothing was tried, judged or built."""
    unbuilt = next((a.why for a in outcome.attempts if a.why), "")
    return outcome.note or ("" if outcome.kept or outcome.changes else unbuilt)


def _rounded(decibels: float) -> float | None:
    """None where exact."""
    if decibels == math.inf:
        return None
    return round(decibels, 1) if math.isfinite(decibels) else _LOST
