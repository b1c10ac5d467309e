"""The one loop over samples: models run side by side, and observers look at their tensors.

Memory does not depend on the number of samples, but on what observers keep: tensors are read in
place, in the interpreters' own memory.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import DataError, ModelError, UsageError
from tfq.executors import Shard, Workers
from tfq.observe.observer import FLOAT, Observer, Read
from tfq.observe.side import Extremes, Inputs, Side

# Samples that a worker gets at once: enough to pay for sending back what observers saw.
_BLOCK_BYTES = 16 << 20
_BLOCK_SAMPLES = 64


def observe(
    models: bytes | Mapping[str, bytes],
    samples: Iterable[Inputs],
    observers: Sequence[Observer],
    *,
    threads: int | None = None,
    workers: Workers | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Runs every sample through every model, and shows observers what the tensors hold.

    Args:
      models: `.tflite` bytes by the name that `Read` calls them; bytes alone are the "float" one.
        All have the same inputs by name; float values are put on the grids of quantized ones.
      samples: input tensor name -> values of the tensor's exact shape; read once. Variable tensors
        start from their initial values for each sample; what the source itself keeps in variables
        (VAR_HANDLE) goes on from one sample to the next.
      observers: which are filled, in place.
      threads: CPU threads of each interpreter; None for the default of `Runner`.
      workers: where to run, if not in this process alone; what observers hold afterwards is the
        same to the bit. Not used where state goes on from sample to sample.
      progress: called with the number of samples run so far.

    Returns:
      How many samples there were.

    Raises:
      DataError: a sample does not fit, or an observer refuses a tensor's values; with the names.
      ModelError: a model cannot run, or a tensor of it cannot be read.
      UsageError: an observer reads a tensor or a model that there is not, or has no `merge` and is
        to be shared out.
    """
    given = {FLOAT: models} if isinstance(models, bytes) else dict(models)
    work = _Work(given, list(observers))
    work.start(threads)
    done = progress or (lambda count: None)
    count = 0
    if workers is None or workers.count == 1 or work.keeps_state:
        blocks = _Blocks()
        for sample in samples:
            if blocks.begins(sample):
                for observer in observers:
                    observer.begin(count)
            work.add(sample, count, observers)
            count += 1
            done(count)
        return count
    for observer in observers:
        if not observer.is_mergeable:
            raise UsageError(
                f"{type(observer).__name__} has to see all samples in their order, so they cannot "
                "be shared out. Leave out `workers`."
            )
    work = _Work(given, copy.deepcopy(work.observers))
    for size, parts in workers.map(work, _shards(samples)):
        for observer, part in zip(observers, parts, strict=True):
            observer.merge(part)
        count += size
        done(count)
    return count


class _Blocks:
    """Where a block of samples begins: the samples alone decide."""

    def __init__(self) -> None:
        self._count = self._bytes = 0

    def begins(self, sample: Inputs) -> bool:
        """Whether one begins with this sample, the next of all."""
        full = self._bytes >= _BLOCK_BYTES or self._count == _BLOCK_SAMPLES
        begins = full or not self._count
        if begins:
            self._count = self._bytes = 0
        self._count += 1
        self._bytes += sum(v.nbytes for v in sample.values())
        return begins


def _shards(samples: Iterable[Inputs]) -> Iterator[Shard]:
    blocks, group, start, number = _Blocks(), list[Inputs](), 0, 0
    for sample in samples:
        if blocks.begins(sample) and group:
            yield _shard(number, start, group)
            start, number, group = start + len(group), number + 1, []
        group.append(sample)
    if group:
        yield _shard(number, start, group)


def _shard(number: int, start: int, group: list[Inputs]) -> Shard:
    return Shard(number, f"samples {start} to {start + len(group) - 1}", (start, group))


@dataclasses.dataclass
class _Work:
    """The models and the observers as they were before the first sample; picklable."""

    models: dict[str, bytes]
    observers: list[Observer]
    _sides: dict[str, Side] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sides": None}

    def __call__(
        self, payload: tuple[int, list[Inputs]], threads: int
    ) -> tuple[int, list[Observer]]:
        start, group = payload
        if self._sides is None:
            self.start(threads)
        observers = copy.deepcopy(self.observers)
        for observer in observers:
            observer.begin(start)
        for i, sample in enumerate(group):
            self.add(sample, start + i, observers)
        return len(group), observers

    def start(self, threads: int | None) -> None:
        """Makes the interpreters."""
        wanted: dict[str, dict[str, bool]] = {name: {} for name in self.models}
        for observer in self.observers:
            for read in observer.tensors:
                if read.model not in wanted:
                    raise UsageError(
                        f"{type(observer).__name__} reads {read.tensor!r} of a model "
                        f"{read.model!r}; there are {sorted(wanted)}."
                    )
                of = wanted[read.model]
                of[read.tensor] = of.get(read.tensor, True) and observer.extremes_only
        self._sides = {
            name: Side(
                name,
                self.models[name],
                tensors,
                in_passing=bool(tensors) and all(tensors.values()),
                threads=threads,
            )
            for name, tensors in wanted.items()
        }

    @property
    def keeps_state(self) -> bool:
        assert self._sides is not None
        return any(side.keeps_state for side in self._sides.values())

    def add(self, sample: Inputs, number: int, observers: Sequence[Observer]) -> None:
        """Runs a sample and shows it to the observers."""
        assert self._sides is not None
        for side in self._sides.values():
            side.run(sample, number)
        for observer in observers:
            self._show(observer, number)
        for side in self._sides.values():
            if (name := side.output_with_nan()) is not None:
                raise _refused(side, name, number, "holds NaN")

    def _show(self, observer: Observer, number: int) -> None:
        values = [self._read(at) for at in observer.tensors]
        try:
            if len(values) == 1 and isinstance(values[0], Extremes):
                observer.update_extremes(number, *values[0])
            else:
                shown = [np.asarray(v) for v in values if not isinstance(v, Extremes)]
                observer.update(number, shown)  # A view of a scalar is no array.
        except DataError as e:
            at = observer.tensors[0]
            assert self._sides is not None
            raise _refused(self._sides[at.model], at.tensor, number, str(e)) from None

    def _read(self, at: Read) -> np.ndarray | Extremes:
        assert self._sides is not None
        try:
            return self._sides[at.model].read(at.tensor)
        except ModelError as e:
            raise ModelError(f"Tensor {at.tensor!r} cannot be read after running: {e}") from None


def _refused(side: Side, tensor: str, number: int, problem: str) -> DataError:
    if side.is_input(tensor):
        return DataError(f"Sample {number} {problem} in input {tensor!r}. Remove or repair it.")
    return DataError(
        f"Tensor {tensor!r} {problem} when the {side.name} model runs sample {number}. Check that "
        f"sample's values and preprocessing; the {side.name} model itself fails on it."
    )
