"""Which op of a model runs where on a target, and why not where it is fast."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from tfq.targets.measurement import Evidence


@dataclasses.dataclass(frozen=True)
class OpPlacement:
    """Attributes:
    index: of the op in the main graph of the file.
    op: its name ("CONV_2D").
    output: name of its first output, by which reports and plans call it; "" if it has none.
    where: what runs it ("XNNPACK", "built-in kernel", "CPU", ...).
    fast: whether that is the target's fast path.
    partition: number of the stretch of ops that runs in one go there, from 0; None outside of any.
    why: what keeps it off the fast path, for people, or "".
    """

    index: int
    op: str
    output: str
    where: str
    fast: bool
    partition: int | None = None
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Placement:
    """All ops of the main graph, in the file's order.

    Attributes:
      ops: one each.
      evidence: how this is known: seen in a run, printed by a compiler, or predicted.
      refusal: why the target cannot run the model at all, or "".
    """

    ops: tuple[OpPlacement, ...]
    evidence: Evidence
    refusal: str = ""

    @property
    def fast(self) -> int:
        """How many ops are on the fast path."""
        return sum(op.fast for op in self.ops)

    @property
    def partitions(self) -> int:
        """How many stretches the fast path runs in: 1 is best, each more is a handover."""
        return len({op.partition for op in self.ops if op.partition is not None})

    def off(self) -> dict[tuple[str, str], int]:
        """Ops off the fast path: (op name, why) -> how many, most first."""
        found = sorted((op.op, op.why) for op in self.ops if not op.fast)
        counts = {key: len(list(group)) for key, group in itertools.groupby(found)}
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def as_json(self) -> dict[str, Any]:
        return {
            "evidence": self.evidence.value,
            "refusal": self.refusal,
            "fast": self.fast,
            "partitions": self.partitions,
            "ops": [dataclasses.asdict(op) for op in self.ops],
        }
