"""Object detection: boxes with a score and a class.

Outputs are either those of TFLite_Detection_PostProcess (boxes [d, 4], classes [d], scores [d],
and the count of detections) or one of [d, 6]: four coordinates, score, class. Labels are boxes
[m, 5] for each sample: four coordinates, class; rows of a class below 0 are padding. Coordinates
are two opposite corners, lower values first; their order and unit are the same in both.

A quantized model's classes lie on a grid whose step need not divide 1: class 1 may read 0.86. They
are rounded where the values themselves show such a grid, coarse enough to explain how far they are
from whole numbers. (Scores that were taken for classes do not: their steps are fine.)

Average precision is that of COCO (Lin et al., "Microsoft COCO: Common objects in context", ECCV
2014), by pycocotools: each image's detections are matched there, in `keep`. The precision at 101
recalls is read here, since a resample counts images several times; it is the same number as
pycocotools' `accumulate`. At most 100 detections count of a class and image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics.core import (
    Better,
    Kept,
    Labels,
    Metric,
    Outputs,
    Task,
    UndefinedError,
    require_labels,
    require_numbers,
)
from tfq.evaluate.metrics.libraries import library

MOST_BOXES = 512
"""Boxes of one label; what is kept of a sample has a fixed size."""

MOST_DETECTIONS = 100
"""Of one class and image."""

_WHOLE = 1e-3
"""Numbers so near to a whole one are whole: more than float32 loses on a grid's values."""

_ALL_SIZES = [0.0, 1e10]
_RECALLS = np.linspace(0, 1, 101)
_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclasses.dataclass(frozen=True)
class Roles:
    """Which output is what; `rows` is the only one, of [d, 6], or None."""

    rows: str | None = None
    boxes: str = ""
    scores: str = ""
    classes: str = ""
    count: str | None = None


def roles(shapes: Mapping[str, Sequence[int]]) -> Roles | None:
    """Tells boxes, scores, classes and count apart; None if these are no detections.

    Boxes and count are known by their shapes, classes and scores by their names, or else by their
    order: classes come first.

    Args:
      shapes: of one sample's outputs, in the model's order.
    """
    if len(shapes) == 1:
        name, shape = next(iter(shapes.items()))
        return Roles(rows=name) if len(shape) == 2 and shape[1] == 6 else None
    boxes = [n for n, s in shapes.items() if len(s) == 2 and s[1] == 4]
    if len(boxes) != 1 or len(shapes) not in (3, 4):
        return None
    detections = shapes[boxes[0]][0]
    rest = [n for n in shapes if n != boxes[0]]
    lists = [n for n in rest if tuple(shapes[n]) == (detections,)]
    counts = [n for n in rest if tuple(shapes[n]) in ((), (1,))]
    if len(shapes) == 4 and len(lists) == 3:  # One detection: its lists are as long as a count.
        counts = [n for n in lists if "num" in n or "count" in n] or lists[-1:]
    lists = [n for n in lists if n not in counts]
    if len(lists) != 2 or len(counts) != len(shapes) - 3:
        return None
    classes, scores = lists
    if "score" in classes or "class" in scores:
        classes, scores = scores, classes
    return Roles(None, boxes[0], scores, classes, counts[0] if counts else None)


def _roles(outputs: Outputs) -> Roles:
    shapes = {name: values.shape[1:] for name, values in outputs.items()}
    found = roles(shapes)
    if found is None:
        raise UsageError(
            "Detection needs the outputs boxes [d,4], classes [d], scores [d] and, if there is "
            f"one, their count, or a single [d,6] of box, score and class. Received: "
            f"{', '.join(f'{n!r} {list(s)}' for n, s in shapes.items())}."
        )
    return found


