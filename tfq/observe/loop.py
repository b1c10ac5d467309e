"""The one loop over samples: models run side by side, and observers look at their tensors.

Memory does not depend on the number of samples, but on what observers keep: tensors are read in
place, in the interpreters' own memory.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from tfq.cores import threads_for
from tfq.errors import DataError, UsageError
from tfq.executors import Shard, Workers
from tfq.graph.model import Model
from tfq.observe.observer import FLOAT, Observer, Renamed
from tfq.observe.side import Extremes, Inputs, Side

# Samples that a worker gets at once: enough to pay for sending back what observers saw.
_BLOCK_BYTES = 16 << 20
_BLOCK_SAMPLES = 64


def observe(
    models: bytes | Mapping[str, bytes | Renamed],
    samples: Iterable[Inputs],
    observers: Sequence[Observer],
    *,
    restart: bool = False,
    ahead: bool = False,
    block: int | None = None,
    threads: int | None = None,
    workers: Workers | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Runs every sample through every model, and shows observers what the tensors hold.

    Args:
      models: `.tflite` bytes by the name that `Read` calls them; bytes alone are the "float" one.
        All have the same inputs by name unless `Renamed`; float values are put on the grids of
        quantized ones.
      samples: input tensor name -> values of the tensor's exact shape; read once. Variable tensors
        start from their initial values for each sample; what the source itself keeps in variables
        (VAR_HANDLE) goes on from one sample to the next.
      observers: which are filled, in place.
      restart: what the source keeps in variables starts anew, too, for each sample.
      ahead: runs the next sample while observers look at this one, in another thread and a second
        set of interpreters, where there are threads for it: for observers that take their time.
      block: how many samples workers get at once, at most; None for a number that suits most.
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
    block = block or _BLOCK_SAMPLES
    named = {FLOAT: models} if isinstance(models, bytes) else models
    given = {n: m if isinstance(m, Renamed) else Renamed(m) for n, m in named.items()}
    shared = workers is not None and workers.count > 1
    work = _Work(given, list(observers), restart, ahead and not shared)
    work.start(threads or threads_for(1))
    done = progress or (lambda count: None)
    count = 0
    if workers is None or not shared or work.keeps_state:
        for number in work.run(_numbered(samples, block), observers):
            count = number + 1
            done(count)
        return count
    for observer in observers:
        if not observer.is_mergeable:
            raise UsageError(
                f"{type(observer).__name__} has to see all samples in their order, so they cannot "
                "be shared out. Leave out `workers`."
            )
    work = _Work(given, copy.deepcopy(work.observers), restart, ahead)
    for size, parts in workers.map(work, _shards(samples, block)):
        for observer, part in zip(observers, parts, strict=True):
            observer.merge(part)
        count += size
        done(count)
    return count


class _Numbered(NamedTuple):
    number: int
    sample: Inputs
    begins: bool  # a block


def _numbered(samples: Iterable[Inputs], most: int) -> Iterator[_Numbered]:
    """Where a block of samples begins: the samples alone decide."""
    count = size = 0
    for number, sample in enumerate(samples):
        begins = not count or count == most or size >= _BLOCK_BYTES
        if begins:
            count = size = 0
        count += 1
        size += sum(v.nbytes for v in sample.values())
        yield _Numbered(number, sample, begins)


def _shards(samples: Iterable[Inputs], most: int) -> Iterator[Shard]:
    group: list[_Numbered] = []
    index = 0
    for each in _numbered(samples, most):
        if each.begins and group:
            yield _shard(index, group)
            index, group = index + 1, []
        group.append(each)
    if group:
        yield _shard(index, group)


def _shard(index: int, group: list[_Numbered]) -> Shard:
    return Shard(index, f"samples {group[0].number} to {group[-1].number}", group)


_Set = dict[str, Side]


@dataclasses.dataclass
class _Work:
    """The models and the observers as they were before the first sample; picklable."""

    models: dict[str, Renamed]
    observers: list[Observer]
    restart: bool
    ahead: bool
    _sets: list[_Set] = dataclasses.field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sets": []}

    def __call__(self, payload: list[_Numbered], threads: int) -> tuple[int, list[Observer]]:
        if not self._sets:
            self.start(threads)
        observers = copy.deepcopy(self.observers)
        return sum(1 for _ in self.run(payload, observers)), observers

    def start(self, threads: int) -> None:
        """Makes the interpreters."""
        wanted: dict[str, dict[str | int, bool]] = {name: {} for name in self.models}
        for observer in self.observers:
            for read in observer.tensors:
                if read.model not in wanted:
                    raise UsageError(
                        f"{type(observer).__name__} reads {read.tensor!r} of a model "
                        f"{read.model!r}; there are {sorted(wanted)}."
                    )
                of = wanted[read.model]
                # LiteRT tells extremes by name.
                few = observer.extremes_only and isinstance(read.tensor, str)
                of[read.tensor] = of.get(read.tensor, True) and few
        read_models = {name: Model.from_bytes(m.model) for name, m in self.models.items()}
        second = self.ahead and threads > 1
        for _ in range(1 + second):
            sides = {
                name: Side(
                    name,
                    self.models[name],
                    read_models[name],
                    tensors,
                    in_passing=bool(tensors) and all(tensors.values()),
                    restart=self.restart,
                    threads=threads - second,
                )
                for name, tensors in wanted.items()
            }
            self._sets.append(sides)
            if self.keeps_state:
                break  # A second set would have half of the state.

    @property
    def keeps_state(self) -> bool:
        return any(side.keeps_state for side in self._sets[0].values())

    def run(self, samples: Iterable[_Numbered], observers: Sequence[Observer]) -> Iterator[int]:
        """Runs samples and shows them to the observers; yields the numbers of those done."""
        looking = [o for o in observers if o.looks]
        ran = self._ran_ahead if len(self._sets) > 1 else self._ran
        for sides, at in ran(samples, looking):
            if at.begins:
                for observer in observers:
                    observer.begin(at.number)
            for observer in observers:
                _show(sides, observer, at.number, observer.update)
            for side in sides.values():
                if (name := side.output_with_nan()) is not None:
                    raise _refused(side, name, at.number, "holds NaN")
            yield at.number

    def _ran(
        self, samples: Iterable[_Numbered], looking: Sequence[Observer]
    ) -> Iterator[tuple[_Set, _Numbered]]:
        for at in samples:
            yield _run(self._sets[0], at, looking)

    def _ran_ahead(
        self, samples: Iterable[_Numbered], looking: Sequence[Observer]
    ) -> Iterator[tuple[_Set, _Numbered]]:
        """The same, with the next sample on its way."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            coming: Future[tuple[_Set, _Numbered]] | None = None
            for i, at in enumerate(samples):
                ready = coming.result() if coming is not None else None
                coming = pool.submit(_run, self._sets[i % 2], at, looking)
                if ready is not None:
                    yield ready
            if coming is not None:
                yield coming.result()


