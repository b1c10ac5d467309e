"""Chooses how the ranges of activations are read from their statistics.

No range rule is best for all networks, or for all tensors of one: cutting off the largest values
makes the steps of all others finer, and what that is worth at the outputs only they tell. All rules
read the same sketches, so that a candidate costs a plan and the judge's samples. First each rule is
tried on the whole network; then, beginning with the best, those under which some output gained on
halves of its tensors in order of execution, on quarters, and so on, as long as the budget lasts.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence

from tfq.calibrate.rules import RangeRule, Robust, get_rule
from tfq.calibrate.statistics import Statistics
from tfq.improve.cost import Cost
from tfq.improve.trials import TOO_FEW, Context, NothingToDoError, Proposal, Proposals
from tfq.quantize.candidate import Candidate

# Rules that read a sketch in well under a millisecond.
QUICK = ("percentile:99.99", "percentile:99.999", "octav", "moving_average")
ALL = (*QUICK, "percentile:99.9", "mse", "entropy")


@dataclasses.dataclass(frozen=True)
class ChooseRanges:
    """Tries range rules.

    Attributes:
      rules: those to try besides the one that the candidate has.
      depth: how often tensors are halved.
    """

    rules: tuple[str, ...] = QUICK
    depth: int = 2
    name: str = "calibration"

    def cost(self, start: Candidate, context: Context) -> Cost:
        rules = len(self.rules)
        parts = sum(2**depth for depth in range(1, self.depth + 1)) * (1 + rules)
        left = context.affordable_trials(start.prepared.model.main)
        return Cost(trials=min(rules + parts, left))

    def propose(self, start: Candidate, context: Context) -> Proposals:
        if not context.check:
            raise NothingToDoError(TOO_FEW)
        assert start.layout is not None
        assert start.statistics is not None
        full = start.statistics.mode == "full"
        own = start.config.calibration
        rules = [r for r in map(get_rule, self.rules) if full or not r.needs_histogram]
        rules = [r for r in rules if r != own]
        left = context.affordable_trials(start.prepared.model.main)
        names = [
            t.name
            for t in start.prepared.model.main.tensors()
            if t in start.layout.sources and _has_shown_its_range(start.statistics, t.name)
        ]
        if not names:
            raise NothingToDoError("too few values on these samples to leave any out")
        chosen: dict[str, RangeRule] = {}
        gaining = []
        for rule in rules[:left]:
            whole = dict.fromkeys(names, rule)
            answer = yield Proposal(_text(rule), functools.partial(_with, start, whole))
            if answer.best:
                chosen = whole
            if answer.best or answer.gains:
                gaining.append(rule)
        left -= len(rules)
        for depth in range(1, self.depth + 1):
            if not gaining or 2**depth > len(names):
                return
            for part, rule in itertools.product(_parts(names, 2**depth), [own, *gaining]):
                other = {**chosen, **dict.fromkeys(part, rule)}
                if all(chosen.get(n, own) == rule for n in part):
                    continue
                left -= 1
                if left < 0:
                    return
                text = f"{_text(rule)} for {len(part)} of {len(names)} tensors"
                answer = yield Proposal(text, functools.partial(_with, start, other))
                if answer.best:
                    chosen = other


def _has_shown_its_range(statistics: Statistics, name: str) -> bool:
    """Whether a tensor has so many values that what lies beyond all samples is little.

    The judge's samples are among the calibrated ones: it does not see what a range cuts off of
    later ones. Of few values that is much, and only the rule that reaches further (`Robust`) helps.
    """
    sketch, rule = statistics.get(name), Robust()
    if sketch is None:
        return False
    return sketch.samples >= rule.expected or sketch.count > rule.small * sketch.samples


def _with(start: Candidate, ranges: Mapping[str, RangeRule]) -> Candidate:
    return start.reconfigured(dataclasses.replace(start.config, ranges=dict(ranges)), start.layout)


def _parts(names: Sequence[str], count: int) -> list[Sequence[str]]:
    """Stretches of about the same length."""
    ends = [len(names) * i // count for i in range(count + 1)]
    return [names[a:b] for a, b in itertools.pairwise(ends)]


def _text(rule: RangeRule) -> str:
    """The rule as a user would name it."""
    parameters = [str(v) for k, v in rule.get_config().items() if k != "rule"]
    return ":".join([rule.name, *parameters[:1]])
