"""Segmentation: a class number for every pixel.

The output is scores [n, height, width, classes] (or [n, classes, height, width], where labels show
it), of which the highest is the answer; [n, height, width, 1] or [n, height, width], the score of
class 1 of two, whose threshold is 0.5 for probabilities and 0 for logits (`classification`); or
integers [n, height, width], which are the answers. Labels are class maps [height, width].

Where a label has another size than the scores (networks that answer for every 4th pixel), the
scores are resized to it bilinearly, before the highest is taken, as is usual (`resizing`). Class
maps cannot be, and have to have the labels' size.

Pixels whose label is `ignore_index` count nowhere: 255 unless another is given, as in Pascal VOC,
Cityscapes and torchvision, and none where 255 is one of the classes.

All figures are of the whole data set: pixels are counted over all samples first. With the pixels of
class c that have its label L, its answer A and both H, the IoU (Jaccard index) is H / (L + A - H),
the accuracy H / L, Dice (F1) 2 H / (L + A). Their means are over classes that have one: a class
that occurs in neither labels nor answers is left out, as in scikit-learn and torchmetrics.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics.classification import (
    Scores,
    check_probabilities,
    one_hot,
    scores_kind,
)
from tfq.evaluate.metrics.core import (
    Better,
    Kept,
    Labels,
    Metric,
    Outputs,
    Task,
    UndefinedError,
    only,
)
from tfq.evaluate.metrics.resizing import resized

IGNORE_INDEX = 255
"""Of labels, unless another is given."""

MOST_CLASSES = 256
"""Of a model that answers with class numbers, which do not say how many there are."""

_IGNORED = -1  # In checked labels. In answers: a pixel with a NaN, which has none.

Totals = Mapping[str, np.ndarray]
"""Pixels over all samples: `hits`, `labelled`, `answered` [classes]; `same`, `pixels` [1]."""


def tally(
    outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None, *, classes: int
) -> dict[str, np.ndarray]:
    """Counts the pixels of each sample.

    Args:
      outputs, reference: class maps as `Segmentation.read` returns them.
      labels: as `Segmentation.check` returns them, or None.
      classes: how many.

    Returns:
      int32 [n, ...]: `same`, pixels with the reference's answer, of `pixels`; and with labels, for
      each class the pixels with its label and its answer (`hits`), its label (`labelled`) and its
      answer (`answered`); and the pixels that are ignored.
    """
    ((_, maps),) = outputs.items()
    others = maps if reference is None else next(iter(reference.values()))
    names = ("same", "pixels") if labels is None else ("same", "pixels", "ignored")
    counts = {name: np.zeros((len(maps), 1), np.int32) for name in names}
    if labels is not None:
        for name in ("hits", "labelled", "answered"):
            counts[name] = np.zeros((len(maps), classes), np.int32)
    for i, (answer, other) in enumerate(zip(maps, others, strict=True)):
        if labels is not None:
            counted = labels[i] != _IGNORED
            counts["ignored"][i] = counted.size - np.count_nonzero(counted)
            label, answer, other = labels[i][counted], answer[counted], other[counted]
            counts["hits"][i] = np.bincount(label[label == answer], minlength=classes)
            counts["labelled"][i] = np.bincount(label, minlength=classes)
            counts["answered"][i] = np.bincount(answer[answer >= 0], minlength=classes)
        counts["same"][i] = np.count_nonzero(answer == other)
        counts["pixels"][i] = answer.size
    return counts


def class_iou(totals: Totals) -> np.ndarray:
    """IoU of each class, % [classes]; NaN where it is in neither labels nor answers."""
    return _percent(totals["hits"], totals["labelled"] + totals["answered"] - totals["hits"])


def class_accuracy(totals: Totals) -> np.ndarray:
    """Share of each class's pixels that are answered rightly, % [classes]; NaN of no pixels."""
    return _percent(totals["hits"], totals["labelled"])


def mean_iou(totals: Totals) -> float:
    """Mean IoU over the classes that occur, %."""
    return float(np.nanmean(class_iou(totals)))


def mean_accuracy(totals: Totals) -> float:
    """Mean accuracy over the classes that have labels, %."""
    return float(np.nanmean(class_accuracy(totals)))


