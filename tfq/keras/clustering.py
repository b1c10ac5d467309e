"""Weight clustering: each kernel holds a few distinct values, which are trained.

The weights of a cluster share one value, its centroid. After every optimizer step each cluster's
weights are set to their mean. They were equal before the step, so with plain gradient descent at
rate r the centroid moves by -r times the mean of its members' gradients: the mean is the projection
of the step onto models whose weights are shared (Han et al., "Deep Compression", 2016, use the sum,
which differs in the learning rate alone). With an optimizer that scales each weight's step (Adam),
the mean is over those steps. Weights stay in the cluster they are in.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfq.errors import UsageError, unknown_option
from tfq.keras.pruning.kernels import Kernel, find_kernels, select

INITIALIZATIONS = ("density", "linear", "kmeans++")
_ITERATIONS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class _Recipe:
    """How one kernel is clustered, once training begins.

    Attributes:
      centers_of: (values, whether zeros are apart) -> ascending centroids.
    """

    kernel: Kernel
    centers_of: Callable[[np.ndarray, bool], np.ndarray]
    per_channel: bool
    preserve_sparsity: bool


@dataclasses.dataclass(frozen=True, eq=False)
class _Clustered:
    """A variable and the cluster of each of its weights.

    Attributes:
      assignment: int32, the variable's shape: an index into `start`.
      held: bool [clusters of all channels]: the centroid does not move (0, of zeros to preserve).
      start: float32, the same shape: the centroids at the start.
    """

    variable: Any
    assignment: np.ndarray
    held: np.ndarray
    start: np.ndarray


def cluster(
    model: keras.Model,
    clusters: int = 16,
    initialization: str = "density",
    *,
    per_channel: bool = False,
    preserve_sparsity: bool = False,
    rules: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> Clustering:
    """Prepares clustering of a float or quantized model, as a callback for `fit`.

    ``model.fit(..., callbacks=[tfq.keras.cluster(model, 16)])``; in a loop of your own call
    `begin()` before the first step and `step()` after each.

    Args:
      model: a built Keras 3 model; its class, layers and variables stay the same objects.
      clusters: distinct values in each kernel at most, 2 or more.
      initialization: where the search for centroids starts: "density" (quantiles of the weights),
        "linear" (evenly from the smallest to the largest weight) or "kmeans++" (Arthur and
        Vassilvitskii, 2007). Lloyd's algorithm then goes on from there.
      per_channel: `clusters` values for each output channel instead of for the kernel.
      preserve_sparsity: weights that are zero stay zero; zero is one of the values.
      rules: dicts of "regex", searched in layer names, and "clusters" (0 leaves a layer alone).
      seed: of "kmeans++".

    Raises:
      UsageError: an argument is wrong, a rule matches nothing, or two contradict each other.
    """
    _check_clusters(clusters)
    if initialization not in INITIALIZATIONS:
        raise unknown_option("initialization", initialization, INITIALIZATIONS)
    found = []
    for kernel, choice in select(model, rules, ("clusters",)):
        count = choice.get("clusters", clusters)
        if count == 0:
            continue
        _check_clusters(count)
        centers = functools.partial(_centers, count, initialization, seed)
        found.append(_Recipe(kernel, centers, per_channel, preserve_sparsity))
    return Clustering(model, found)


def keep_clusters(
    model: keras.Model, *, clusters: int = 256, per_channel: bool = False
) -> Clustering:
    """A callback under which weights that are equal now stay equal; their shared values train.

    For quantization-aware training of a clustered model:
    ``keep_clusters(tfq.keras.quantize(clustered, ...))``. With one scale for a kernel it is left
    with at most as many distinct integers as clusters; with a scale per channel, each channel is.
    Zeros stay zeros.

    Args:
      model: a built Keras 3 model, float or quantized.
      clusters: kernels (or channels) with more distinct values than that are not clustered, and
        train freely.
      per_channel: values were clustered for each output channel.

    Raises:
      UsageError: no kernel has so few distinct values.
    """
    _check_clusters(clusters)
    found = []
    for kernel in find_kernels(model):
        groups = _groups(kernel, per_channel)
        distinct = max(len(np.unique(g)) for g in groups)
        if distinct <= clusters and distinct < groups[0].size:
            found.append(_Recipe(kernel, lambda w, _: np.unique(w), per_channel, True))
    if not found:
        raise UsageError(
            f"No kernel of the model {model.name!r} has at most {clusters} distinct values, so "
            "there are no clusters to keep. Cluster it first: tfq.keras.cluster(model, clusters)."
        )
    return Clustering(model, found)


class Clustering(keras.callbacks.Callback):
    """Keeps the weights of each cluster equal: to the mean of what the step made of them.

    Made by `cluster` and `keep_clusters`. Works when training begins, after every batch (with
    ``steps_per_execution=N`` after every N steps) and when it ends.
    """

    def __init__(self, model: keras.Model, recipes: Sequence[_Recipe]) -> None:
        super().__init__()
        self._target = model
        self._recipes = tuple(recipes)
        self._clustered: list[_Clustered] = []
        self._apply: Callable[[], None] | None = None

    def begin(self) -> None:
        """Finds the clusters and sets each weight to its centroid; `fit` does it by itself.

        Nothing happens the second time.
        """
        if self._apply is None:
            self._clustered = [_clustered(r) for r in self._recipes]
            for item in self._clustered:
                item.variable.assign(item.start[item.assignment])
            self._apply = _applier(self._clustered, self._target)

    def step(self) -> None:
        """Call it after each optimizer step, outside of any tf.function."""
        if self._apply is None:
            self.begin()
        elif self._clustered:
            self._apply()

    def distinct(self) -> dict[str, int]:
        """The number of distinct values in each clustered kernel, as it is now, by layer name."""
        return {r.kernel.name: len(np.unique(r.kernel.values())) for r in self._recipes}

    def on_train_begin(self, logs: dict | None = None) -> None:
        trained = {id(v) for v in self.model.variables}
        if not any(id(r.kernel.variable) in trained for r in self._recipes):
            raise UsageError(
                f"This callback was made for the model {self._target.name!r}, none of whose "
                f"weights are in {self.model.name!r}, which is trained. Call cluster on that."
            )
        self.begin()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.step()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.step()


def kmeans(
    w: np.ndarray, clusters: int, initialization: str, rng: np.random.Generator
) -> np.ndarray:
    """Lloyd's algorithm in one dimension.

    On sorted values a cluster is an interval, whose sum is a difference of two prefix sums: each of
    at most 100 iterations costs clusters * log(n) after sorting.

    Args:
      w: values, any shape.
      clusters: how many centroids at most; of fewer distinct values, those.
      initialization: one of INITIALIZATIONS.
      rng: draws for "kmeans++".

    Returns:
      The centroids, float64, ascending.
    """
    x = np.sort(w.ravel().astype(np.float64))
    distinct = np.unique(x)
    if len(distinct) <= clusters:
        return distinct
    centers = _initial(x, clusters, initialization, rng)
    sums = np.concatenate([[0.0], np.cumsum(x)])
    for _ in range(_ITERATIONS):
        bounds = np.searchsorted(x, (centers[1:] + centers[:-1]) / 2, side="right")
        edges = np.concatenate([[0], bounds, [len(x)]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        moved = np.sort(np.where(counts > 0, means, centers))
        if np.array_equal(moved, centers):
            break
        centers = moved
    return np.unique(centers)


def nearest(values: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """The index of the nearest of ascending `centers`, of equally near ones the lower."""
    return np.searchsorted((centers[1:] + centers[:-1]) / 2, values, side="left")


def _initial(
    x: np.ndarray, clusters: int, initialization: str, rng: np.random.Generator
) -> np.ndarray:
    if initialization == "linear":
        return np.linspace(x[0], x[-1], clusters)
    if initialization == "density":
        return np.quantile(x, (np.arange(clusters) + 0.5) / clusters)
    centers = [x[rng.integers(len(x))]]
    square = (x - centers[0]) ** 2
    while len(centers) < clusters:
        # A value is drawn in proportion to its squared distance from the centers so far.
        centers.append(x[rng.choice(len(x), p=square / square.sum())])
        square = np.minimum(square, (x - centers[-1]) ** 2)
    return np.sort(np.array(centers))


def _groups(kernel: Kernel, per_channel: bool) -> np.ndarray:
    """The sets of weights that share values: [sets, positions, inputs(, outputs)]."""
    matrix = kernel.matrix(kernel.values())
    return np.moveaxis(matrix, 2, 0) if per_channel else matrix[None]


def _centers(
    clusters: int, initialization: str, seed: int, w: np.ndarray, zero_apart: bool
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return kmeans(w, clusters - int(zero_apart), initialization, rng)


def _clustered(recipe: _Recipe) -> _Clustered:
    kernel, per_channel = recipe.kernel, recipe.per_channel
    groups = _groups(kernel, per_channel)
    indices, centers, zeros = [], [], []
    total = 0
    for group in groups:
        index, found, zero = _assigned(group, recipe.centers_of, recipe.preserve_sparsity)
        indices.append(index + total)
        centers.append(found)
        zeros += [total] if zero else []
        total += len(found)
    index = np.moveaxis(np.stack(indices), 0, 2) if per_channel else indices[0]
    held = np.zeros(total, bool)
    held[zeros] = True
    assignment = np.ascontiguousarray(kernel.restore(index).astype(np.int32))
    start = np.concatenate(centers).astype(np.float32)
    return _Clustered(kernel.variable, assignment, held, start)


def _assigned(
    group: np.ndarray,
    centers_of: Callable[[np.ndarray, bool], np.ndarray],
    preserve_sparsity: bool,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Index of each value's centroid, the centroids, and whether the first is the zeros' own."""
    zero = group == 0
    if not preserve_sparsity or not zero.any():
        centers = centers_of(group, False)
        return nearest(group, centers), centers, False
    index = np.zeros(group.shape, np.int64)
    if zero.all():
        return index, np.zeros(1), True
    centers = centers_of(group[~zero], True)
    index[~zero] = nearest(group[~zero], centers) + 1
    return index, np.concatenate([[0.0], centers]), True


