"""The representative data of a conversion: read once, calibration sees most of it, some is kept.

What is kept computes and judges corrections, and proves the result; what proves it, calibration has
not seen (`tfq.data.retain`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tfq.data import RetainedSamples, Sample, SampleSource, split, synthetic
from tfq.data.fit import bind_labels
from tfq.errors import DataError
from tfq.graph.interface import Interface
from tfq.graph.numerics import Grid

if TYPE_CHECKING:
    import numpy as np

# Samples kept for bias correction and proof: as many as say something, as few as memory allows.
_RETAINED = 256
PROOF = 32

# Of fewer none are set apart to judge by: what three samples say of a gain is chance.
_JUDGED = 8


@dataclasses.dataclass
class Samples:
    """The stream, and what is kept of it: values by tensor name, as the model takes them."""

    stream: SampleSource
    interface: Interface
    fit: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    check: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    unseen: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    calibrated: int = 0  # Samples that calibration saw, and the runs that they made.
    runs: int = 0
    proven: int = 0  # Samples that the proof runs on.
    made_up: bool = False  # Random ones, because the scheme, plan or statistics need none.

    @classmethod
    def random(cls, interface: Interface, grids: Mapping[str, Grid], description: str) -> Samples:
        """A few made-up ones, within the grids of inputs that have one, by tensor name."""
        ranges = {
            a.name: grids[a.tensor_name].range() for a in interface.inputs if a.tensor_name in grids
        }
        stream = synthetic(interface.inputs, count=4, ranges=ranges, description=description)
        return cls(stream, interface, made_up=True)

    def by_tensor(self, sample: Sample) -> dict[str, np.ndarray]:
        """The sample's values by tensor name."""
        return {a.tensor_name: sample.inputs[a.name] for a in self.interface.inputs}

    def for_calibration(self) -> Iterator[dict[str, np.ndarray]]:
        """Reads the stream: yields what calibration may see, and keeps some."""
        for sample in self._read():
            self.calibrated += sample.real
            self.runs += 1
            yield self.by_tensor(sample)

    def keep(self, *, few: bool) -> None:
        """Reads the stream without calibration; `few`: until there is enough for a proof."""
        for _ in self._read(few=few):
            pass

    def _read(self, *, few: bool = False) -> Iterator[Sample]:
        kept = RetainedSamples(limit=_RETAINED)
        unseen = RetainedSamples(limit=PROOF, max_bytes=32 << 20)
        labelled: dict[tuple[str, ...], int] = {}
        for sample, back in split(self.stream, held_back_max=PROOF):
            self._check_label(sample, labelled)
            if back:
                unseen.offer(sample)
                continue
            kept.offer(sample)
            yield sample
            if few and len(kept) >= _RETAINED and len(unseen) >= PROOF:
                break
        samples = [self.by_tensor(s) for s in kept.samples]
        # One in two judges what was computed from the others: few samples give a mean as good, but
        # an output that is seldom far from zero takes many to compare.
        self.fit, self.check = samples, []
        if len(samples) >= _JUDGED:
            self.fit, self.check = samples[::2], samples[1::2]
        self.unseen = [self.by_tensor(s) for s in unseen.samples]
        judged = kept.samples[1::2] if self.check else kept.samples
        self.proven = sum(s.real for s in unseen.samples or judged)

    def _check_label(self, sample: Sample, labelled: dict[tuple[str, ...], int]) -> None:
        """Labels by output are of outputs that there are, and of the same ones in all samples.

        Args:
          sample: the next.
          labelled: fields of labels -> the first sample that has them.
        """
        if sample.label is None:
            return
        fields = sample.label.dtype.names or ()
        if fields not in labelled and fields:
            bind_labels(fields, self.interface.outputs, "the model")
        labelled.setdefault(fields, sample.index)
        if len(labelled) > 1:
            (one, at), (other, there) = labelled.items()
            have = [f"for {', '.join(map(repr, f))}" if f else "of no output" for f in (one, other)]
            raise DataError(
                f"Samples are labelled in different ways: sample {at} {have[0]}, sample {there} "
                f"{have[1]}. Give all of them labels for the same outputs."
            )