def mean_dice(totals: Totals) -> float:
    """Mean Dice coefficient over the classes that occur, %."""
    return float(np.nanmean(_percent(2 * totals["hits"], totals["labelled"] + totals["answered"])))


def pixel_accuracy(totals: Totals) -> float:
    """Share of the pixels that are answered rightly, %."""
    return 100 * float(totals["hits"].sum() / totals["labelled"].sum())


def agreement(totals: Totals) -> float:
    """Share of the pixels that have the reference's answer, %."""
    return 100 * float(totals["same"][0] / totals["pixels"][0])


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN.
        return np.asarray(100 * part / whole)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelMetric(Metric):
    """A figure of counted pixels; all keep the same, 12 bytes a sample and class, once.

    Attributes:
      counts: the names of what it is computed from.
      function: (totals) -> number; picklable.
      classes: how many.
    """

    kept_as: str = "pixels"
    unit: str = "%"
    better: Better = "higher"
    bounds: tuple[float, float] = (0, 100)
    counts: tuple[str, ...] = ("hits", "labelled", "answered")
    function: Callable[[Totals], float]
    classes: int

    def keep(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> dict[str, np.ndarray]:
        return tally(outputs, labels, reference, classes=self.classes)

    def compute(self, kept: Kept) -> float:
        return self._of({name: kept[name].sum(axis=0, dtype=np.int64) for name in self.counts})

    def statistic(self, kept: Kept) -> Callable[[np.ndarray], float]:
        there = self._columns(kept)
        table = np.concatenate([kept[name][:, used] for name, used in there.items()], axis=1)
        step = max(1, (1 << 20) // max(table.shape[1], 1))
        ends = np.cumsum([np.count_nonzero(used) for used in there.values()])[:-1]

        def resampled(indices: np.ndarray) -> float:
            weights = np.bincount(indices, minlength=len(table)).astype(np.float64)
            # Sums of whole numbers below 2^53: exact, in whatever order they are added.
            sums = np.zeros(table.shape[1])
            for start in range(0, len(table), step):
                some = slice(start, start + step)
                sums += weights[some] @ table[some].astype(np.float64)
            return self._of(dict(zip(there, np.split(sums, ends), strict=True)))

        return resampled

    def cost(self, kept: Kept) -> int:
        columns = sum(np.count_nonzero(used) for used in self._columns(kept).values())
        return int(columns) * len(kept["same"])

    def _columns(self, kept: Kept) -> dict[str, np.ndarray]:
        """Of each count, which columns are read: those of the classes that occur at all."""
        wide = [kept[name].any(axis=0) for name in self.counts if kept[name].shape[1] > 1]
        used = np.any(wide, axis=0) if wide else np.ones(1, bool)
        return dict.fromkeys(self.counts, used)

    def _of(self, totals: Totals) -> float:
        if not totals[self.counts[1]].sum():
            raise UndefinedError("Every pixel's label is the one that is ignored.")
        return self.function(totals)


_METRICS: dict[str, tuple[str, Callable[[Totals], float]]] = {
    "miou": ("mean IoU", mean_iou),
    "pixel_accuracy": ("pixel accuracy", pixel_accuracy),
    "mean_accuracy": ("mean accuracy of classes", mean_accuracy),
    "dice": ("mean Dice", mean_dice),
}


@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
    """Attributes:
    scores: of a single score a pixel, "probabilities" or "logits"; None until `fit` decides.
    ignore_index: the label of pixels that do not count; None for the default.
    classes: how many; 0 until `fit`.
    maps: the output is class numbers, not scores.
    channels_first: scores are [n, classes, height, width].
    """

    scores: Scores | None = None
    ignore_index: int | None = None
    classes: int = 0
    maps: bool = False
    channels_first: bool = False

    flips = "pixels whose class flips"

    @property
    def name(self) -> str:
        return "segmentation"

    @property
    def all_metrics(self) -> tuple[str, ...]:
        return (*_METRICS, "agreement")

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("miou", "pixel_accuracy", "agreement")

    def fit(self, outputs: Outputs, labels: Labels) -> Segmentation:
        name, values = only(outputs, "Segmentation")
        if values.dtype.kind in "iu":
            found = dataclasses.replace(self, maps=True, classes=MOST_CLASSES)
        else:
            first = labels is not None and channels_first(values.shape[1:], np.shape(labels[0]))
            found = dataclasses.replace(self, channels_first=first)
            scores = found._scores(name, values)
            width = scores.shape[-1]
            kind = self.scores or (scores_kind(scores.reshape(-1, 1)) if width == 1 else None)
            found = dataclasses.replace(found, scores=kind, classes=max(width, 2))
        if labels is not None and self.ignore_index is None and found.classes == 2:
            _refuse_black_and_white(labels)
        return found

    @property
    def ignored(self) -> int | None:
        """The label of pixels that do not count, or None if all do."""
        if self.ignore_index is None:
            return IGNORE_INDEX if self.maps or self.classes <= IGNORE_INDEX else None
        return self.ignore_index

    def facts(self) -> dict[str, Any]:
        binary = not self.maps and self.classes == 2
        return {"scores": self.scores if binary else None, "ignore_index": self.ignored}

    def probed(self, probe: str) -> bool:
        return probe != "shift"  # The answers shift with the input, as they should.

    def check(self, outputs: Outputs, labels: Labels, start: int = 0) -> np.ndarray | None:
        """As `Task.check`.

        Args:
          outputs, start: as there.
          labels: class maps, each [height, width] or [height, width, 1] of whole numbers, or
            one-hot [height, width, classes]; of one size or several.

        Returns:
          Class numbers, int32 [n, height, width], -1 where a pixel does not count; an object array
          [n] of such maps where sizes differ.
        """
        name, values = only(outputs, "Segmentation")
        if self.maps:
            self._check_maps(name, values, start)
        else:
            scores = self._scores(name, values)
            if scores.shape[-1] == 1 and self.scores == "probabilities":
                check_probabilities(scores.reshape(len(scores), -1), name, start)
        if labels is None:
            return None
        if len(labels) != len(values):
            raise DataError(f"{len(values)} samples need {len(values)} labels, not {len(labels)}.")
        found = [self._label(np.asarray(label), start + i) for i, label in enumerate(labels)]
        size = values.shape[1:3]
        for i, label in enumerate(found):
            if self.maps and label.shape != size:
                raise DataError(
                    f"The label of sample {start + i} has the size {list(label.shape)}, and the "
                    f"output {name!r} is class numbers of size {list(size)}, which cannot be "
                    "resized. Give labels of that size, or a model that returns scores."
                )
        return _stacked(found)

    def read(self, outputs: Outputs, labels: np.ndarray | None) -> Outputs:
        """The answers: int32 class maps of the labels' sizes, in the form of `check`'s labels."""
        name, values = only(outputs, "Segmentation")
        if self.maps:
            return {name: values.reshape(values.shape[:3]).astype(np.int32)}
        scores = self._scores(name, values)
        sizes = [scores.shape[1:3]] * len(scores) if labels is None else [v.shape for v in labels]
        threshold = 0.5 if self.scores == "probabilities" else 0.0
        return {
            name: _stacked(
                [_answers(resized(s, z), threshold) for s, z in zip(scores, sizes, strict=True)]
            )
        }

    def flipped(self, before: Outputs, after: Outputs) -> np.ndarray:
        ((_, old),) = self.read(before, None).items()
        ((_, new),) = self.read(after, None).items()
        return np.asarray((old != new).mean(axis=(1, 2)))

    def _scores(self, name: str, values: np.ndarray) -> np.ndarray:
        """The output as scores [n, height, width, classes or 1]."""
        if values.ndim == 4 and self.channels_first:
            return np.moveaxis(values, 1, -1)
        if values.ndim not in (3, 4) or not values.size or values.dtype.kind not in "iuf":
            raise UsageError(
                "Segmentation needs an output of shape [height, width, classes], or of class "
                f"numbers [height, width], for each sample; the output {name!r} has "
                f"{list(values.shape[1:])}. Choose another task or output."
            )
        return values if values.ndim == 4 else values[..., np.newaxis]

    def _check_maps(self, name: str, values: np.ndarray, start: int) -> None:
        if values.dtype.kind not in "iu" or self._scores(name, values).shape[-1] != 1:
            raise UsageError(
                f"The output {name!r} is read as class numbers, by the reference's, and has the "
                f"shape {list(values.shape[1:])} and type {values.dtype}. Compare models that "
                "were made from the same one."
            )
        wrong = ((values < 0) | (values >= MOST_CLASSES)).reshape(len(values), -1)
        if wrong.any():
            at = int(wrong.any(axis=1).argmax())
            raise DataError(
                f"The output {name!r} is read as class numbers, which are 0 to {MOST_CLASSES - 1}, "
                f"and has {values[at].reshape(-1)[wrong[at]][0]} in sample {start + at}. Choose "
                "another task, or a model that returns scores."
            )

    def _label(self, label: np.ndarray, number: int) -> np.ndarray:
        """One label as a class map, int32 [height, width]."""
        if label.dtype.kind not in "iubf":
            raise DataError(f"Labels of segmentation are numbers. Received: {label.dtype}.")
        rows = label.reshape(-1, label.shape[-1]) if label.ndim == 3 else label
        if label.ndim == 3 and label.shape[-1] == self.classes and one_hot(rows):
            label = label.argmax(axis=-1)
        if label.ndim == 3 and label.shape[-1] == 1:
            label = label[..., 0]
        if label.ndim != 2 or not label.size:
            raise DataError(
                "A label of segmentation is a class map [height, width]. "
                f"Received: shape {list(label.shape)}, for sample {number}."
            )
        counted = np.ones(label.shape, bool) if self.ignored is None else label != self.ignored
        wrong = counted & ~((label >= 0) & (label < self.classes))  # A NaN too.
        if label.dtype.kind == "f":
            wrong |= counted & (label != np.floor(label))
        if wrong.any():
            raise self._wrong_label(label, wrong, number)
        return np.where(counted, label.astype(np.int32), _IGNORED)

    def _wrong_label(self, label: np.ndarray, wrong: np.ndarray, number: int) -> DataError:
        row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
        value = label[row, column]
        ignored = "" if self.ignored is None else f", and {self.ignored} for pixels to ignore"
        where = "class numbers of a model are" if self.maps else "the output's classes are"
        way = "Labels are whole numbers."
        if np.isfinite(value) and value == np.floor(value):
            way = (
                f"If {int(value)} marks pixels that do not count, say so with "
                f"--ignore_index={int(value)}; else the labels are of other classes."
            )
        return DataError(
            f"The label of sample {number} is {value} at row {row}, column {column}; {where} 0 to "
            f"{self.classes - 1}{ignored}. {way}"
        )

    def _build(self, name: str) -> Metric:
        if name == "agreement":
            return PixelMetric(
                name=name,
                title="pixels with the reference's answer",
                needs_labels=False,
                counts=("same", "pixels"),
                function=agreement,
                classes=self.classes,
            )
        title, function = _METRICS[name]
        return PixelMetric(name=name, title=title, function=function, classes=self.classes)


def channels_first(shape: tuple[int, ...], label: tuple[int, ...]) -> bool:
    """Whether an output's channels come first: labels [height, width] have its last two sizes."""
    size = label[:2]
    return len(shape) == 3 and shape[:2] != size and shape[1:] == size


def _answers(scores: np.ndarray, threshold: float) -> np.ndarray:
    """The class of each pixel of scores [height, width, classes or 1]; -1 where one is NaN."""
    if scores.shape[-1] == 1:
        found = (scores[..., 0] > threshold).astype(np.int32)
    else:
        found = scores.argmax(axis=-1).astype(np.int32)
    # argmax finds a NaN, and the greatest is one if any is.
    found[np.isnan(scores.max(axis=-1))] = _IGNORED
    return found


def _stacked(maps: list[np.ndarray]) -> np.ndarray:
    """Maps as one array, an object array where sizes differ."""
    if len({m.shape for m in maps}) == 1:
        return np.stack(maps)
    found = np.empty(len(maps), object)
    found[:] = maps
    return found


def _refuse_black_and_white(labels: Any) -> None:
    """Masks of 0 and 255 mean either that 255 is the class, or that it is to be ignored.

    Raises:
      DataError: all labels are 0 or 255, and both occur.
    """
    values = functools.reduce(np.union1d, (np.unique(label) for label in labels))
    if values.tolist() == [0, IGNORE_INDEX]:
        raise DataError(
            "The labels are 0 and 255, and the model has two classes. If 255 is class 1, divide "
            "the labels by 255; if it marks pixels that do not count, say --ignore_index=255. For "
            "images, which are no classes, choose the task image."
        )
