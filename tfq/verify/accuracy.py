"""Top-1 accuracy of the float and the quantized model on the labelled samples of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from tfq.data import Sample
from tfq.graph.model import Model
from tfq.quantize.boundary import InputQuantizer, dequantized
from tfq.runtime import Runner


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Attributes:
    samples: how many labels were compared.
    float_top1, top1: share of right answers of the float and of the emitted model.
    agreement: share of samples on which both give the same answer.
    """

    samples: int
    float_top1: float
    top1: float
    agreement: float


def measure_accuracy(
    float_bytes: bytes,
    emitted: bytes,
    samples: Iterable[tuple[Mapping[str, np.ndarray], Sample]],
    *,
    batched: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Accuracy | None:
    """Runs both models on every labelled sample.

    Args:
      float_bytes, emitted: the models.
      samples: inputs by tensor name, and the sample that they are of.
      batched: whether the leading dimension of inputs counts samples.
      progress: called with the number of runs done.

    Returns:
      None when labels and outputs are not those of a classifier: one output of shape
      [batch, classes] (or [batch, 1] with labels 0 and 1), without a batch also [classes], and
      one class number per sample.
    """
    model = Model.from_bytes(emitted)
    if len(model.main.outputs) != 1:
        return None
    name, shape = model.main.outputs[0].name, model.main.outputs[0].shape
    if not batched and (len(shape) < 2 or shape[0] != 1):
        shape = (1, *shape)
    if len(shape) != 2:
        return None
    classes = shape[1]
    feed = InputQuantizer(model)
    reference, runner = Runner(float_bytes), Runner(emitted)
    right = float_right = same = count = 0
    for n, (inputs, sample) in enumerate(samples):
        labels = None if sample.label is None else np.asarray(sample.label).reshape(-1)
        if labels is None or labels.size != sample.real or labels.dtype.kind not in "iub":
            return None
        if labels.size and (labels.min() < 0 or labels.max() >= max(classes, 2)):
            return None
        reference.reset_state()
        runner.reset_state()
        expected = _answer(reference.run(inputs)[name].reshape(shape))[: sample.real]
        got = dequantized(model, runner.run(feed(inputs)))[name].reshape(shape)
        got = _answer(got)[: sample.real]
        float_right += int(np.sum(expected == labels))
        right += int(np.sum(got == labels))
        same += int(np.sum(got == expected))
        count += labels.size
        if progress is not None:
            progress(n + 1)
    if not count:
        return None
    return Accuracy(count, float_right / count, right / count, same / count)


def _answer(output: np.ndarray) -> np.ndarray:
    if output.shape[-1] == 1:
        # A single sigmoid, or a single logit.
        flat = output.reshape(-1)
        return (flat > (0.5 if flat.min() >= 0 and flat.max() <= 1 else 0.0)).astype(np.int64)
    return np.asarray(output.argmax(axis=-1))
