"""Proposes, builds, judges, keeps: the one loop that all improvements go through.

A proposal is kept if, on samples that it was not made from, something gains and nothing loses
(`tfq.improve.judge`), both against what its improvement started from and against the model without
any improvement: small losses must not add up. Of several such the one with the best mean over all
parts is kept.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Protocol

import numpy as np

from tfq.calibrate.statistics import Statistics
from tfq.errors import TfqError
from tfq.graph.check import run_in_child
from tfq.graph.model import Graph
from tfq.improve.cost import Cost, times
from tfq.improve.errors import OutputJudge
from tfq.improve.judge import Change, Errors, Verdict, judge_change
from tfq.quantize.candidate import Candidate
from tfq.rewrite.prepare import Prepared
from tfq.walk.obstacles import multiplications as op_multiplications

Inputs = Mapping[str, np.ndarray]

TOO_FEW = "too few samples to keep some to judge it by"


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A candidate to be judged.

    Attributes:
      what: what is different, for people ("percentile:99.99", "12 layers").
      build: makes the candidate.
      asked: the user asked for it, so it is kept whatever the judge says.
    """

    what: str
    build: Callable[[], Candidate]
    asked: bool = False


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What became of a proposal.

    Attributes:
      what: of the proposal.
      changes: what it does to each part of each output; empty if it could not be judged.
      kept: whether the judge would keep it (a better one may have been).
      why: why it could not be built, or "".
    """

    what: str
    changes: tuple[Change, ...]
    kept: bool
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an improvement did.

    Attributes:
      name: of the improvement.
      kept: what was kept, or "".
      attempts: all that was tried, in order.
      changes: what is kept does to each part of each output, against the model before it; where
        nothing is, what the best of the attempts would do.
      note: why nothing was tried or judged, or "".
      seconds: what it took.
    """

    name: str
    kept: str
    attempts: tuple[Attempt, ...]
    changes: tuple[Change, ...]
    note: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Context:
    """What improvements have at hand.

    Attributes:
      fit: samples to compute from: tensor name -> float values.
      check: others, to judge by.
      measure: statistics of some tensors of another float model, by name, on all samples.
      budget: multiplications that an improvement may spend on being judged.
      progress: called with (what is done, done, total or None).
    """

    fit: Sequence[Inputs]
    check: Sequence[Inputs]
    measure: Callable[[Prepared, Collection[str]], Statistics]
    budget: float
    progress: Callable[[str, int, int | None], None]

    def recalibrate(
        self, old: Statistics, prepared: Prepared, changed: Collection[str]
    ) -> Statistics:
        """The statistics of another float model that has the same tensors.

        Args:
          old: those of the model that it was made from.
          prepared: the other model.
          changed: names of all tensors whose values are others. Only these are looked at again.
        """
        again = [name for name in old if name in changed]
        sketches = self.measure(prepared, again) if again else {}
        return dataclasses.replace(
            old, sketches={**old.sketches, **sketches}, model_sha256=prepared.sha256
        )

    def affordable_trials(self, graph: Graph) -> int:
        """How many candidates of this size may be judged."""
        each = multiplications(graph) * max(len(self.check), 1) + len(graph.ops) * _OP
        return max(int(self.budget / each), 1)


# What it costs to plan, emit and load an op, in multiplications that the same time would do.
_OP = 2e7


@dataclasses.dataclass(frozen=True)
class Answer:
    """What an improvement is told of its proposal.

    Attributes:
      best: whether it is the best so far of those that are kept.
      gains: whether some part of an output gains.
      losers: outputs that lose.
      score: mean change of the error over all parts, in dB; lower is better. 0 if not judged.
    """

    best: bool
    gains: bool = False
    losers: frozenset[str] = frozenset()
    score: float = 0.0


Proposals = Generator[Proposal, Answer, None]


class Improvement(Protocol):
    """Proposes candidates."""

    @property
    def name(self) -> str:
        """As users read it."""

    def cost(self, start: Candidate, context: Context) -> Cost:
        """What `propose` takes at most, as far as it can be told without measuring anything."""

    def propose(self, start: Candidate, context: Context) -> Proposals:
        """Yields proposals, and is sent an `Answer` to each.

        Args:
          start: the candidate to improve.
          context: samples, and what else there is.
        """


class NothingToDoError(Exception):
    """Raised by an improvement before its first proposal: the reason why there is none."""


def improve(
    first: Candidate, improvements: Sequence[Improvement], context: Context
) -> tuple[Candidate, tuple[Outcome, ...]]:
    """Goes through the improvements in order.

    Args:
      first: what the improvements begin with.
      improvements: each starts from what the one before kept.
      context: with no samples to judge by, only what the user asked for is kept.

    Returns:
      The best candidate, and what each improvement did; those with nothing to do are left out.

    Raises:
      TfqError: what the user asked for cannot be built.
    """
    best, outcomes = first, []
    trials: _Trials | None = None
    for improvement in improvements:
        began = time.perf_counter()
        # The float model runs the samples only if something is proposed.
        trials = trials or _Trials(first, context)
        trials.start(best)
        most = improvement.cost(best, context).trials
        try:
            found, note = _run(improvement, best, trials, context, most), ""
        except NothingToDoError as e:
            found, note = None, str(e)
        if found is None and not trials.attempts and not note:
            continue
        best = found[1] if found is not None else best
        outcomes.append(
            Outcome(
                improvement.name,
                found[0] if found is not None else "",
                tuple(trials.attempts),
                trials.changes,
                note or ("" if context.check else f"its effect not measured: {TOO_FEW}"),
                time.perf_counter() - began,
            )
        )
    return best, tuple(outcomes)


