"""Tasks and their metrics: what is measured on labelled data, and how.

task = get_task("classification").fit(outputs, labels)      # the reference's first block
metrics = task.metrics(["top1", "auc"])
labels = task.check(outputs, labels, start)                 # every block
read = task.read(outputs, labels)
kept = metric.keep(read, labels, read_of_the_reference)     # every block, anywhere
score(metric, all_kept)                                     # what was kept, of all blocks in order
compare(metric, all_kept, all_kept_of_the_reference)
"""

from tfq.evaluate.metrics.calibration import Bin, ece_of_bins, reliability
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
from tfq.evaluate.metrics.estimates import Difference, Score, compare, score
from tfq.evaluate.metrics.f1 import confusion
from tfq.evaluate.metrics.segmentation import Segmentation
from tfq.evaluate.metrics.tasks import get_task, guess_task, options_of, tasks

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
    "Segmentation",
    "Task",
    "UndefinedError",
    "compare",
    "confusion",
    "ece_of_bins",
    "get_task",
    "guess_task",
    "load_metric",
    "options_of",
    "reliability",
    "score",
    "tasks",
]
