"""What makes a quantized model better: proposed, built, judged, and kept or not.

Each improvement is a file with one shape (`Improvement`): it proposes candidates, and one judge
(`tfq.improve.judge`) decides for all of them, on samples that they were not made from, per output
and per part of an output. What is kept, and what is not and why, is on record (`Outcome`).
"""

from tfq.improve.judge import Change, PartError, Verdict, judge_change
from tfq.improve.trials import Attempt, Context, Improvement, Outcome, Proposal, improve

__all__ = [
    "Attempt",
    "Change",
    "Context",
    "Improvement",
    "Outcome",
    "PartError",
    "Proposal",
    "Verdict",
    "improve",
    "judge_change",
]