def _run(
    improvement: Improvement, start: Candidate, trials: _Trials, context: Context, most: int
) -> tuple[str, Candidate] | None:
    """What is kept of one improvement's proposals."""
    proposals = improvement.propose(start, context)
    best: tuple[str, Candidate] | None = None
    answer: Answer | None = None
    while True:
        try:
            proposal = proposals.send(answer)  # type: ignore[arg-type]
        except StopIteration:
            return best
        what = f"Trying {improvement.name}, at most {times(most)}"
        context.progress(what, len(trials.attempts), most)
        candidate = trials.judge(proposal)
        changes = trials.attempts[-1].changes
        losers = frozenset(c.output for c in changes if c.loses)
        answer = Answer(candidate is not None, any(c.gains for c in changes), losers, trials.score)
        if candidate is not None:
            best = proposal.what, candidate


class _Trials:
    """The judge's bench: the samples, and the errors of what there is to beat."""

    def __init__(self, first: Candidate, context: Context):
        self.check = context.check
        self._first = first
        self._judge: OutputJudge | None = None

    def start(self, candidate: Candidate) -> None:
        """Begins with an improvement of `candidate`."""
        self._start = candidate
        self._start_errors: Errors | None = None
        self.attempts: list[Attempt] = []
        self.changes: tuple[Change, ...] = ()
        self.score = 0.0  # Of the last one judged.
        self._score: float | None = None  # Of the best so far.
        self._tried: float | None = None  # Of the best that was not kept.

    def judge(self, proposal: Proposal) -> Candidate | None:
        """Builds and judges; the candidate if it is the best so far."""
        self.score = 0.0
        try:
            candidate = proposal.build()
            if candidate.layout is not self._start.layout:
                # Other kernels, or another float model: in a process that may die of them.
                run_in_child(candidate.bytes, where="the candidate", kernels=("xnnpack",))
            verdict = self._verdict(candidate)
        except TfqError as e:
            if proposal.asked:
                raise
            self.attempts.append(Attempt(proposal.what, (), False, str(e)))
            return None
        if verdict is None:
            self.attempts.append(Attempt(proposal.what, (), proposal.asked))
            return candidate if proposal.asked else None
        self.score = verdict.score
        kept = verdict.kept or proposal.asked
        self.attempts.append(Attempt(proposal.what, verdict.changes, kept))
        if not kept:
            if self._score is None and (self._tried is None or verdict.score < self._tried):
                self._tried, self.changes = verdict.score, verdict.changes
            return None
        if self._score is not None and verdict.score > self._score - _BETTER:
            return None
        self._score, self.changes = verdict.score, verdict.changes
        return candidate

    def _verdict(self, candidate: Candidate) -> Verdict | None:
        if not self.check:
            return None
        if self._judge is None:
            self._judge = OutputJudge(self._first, self.check)
            self._first_errors = self._judge.errors(self._first)
        if self._start_errors is None:
            self._start_errors = (
                self._first_errors
                if self._start is self._first
                else self._judge.errors(self._start)
            )
        errors = self._judge.errors(candidate)
        verdict = judge_change(self._start_errors, errors)
        if self._start is self._first or not verdict.kept:
            return verdict
        whole = judge_change(self._first_errors, errors)
        return dataclasses.replace(verdict, kept=whole.worst is None)


# dB in the mean over all parts that a proposal must be better by than the best so far.
_BETTER = 0.05


def multiplications(graph: Graph) -> int:
    """Those of all layers with weights, in one run."""
    return sum(map(op_multiplications, graph.ops))


def affordable(
    graph: Graph, fit: Sequence[Inputs], check: Sequence[Inputs], budget: float
) -> tuple[Sequence[Inputs], Sequence[Inputs]]:
    """As many samples of both kinds as a model of this size is improved with.

    Large models have many positions in each sample, so that few samples give means as good.

    Args:
      budget: multiplications in one run over all samples of both kinds.
    """
    count = max(int(budget / max(multiplications(graph), 1)), _FEWEST)
    share = len(check) / max(len(fit) + len(check), 1)
    checks = max(round(count * share), 1)
    return evenly(fit, max(count - checks, 1)), evenly(check, checks)


def evenly(samples: Sequence[Inputs], count: int) -> Sequence[Inputs]:
    """So many of the samples, from everywhere: they may be sorted by class."""
    if len(samples) <= count:
        return samples
    return [samples[i * len(samples) // count] for i in range(count)]


_FEWEST = 32

__all__ = [
    "TOO_FEW",
    "Answer",
    "Attempt",
    "Context",
    "Improvement",
    "NothingToDoError",
    "Outcome",
    "Proposal",
    "Proposals",
    "affordable",
    "evenly",
    "improve",
    "multiplications",
]
