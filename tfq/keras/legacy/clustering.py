"""Weight clustering of a tf_keras model as a callback, as `tfq.keras.cluster` does it for Keras 3.

tensorflow-model-optimization's `cluster_weights` is not used: it takes the kernels out of the given
model's layers, which then cannot be called. Here the weights of a cluster are set to their mean
after every step: they were equal before it, so their centroid takes the mean of their steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import UsageError, unknown_option
from tfq.keras.clustering import INITIALIZATIONS, kmeans, nearest
from tfq.keras.legacy.backend import tf_keras
from tfq.keras.legacy.kernels import select, values
from tfq.keras.pruning.kernels import Kernel


@dataclasses.dataclass(eq=False)
class _Clustered:
    """A kernel, the cluster of each of its weights, and the centroids as they are now.

    Attributes:
      held: clusters whose value stays: zeros to preserve.
    """

    kernel: Kernel
    assignment: np.ndarray
    centers: np.ndarray
    held: np.ndarray


def cluster(
    model: Any,
    clusters: int = 16,
    initialization: str = "density",
    *,
    per_channel: bool = False,
    preserve_sparsity: bool = False,
    rules: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> Clustering:
    """Prepares clustering of a float or quantized tf_keras model, as a callback for `fit`.

    Args:
      model: built; its layers and variables stay the same objects.
      clusters: distinct values in each kernel at most, 2 or more.
      initialization: where Lloyd's algorithm starts: "density", "linear" or "kmeans++".
      per_channel: `clusters` values for each output channel instead of for the kernel.
      preserve_sparsity: weights that are zero stay zero; zero is one of the values.
      rules: dicts of "regex", searched in layer names, and "clusters" (0 leaves a layer alone).
      seed: of "kmeans++".

    Raises:
      UsageError: an argument is wrong, a rule matches nothing, or two contradict each other.
    """
    if initialization not in INITIALIZATIONS:
        raise unknown_option("initialization", initialization, INITIALIZATIONS)
    chosen = []
    for kernel, choice in select(model, rules, ("clusters",)):
        count = choice.get("clusters", clusters)
        if count == 0:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or count < 2:
            raise UsageError(f"clusters is a whole number from 2 on. Received: {count!r}.")
        rng = np.random.default_rng(seed)
        chosen.append(
            _clustered(kernel, count, initialization, rng, per_channel, preserve_sparsity)
        )
    return Clustering(model, chosen)


def _clustered(
    kernel: Kernel,
    count: int,
    initialization: str,
    rng: np.random.Generator,
    per_channel: bool,
    preserve_sparsity: bool,
) -> _Clustered:
    matrix = kernel.matrix(values(kernel.variable))
    groups = np.moveaxis(matrix, 2, 0) if per_channel else matrix[None]
    indices: list[np.ndarray] = []
    centers: list[np.ndarray] = []
    held: list[bool] = []
    for group in groups:
        first = len(held)
        apart = group == 0 if preserve_sparsity else np.zeros(group.shape, bool)
        index = np.full(group.shape, first)
        if apart.any():
            centers.append(np.zeros(1))
            held.append(True)
        if not apart.all():
            found = kmeans(group[~apart], count - int(apart.any()), initialization, rng)
            index[~apart] = nearest(group[~apart], found) + len(held)
            centers.append(found)
            held += [False] * len(found)
        indices.append(index)
    index = np.moveaxis(np.stack(indices), 0, 2) if per_channel else indices[0]
    return _Clustered(kernel, kernel.restore(index), np.concatenate(centers), np.array(held))


class Clustering(tf_keras.callbacks.Callback):
    """Keeps the weights of each cluster equal: to the mean of what the step made of them."""

    def __init__(self, model: Any, clustered: Sequence[_Clustered]) -> None:
        super().__init__()
        self._target = model
        self._clustered = list(clustered)
        self._begun = False

    def begin(self) -> None:
        """Sets each weight to its centroid. `fit` does it; nothing happens the second time."""
        if not self._begun:
            self._begun = True
            self._assign()

    def step(self) -> None:
        """Call it after each optimizer step, outside of any tf.function."""
        if not self._begun:
            self.begin()
            return
        for item in self._clustered:
            index, size = item.assignment.ravel(), len(item.centers)
            # A sum of differences from the centroid does not drift, one of many equal floats does.
            start = item.centers.astype(np.float32).astype(np.float64)
            moved = values(item.kernel.variable).ravel() - start[index]
            means = np.bincount(index, moved, size) / np.maximum(np.bincount(index, None, size), 1)
            item.centers = start + np.where(item.held, 0, means)
        self._assign()

    def distinct(self) -> dict[str, int]:
        """The number of distinct values in each clustered kernel as it is now, by layer name."""
        return {c.kernel.name: len(np.unique(values(c.kernel.variable))) for c in self._clustered}

    def _assign(self) -> None:
        for item in self._clustered:
            item.kernel.variable.assign(item.centers.astype(np.float32)[item.assignment])

    def on_train_begin(self, logs: dict | None = None) -> None:
        trained = {id(v) for v in self.model.variables}
        if not any(id(c.kernel.variable.variable) in trained for c in self._clustered):
            raise UsageError(
                f"This callback was made for the model {self._target.name!r}, none of whose "
                f"weights are in {self.model.name!r}, which is trained. Call cluster on that."
            )
        self.begin()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.step()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.step()