def detections(outputs: Outputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes float64 [n, d, 4], scores float64 [n, d], classes float64 [n, d]; -1 of no detection.

    Classes are as the model gives them, not rounded.

    Detections from the count on are none, and those with a score of 0.
    """
    found = _roles(outputs)
    if found.rows is not None:
        rows = np.asarray(outputs[found.rows], np.float64)
        boxes, scores, classes = rows[..., :4], rows[..., 4], rows[..., 5]
    else:
        boxes, scores, classes = (
            np.asarray(outputs[name], np.float64)
            for name in (found.boxes, found.scores, found.classes)
        )
    none = scores <= 0
    if found.count is not None:
        count = np.asarray(outputs[found.count], np.float64).reshape(-1, 1)
        none = none | (np.arange(scores.shape[1]) >= count)
    return boxes, scores, np.where(none, -1.0, classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AveragePrecision(Metric):
    """Keeps 8 bytes a detection and 1 KB for the labels of a sample.

    Attributes:
      thresholds: of the intersection over union, averaged.
    """

    unit: str = "%"
    better: Better = "higher"
    bounds: tuple[float, float] = (0, 100)
    thresholds: tuple[float, ...]

    def keep(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> dict[str, np.ndarray]:
        boxes, scores, classes = detections(outputs)
        labels = require_labels(labels, len(boxes), self.title)
        kept_scores = np.where(classes >= 0, scores, 0).astype(np.float32)
        numbers = np.where(np.isfinite(classes), np.rint(classes), -1).astype(np.int16)
        matches = np.zeros(scores.shape, np.uint16)
        for i in range(len(boxes)):
            counted, matches[i] = _match(
                boxes[i], kept_scores[i], numbers[i], labels[i], self.thresholds
            )
            numbers[i] = np.where(counted, numbers[i], -1)
        return {
            "score": kept_scores,
            "class": numbers,
            "match": matches,
            "truth": labels[..., 4].astype(np.int16),
        }

    def compute(self, kept: Kept) -> float:
        require_numbers(kept["score"])
        return self.statistic(kept)(np.arange(len(kept["score"])))

    def statistic(self, kept: Kept) -> Callable[[np.ndarray], float]:
        images, columns = np.nonzero(kept["class"] >= 0)
        numbers = kept["class"][images, columns].astype(np.int64)
        scores = kept["score"][images, columns]
        order = np.lexsort((-scores, numbers))  # Stable: of equal scores the earlier image's.
        images, numbers = images[order], numbers[order]
        bits = kept["match"][images, columns[order]]
        hits = (bits >> np.arange(len(self.thresholds))[:, None]) & 1
        where, row = np.nonzero(kept["truth"] >= 0)
        truth = kept["truth"][where, row].astype(np.int64)
        there = np.unique(truth)
        starts = np.searchsorted(numbers, there, side="left")
        ends = np.searchsorted(numbers, there, side="right")

        def resampled(indices: np.ndarray) -> float:
            weights = np.bincount(indices, minlength=len(kept["score"])).astype(np.float64)
            positives = np.bincount(truth, weights[where])
            found = []
            for c, start, end in zip(there, starts, ends, strict=True):
                if positives[c] > 0:
                    weight = weights[images[start:end]]
                    found.append(_average_precision(hits[:, start:end], weight, positives[c]))
            if not found:
                raise UndefinedError("The labels hold no box.")
            return 100 * float(np.mean(found))

        return resampled

    def cost(self, kept: Kept) -> int:
        return int(np.count_nonzero(kept["class"] >= 0)) * len(self.thresholds) * 8


def _match(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    labels: np.ndarray,
    thresholds: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Matches one image's detections with its labels, as pycocotools does.

    Returns:
      Which detections count, bool [d], and uint16 [d]: bit t is set where the detection is right
      at threshold t.
    """
    evaluation: Any = library("pycocotools.cocoeval", "Average precision").COCOeval(iouType="bbox")
    evaluation.params.iouThrs = np.asarray(thresholds)
    evaluation.params.maxDets = [MOST_DETECTIONS]
    counted = np.zeros(len(boxes), bool)
    matches = np.zeros(len(boxes), np.uint16)
    for c in np.unique(classes[classes >= 0]).tolist():
        for i in np.flatnonzero(classes == c).tolist():
            found = {**_box(boxes[i]), "id": i + 1, "score": float(scores[i])}
            evaluation._dts[0, c].append(found)
        for j in np.flatnonzero(labels[:, 4] == c).tolist():
            wanted = {**_box(labels[j, :4]), "id": j + 1, "iscrowd": 0, "ignore": 0}
            evaluation._gts[0, c].append(wanted)
        evaluation.ious[0, c] = evaluation.computeIoU(0, c)
        result = evaluation.evaluateImg(0, c, _ALL_SIZES, MOST_DETECTIONS)
        at = np.array(result["dtIds"]) - 1
        counted[at] = True
        for t, right in enumerate(result["dtMatches"] > 0):
            matches[at] |= right.astype(np.uint16) << t
    return counted, matches


def _box(corners: np.ndarray) -> dict[str, Any]:
    """Corners as COCO's box: corner, width, height."""
    a, b, c, d = (float(v) for v in corners)
    width, height = max(c - a, 0.0), max(d - b, 0.0)
    return {"bbox": [a, b, width, height], "area": width * height}


def _average_precision(hits: np.ndarray, weight: np.ndarray, positives: float) -> float:
    """Mean over thresholds of the precision at 101 recalls, where each is the best from there on.

    Args:
      hits: [thresholds, d], highest score first.
      weight: how often each detection counts, [d].
      positives: how many boxes there are to find.
    """
    if not len(weight):
        return 0.0
    right = np.cumsum(hits * weight, axis=1)
    precision = right / (np.cumsum(weight) + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = 0.0
    for recall, envelope in zip(right / positives, best, strict=True):
        at = np.searchsorted(recall, _RECALLS, side="left")
        total += float(envelope[at[at < len(envelope)]].sum()) / len(_RECALLS)
    return total / len(hits)


@dataclasses.dataclass(frozen=True)
class Detection(Task):
    @property
    def name(self) -> str:
        return "detection"

    @property
    def all_metrics(self) -> tuple[str, ...]:
        return ("ap", "ap50")

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("ap", "ap50")

    def check(self, outputs: Outputs, labels: Labels, start: int = 0) -> np.ndarray | None:
        """As `Task.check`.

        Args:
          outputs, start: as there.
          labels: boxes [m, 5] for each sample, m as it comes, or padded.

        Returns:
          float64 [n, 512, 5], padded with rows of -1.
        """
        _, _, classes = detections(outputs)
        found = _roles(outputs)
        _check_classes(classes, found.classes or str(found.rows), start)
        if labels is None:
            return None
        if len(labels) != len(classes):
            raise DataError(
                f"{len(classes)} samples need {len(classes)} labels. Received: {len(labels)}."
            )
        padded = np.full((len(classes), MOST_BOXES, 5), -1.0)
        for i, label in enumerate(labels):
            boxes = _boxes(np.asarray(label), start + i)
            padded[i, : len(boxes)] = boxes
        return padded

    def _build(self, name: str) -> Metric:
        if name == "ap50":
            return AveragePrecision(name="ap50", title="AP at IoU 0.5", thresholds=(0.5,))
        thresholds = tuple(float(t) for t in _THRESHOLDS)
        return AveragePrecision(name="ap", title="AP at IoU 0.5 to 0.95", thresholds=thresholds)


def _check_classes(classes: np.ndarray, name: str, start: int) -> None:
    """Sees that classes [n, d] of the output `name` are class numbers, up to its grid's rounding.

    A value of a grid with the step s is within s / 2 of the number that it stands for, and other
    numbers are farther off as long as s is at most 1.
    """
    values = np.where(np.isfinite(classes), classes, -1)
    off = np.abs(values - np.rint(values))
    odd = values > np.iinfo(np.int16).max
    if not odd.any() and off.max(initial=0) > _WHOLE:
        multiple = _common_step(values[values > 0])
        # The values may show only a multiple of the step; no step up to 1 explains these values
        # where the largest that it can be does not.
        step = multiple / max(1, math.ceil(multiple - _WHOLE))
        if multiple > 1 + _WHOLE and step / 2 * 1.01 + _WHOLE < off.max():
            raise DataError(
                f"The values of the output {name!r} are {multiple:.4g} apart, so the grid it is "
                f"quantized to is too coarse to tell classes apart. Quantize that output to 16 "
                f"bits, or leave it in float."
            )
        odd = off > step / 2 * 1.01 + _WHOLE
    if odd.any():
        at, column = (int(i) for i in np.argwhere(odd)[0])
        raise DataError(
            f"A detection in sample {start + at} has the class {classes[at, column]:.4g} in the "
            f"output {name!r}, which is no class number, even of a quantized output. Name the "
            f"outputs so that 'class' and 'score' tell them apart."
        )


def _common_step(values: np.ndarray) -> float:
    """The largest step, down to `_WHOLE`, of which all values above 0 are multiples: Euclid's."""
    step = 0.0
    for value in np.unique(values).tolist():
        a, b = value, step
        while b > _WHOLE:
            a, b = b, abs(a - b * round(a / b))
        # The largest value so far tells the step best: rounding errors do not add up.
        step = value / round(value / a)
    return step


def _boxes(label: np.ndarray, sample: int) -> np.ndarray:
    """One sample's boxes [m, 5], without padding."""
    if label.size == 0:
        return np.zeros((0, 5))
    if label.ndim != 2 or label.shape[1] != 5 or label.dtype.kind not in "iuf":
        raise DataError(
            f"The label of sample {sample} is no list of boxes [m, 5] of four coordinates and a "
            f"class. Received: shape {list(label.shape)} and type {label.dtype}."
        )
    boxes = np.asarray(label[~(label[:, 4] < 0)], np.float64)
    if len(boxes) > MOST_BOXES:
        raise DataError(
            f"The label of sample {sample} has {len(boxes)} boxes; there may be {MOST_BOXES}."
        )
    numbers = boxes[:, 4]
    whole = np.isfinite(boxes).all(axis=1) & (numbers == np.round(numbers))
    bad = ~(whole & (numbers <= np.iinfo(np.int16).max))
    if bad.any():
        at = int(bad.argmax())
        raise DataError(
            f"Box {at} in the label of sample {sample} is not of four coordinates and a class "
            f"number. Received: {boxes[at].tolist()}."
        )
    turned = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
    if turned.any():
        at = int(turned.argmax())
        raise DataError(
            f"Box {at} in the label of sample {sample} ends before it starts. Boxes are two "
            f"opposite corners, lower values first. Received: {boxes[at, :4].tolist()}."
        )
    return boxes
