"""Tasks and their metrics: what is measured on labelled data, and how.

task = get_task("classification").fit(outputs, labels)      # the reference's first block
metrics = task.metrics(["top1", "auc"])
labels = task.check(outputs, labels, start)                 # every block
kept = metric.keep(outputs, labels, reference_outputs)      # every block, anywhere
score(metric, concatenate(all_kept))                        # value, interval
compare(metric, concatenate(all_kept), concatenate(reference_kept))
"""

from tfq.evaluate.metrics.calibration import Bin, reliability
from tfq.evaluate.metrics.classification import Classification
from tfq.evaluate.metrics.core import (
    Kept,
    Labels,
    Metric,
    Outputs,
    SampleMetric,
    Task,
    UndefinedError,
)
from tfq.evaluate.metrics.custom import load_metric
from tfq.evaluate.metrics.f1 import confusion
from tfq.evaluate.metrics.score import Difference, Score, compare, concatenate, score
from tfq.evaluate.metrics.tasks import get_task, guess_task, tasks

__all__ = [
    "Bin",
    "Classification",
    "Difference",
    "Kept",
    "Labels",
    "Metric",
    "Outputs",
    "SampleMetric",
    "Score",
    "Task",
    "UndefinedError",
    "compare",
    "concatenate",
    "confusion",
    "get_task",
    "guess_task",
    "load_metric",
    "reliability",
    "score",
    "tasks",
]
