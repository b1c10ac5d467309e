"""Embeddings: a vector a sample, whose direction matters.

Cosine compares a model's vector with the reference's for the same sample. Recall@1 is retrieval
within the set: the share of samples whose nearest other sample by cosine has the same label.
Samples without another of their label cannot be found, and are not asked for.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfq.errors import UsageError
from tfq.evaluate.metrics.classification import class_numbers
from tfq.evaluate.metrics.core import (
    Better,
    Kept,
    Labels,
    Metric,
    Outputs,
    SampleMetric,
    Task,
    UndefinedError,
    array_of,
    only,
    require_labels,
    require_numbers,
)
from tfq.evaluate.metrics.libraries import library


def vectors(outputs: Outputs) -> np.ndarray:
    """The embeddings, float64 [n, values]."""
    _, values = only(outputs, "An embedding")
    return np.asarray(values, np.float64).reshape(len(values), -1)


def cosine(outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None) -> np.ndarray:
    """Cosine to the reference's vector, [n]; 1 of two zero vectors, 0 of one."""
    if reference is None:
        raise ValueError("The cosine needs the reference's outputs.")
    a, b = vectors(outputs), vectors(reference)
    with np.errstate(invalid="ignore"):  # Infinite values: NaN, which is reported.
        norms = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
        found = np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms != 0)
    return np.where((a == b).all(axis=1), 1.0, np.clip(found, -1, 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recall(Metric):
    """Keeps the embeddings as float32 and 8 bytes for the label.

    Neighbors are searched once, by blocks of distances; what is resampled is whether each sample's
    was right, never the embeddings. Memory: the embeddings once more, normalized, and 64 MB.
    """

    name: str = "recall1"
    title: str = "recall@1"
    unit: str = "%"
    better: Better = "higher"
    hits: bool = True
    bounds: tuple[float, float] = (0, 100)

    def keep(
        self, outputs: Outputs, labels: np.ndarray | None, reference: Outputs | None = None
    ) -> dict[str, np.ndarray]:
        found = vectors(outputs).astype(np.float32)
        return {"vector": found, "label": require_labels(labels, len(found), self.title)}

    def compute(self, kept: Kept) -> float:
        return float(np.mean(self.values(kept)))

    def values(self, kept: Kept) -> np.ndarray:
        found, labels = kept["vector"], kept["label"]
        require_numbers(found)
        _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
        asked = counts[place] > 1
        if not asked.any():
            raise UndefinedError("No two samples have the same label: there is nothing to find.")
        neighbors = library("sklearn.neighbors", self.title)
        with library("sklearn", self.title).config_context(working_memory=64):
            index = neighbors.NearestNeighbors(n_neighbors=2, metric="cosine").fit(found)
            near = index.kneighbors(found, return_distance=False)
        # A sample is its own nearest, but for others that are equal to it.
        other = np.where(near[:, 0] == np.arange(len(found)), near[:, 1], near[:, 0])
        return np.asarray(100.0 * (labels[other] == labels)[asked])


@dataclasses.dataclass(frozen=True)
class Embedding(Task):
    @property
    def name(self) -> str:
        return "embedding"

    @property
    def all_metrics(self) -> tuple[str, ...]:
        return ("cosine", "recall1")

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("cosine", "recall1")

    def check(self, outputs: Outputs, labels: Labels, start: int = 0) -> np.ndarray | None:
        """As `Task.check`; labels are whole numbers [n], of any size.

        Returns:
          int64 [n].
        """
        name, values = only(outputs, "An embedding")
        if values[:1].size < 2:
            raise UsageError(
                f"An embedding needs an output of several values for each sample; the output "
                f"{name!r} has {list(values.shape[1:])}. Choose another task or output."
            )
        if labels is None:
            return None
        return class_numbers(array_of(labels, len(values), start, self.name), 0, start)

    def _build(self, name: str) -> Metric:
        if name == "recall1":
            return Recall()
        return SampleMetric(
            name="cosine",
            title="cosine to the reference",
            unit="",
            better="higher",
            needs_labels=False,
            bounds=(-1, 1),
            function=cosine,
        )