def _run(sides: _Set, at: _Numbered, looking: Sequence[Observer]) -> tuple[_Set, _Numbered]:
    for side in sides.values():
        side.run(at.sample, at.number)
    for observer in looking:
        _show(sides, observer, at.number, observer.look)
    return sides, at


def _show(
    sides: _Set,
    observer: Observer,
    number: int,
    method: Callable[[int, Sequence[np.ndarray]], None],
) -> None:
    values = [sides[at.model].read(at.tensor) for at in observer.tensors]
    try:
        if len(values) == 1 and isinstance(values[0], Extremes):
            observer.update_extremes(number, *values[0])
        else:
            # What is fed to an input without dimensions may be a number.
            method(number, [np.asarray(v) for v in values if not isinstance(v, Extremes)])
    except DataError as e:
        at = observer.tensors[0]
        raise _refused(sides[at.model], at.tensor, number, str(e)) from None


def _refused(side: Side, tensor: str | int, number: int, problem: str) -> DataError:
    tensor = side.name_of(tensor)
    if side.is_input(tensor):
        return DataError(f"Sample {number} {problem} in input {tensor!r}. Remove or repair it.")
    return DataError(
        f"Tensor {tensor!r} {problem} when the {side.name} model runs sample {number}. Check that "
        f"sample's values and preprocessing; the {side.name} model itself fails on it."
    )
