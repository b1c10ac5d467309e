"""Top-1 accuracy of the float and the quantized model on the labelled samples of a run."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tfq.data import Sample
from tfq.data.fit import bind_labels
from tfq.graph.boundary import own_grid
from tfq.graph.interface import ArgSpec
from tfq.graph.model import Model, Tensor
from tfq.graph.numerics import dequantize
from tfq.observe.loop import observe
from tfq.observe.observer import FLOAT, INTEGER, Observer, Read


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Attributes:
    samples: how many labels were compared.
    float_top1, top1: share of right answers of the float and of the emitted model.
    agreement: share of samples on which both give the same answer.
    output: the name of the output, where there are several; else None.
    """

    samples: int
    float_top1: float
    top1: float
    agreement: float
    output: str | None = None


def measure_accuracy(
    float_bytes: bytes,
    emitted: bytes,
    samples: Iterable[tuple[Mapping[str, np.ndarray], Sample]],
    outputs: Sequence[ArgSpec],
    *,
    batched: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Accuracy | None:
    """Runs both models on every labelled sample.

    Args:
      float_bytes, emitted: the models.
      samples: inputs by tensor name, and the sample that they are of.
      outputs: the names that labels by output go by.
      batched: whether the leading dimension of inputs counts samples.
      progress: called with the number of runs done.

    Returns:
      None when labels and outputs are not those of a classifier: an output of shape
      [batch, classes] (or [batch, 1] with labels 0 and 1), without a batch also [classes], and
      one class number per sample. It is the model's only output, or the only such one among
      those with labels of their own, which the first sample shows.

    Raises:
      DataError: there are labels for what is no output.
    """
    stream = iter(samples)
    first = next(stream, None)
    if first is None:
        return None
    tensors = Model.from_bytes(emitted).main.outputs
    target = _find_target(tensors, first[1], outputs, batched)
    if target is None:
        return None
    answers = _Answers(target, next(t for t in tensors if t.name == target.tensor))
    observe(
        {FLOAT: float_bytes, INTEGER: emitted},
        answers.labelled(itertools.chain([first], stream)),
        [answers],
        progress=progress,
    )
    if answers.lacking or not answers.count:
        return None
    float_right, right, same = (int(n) / answers.count for n in answers.equal)
    output = target.output if len(outputs) > 1 else None
    return Accuracy(answers.count, float_right, right, same, output)


class _Answers(Observer):
    """Counts right and equal answers.

    Attributes:
      count: labels so far.
      equal: how often the float model, the other, and both gave the label, or the same answer.
      lacking: whether a sample had no labels.
    """

    def __init__(self, target: _Target, tensor: Tensor):
        self.tensors = (Read(target.tensor), Read(target.tensor, INTEGER))
        self._target = target
        self._grid = own_grid(tensor)
        self._labels = np.empty(0, np.int64)
        self._real = 0
        self.count, self.equal, self.lacking = 0, np.zeros(3, np.int64), False

    def labelled(
        self, samples: Iterable[tuple[Mapping[str, np.ndarray], Sample]]
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """The inputs, until a sample has no labels; those of the latest are kept."""
        for inputs, sample in samples:
            labels = self._target.labels(sample)
            if labels is None:
                self.lacking = True
                return
            self._labels, self._real = labels, sample.real
            yield inputs

    def update(self, number: int, values: Sequence[np.ndarray]) -> None:
        want, got = values
        got = got if self._grid is None else dequantize(got, self._grid)
        expected, answer = (
            _answer(v.reshape(self._target.shape))[: self._real] for v in (want, got)
        )
        pairs = (expected, self._labels), (answer, self._labels), (answer, expected)
        self.equal += [np.count_nonzero(a == b) for a, b in pairs]
        self.count += self._labels.size


@dataclasses.dataclass(frozen=True)
class _Target:
    """The output that is measured: its name and tensor's, shape [batch, classes], labels' field."""

    output: str
    tensor: str
    shape: tuple[int, int]
    field: str | None

    def labels(self, sample: Sample) -> np.ndarray | None:
        """Class numbers [real]; None where the sample's label is something else."""
        label = sample.label
        if label is None or self.field not in (label.dtype.names or (None,)):
            return None
        labels = np.asarray(label if self.field is None else label[self.field]).reshape(-1)
        if labels.size != sample.real or labels.dtype.kind not in "iub":
            return None
        if labels.size and (labels.min() < 0 or labels.max() >= max(self.shape[1], 2)):
            return None
        return labels


def _find_target(
    tensors: Sequence[Tensor], sample: Sample, outputs: Sequence[ArgSpec], batched: bool
) -> _Target | None:
    fields = None if sample.label is None else sample.label.dtype.names
    of = bind_labels(fields, outputs, "the model") if fields else {}
    shapes = {t.name: t.shape for t in tensors}
    found = []
    for spec in outputs:
        shape = shapes[spec.tensor_name]
        if not batched and (len(shape) < 2 or shape[0] != 1):
            shape = (1, *shape)
        if len(shape) != 2 or (fields and spec.name not in of) or (not fields and len(outputs) > 1):
            continue
        target = _Target(spec.name, spec.tensor_name, shape, of.get(spec.name))
        if target.labels(sample) is not None:
            found.append(target)
    return found[0] if len(found) == 1 else None


def _answer(output: np.ndarray) -> np.ndarray:
    if output.shape[-1] == 1:
        # A single sigmoid, or a single logit.
        flat = output.reshape(-1)
        return (flat > (0.5 if flat.min() >= 0 and flat.max() <= 1 else 0.0)).astype(np.int64)
    return np.asarray(output.argmax(axis=-1))
