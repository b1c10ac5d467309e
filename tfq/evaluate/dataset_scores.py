"""The blocks' scores put together, in the order of the samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from tfq.evaluate.behaviour import thinned
from tfq.evaluate.block_work import BlockResult, BlockScores, Distance, ProbeEffect
from tfq.evaluate.store import Store


@dataclasses.dataclass(frozen=True)
class OutputScores:
    """What one scorer found, of all samples.

    Attributes:
      rows: how many samples.
      probe_effects: (model's number, probe) -> what it did.
    """

    rows: int
    probe_effects: Mapping[tuple[int, str], ProbeEffect]
    _store: Store
    _number: int

    def kept(self, model: int, kept_as: str) -> dict[str, np.ndarray] | None:
        """What a metric kept of all samples of a model; None where it was not measured."""
        prefix = f"{self._number}/kept/{model}/{kept_as}/"
        keys = [k for k in self._store.names() if k.startswith(prefix)]
        return {k.removeprefix(prefix): self._store.read(k) for k in keys} or None

    def answers(self, model: int) -> np.ndarray | None:
        """A classifier's answers, int32 [n]."""
        return self._read(f"answers/{model}")

    def confidences(self, model: int) -> np.ndarray | None:
        """A classifier's confidence in its answers, float32 [n]."""
        return self._read(f"confidences/{model}")

    def labels(self) -> np.ndarray | None:
        """Class numbers, [n]."""
        return self._read("labels")

    def _read(self, key: str) -> np.ndarray | None:
        key = f"{self._number}/{key}"
        return self._store.read(key) if key in self._store.names() else None


@dataclasses.dataclass
class DatasetScores:
    """All that is known of a data set's samples.

    Attributes:
      rows: how many samples.
      distances: (model's number, output) -> distance from the reference.
    """

    rows: int
    distances: dict[tuple[int, str], Distance]
    _stirred: list[dict[tuple[int, str], ProbeEffect]]
    _store: Store
    _retained: list[tuple[int, dict[str, np.ndarray]]]

    def of(self, scorer: int) -> OutputScores:
        """What the scorer of that number found."""
        return OutputScores(self.rows, self._stirred[scorer], self._store, scorer)

    def samples(self, limit: int, seed: int, most_bytes: int) -> list[dict[str, np.ndarray]]:
        """Of the samples that were handed back about `limit`, by argument name.

        Evenly from all data; as many as fit into `most_bytes`, one at least.
        """
        even = thinned([i for i, _ in self._retained], self.rows, limit, seed)
        kept: list[dict[str, np.ndarray]] = []
        size = 0
        for _, sample in [self._retained[i] for i in even] or self._retained[:1]:
            size += sum(v.nbytes for v in sample.values())
            if kept and size > most_bytes:
                break
            kept.append(sample)
        return kept

    def close(self) -> None:
        """Removes temporary files."""
        self._store.__exit__(None, None, None)


def collect(parts: Iterable[BlockResult], progress: Callable[[int], None]) -> DatasetScores:
    """Puts parts together that come in the order of the samples."""
    scores = DatasetScores(0, {}, [], Store(), [])
    store = scores._store
    try:
        for part in parts:
            for number, scored in enumerate(part.scored):
                if number == len(scores._stirred):
                    scores._stirred.append({})
                _add(store, str(number), scored)
                for place, probe_effects in scored.probe_effects.items():
                    scores._stirred[number].setdefault(place, ProbeEffect()).add(probe_effects)
            for where, distance in part.distances.items():
                scores.distances.setdefault(where, Distance()).add(distance)
            scores._retained += part.retained
            scores.rows += part.rows
            progress(scores.rows)
    except BaseException:
        scores.close()
        raise
    return scores


def _add(store: Store, prefix: str, scored: BlockScores) -> None:
    for (model, kept_as), arrays in scored.kept.items():
        for name, rows in arrays.items():
            store.add(f"{prefix}/kept/{model}/{kept_as}/{name}", rows)
    for model, answers in scored.answers.items():
        store.add(f"{prefix}/answers/{model}", answers)
        store.add(f"{prefix}/confidences/{model}", scored.confidences[model])
    if scored.labels is not None:
        store.add(f"{prefix}/labels", scored.labels)