def _applier(clustered: Sequence[_Clustered], model: keras.Model) -> Callable[[], None]:
    """A function that sets each weight to the mean of its cluster."""
    state = []
    for item in clustered:
        counts = np.bincount(item.assignment.ravel(), minlength=len(item.start))
        state.append(
            (
                item.variable,
                tf.constant(item.assignment),
                tf.constant(np.maximum(counts, 1).astype(np.float32)),
                tf.constant(item.held),
                tf.Variable(item.start, trainable=False),
            )
        )

    def apply() -> None:
        for variable, assignment, counts, held, centers in state:
            value = tf.cast(tf.convert_to_tensor(variable.value), tf.float32)
            # A sum of many equal floats drifts; a sum of differences from the centroid does not.
            moved = tf.reshape(value - tf.gather(centers, assignment), [-1])
            sums = tf.math.unsorted_segment_sum(
                moved, tf.reshape(assignment, [-1]), counts.shape[0]
            )
            centers.assign_add(tf.where(held, tf.zeros_like(sums), sums / counts))
            variable.assign(tf.gather(centers, assignment))

    # A replicated variable is assigned from outside of the replicas, which needs eager mode.
    if model.distribute_strategy.num_replicas_in_sync > 1:
        return apply
    compiled: Callable[[], None] = tf.function(apply)
    return compiled


def _check_clusters(clusters: object) -> None:
    if isinstance(clusters, bool) or not isinstance(clusters, int) or clusters < 2:
        raise UsageError(f"clusters is a whole number from 2 on. Received: {clusters!r}.")
