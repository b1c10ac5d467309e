"""One output that is measured: its task, its metrics, and which labels are its own."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np

from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import Labels, Metric, Task

Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Scorer:
    """What is measured: one for each output that has labels of its own.

    Attributes:
      output: the output's name, or None for all outputs together.
      task: fitted to the reference's outputs; None where there is no label to compare with.
      metrics: what is measured.
      field: the name of its labels among those of several outputs; None where labels are its alone.
    """

    output: str | None
    task: Task | None = None
    metrics: tuple[Metric, ...] = ()
    field: str | None = None

    def outputs(self, outputs: Outputs) -> Outputs:
        """The outputs that are measured."""
        return outputs if self.output is None else {self.output: outputs[self.output]}

    def labels(self, labels: Labels, start: int = 0) -> Labels:
        """Its labels among a block's, whose first sample has the number `start`.

        Raises:
          DataError: a sample has none.
        """
        if labels is None:
            return None
        if self.field is None:
            for i, label in enumerate([] if isinstance(labels, np.ndarray) else labels):
                if label.dtype.names:
                    raise DataError(
                        f"Sample {start + i} has labels by output, others have not. Give those of "
                        "all samples in one way."
                    )
            return labels
        for i, label in enumerate(labels):
            if self.field not in (label.dtype.names or ()):
                raise DataError(
                    f"Sample {start + i} has no label for the output {self.output!r}; others have."
                )
        if isinstance(labels, np.ndarray):
            return labels[self.field]
        return [label[self.field] for label in labels]

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Where several outputs have labels, errors say which output they are about."""
        try:
            yield
        except (DataError, UsageError) as e:
            if self.field is None:
                raise
            raise type(e)(f"Output {self.output!r}: {e}") from None
