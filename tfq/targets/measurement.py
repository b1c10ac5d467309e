"""What a run of a model on a target gave: figures, each with its evidence; one shape for all."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tfq.targets.placement import Placement


class Evidence(enum.StrEnum):
    """How a figure came about, the best first.

    Milliseconds are given for the first two only: an emulator's clock is not the device's.
    """

    DEVICE = "measured-on-device"
    HOST = "measured-on-host"
    EMULATED = "emulated"
    COMPILED = "compiled-estimate"
    PREDICTED = "predicted"


# Units of time, which only a measurement may have.
TIME_UNITS = ("us",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """How a model is to be run. What a target cannot do of it is an error of `prepare`.

    Attributes:
      threads: CPU threads.
      kernels: "xnnpack", "builtin" or "reference".
      delegate: "", or "gpu", "nnapi", or the path of an external delegate.
      cpus: which processors, as taskset takes them ("f0"), or "".
      runs: measured runs of each model, over all rounds.
      seconds: at most so long for each model, warm-up apart.
      warmup_seconds: at least so long is run before anything is measured.
      per_op: whether to measure each op too.
      timeout: seconds that one step (push, one round) may take before it is given up.
    """

    threads: int = 1
    kernels: str = "xnnpack"
    delegate: str = ""
    cpus: str = ""
    runs: int = 200
    seconds: float = 10.0
    warmup_seconds: float = 0.5
    per_op: bool = True
    timeout: float = 120.0


@dataclasses.dataclass(frozen=True)
class Figure:
    """One quantity.

    Attributes:
      unit: "us", "bytes", "instructions", "loads", "stores", "cycles".
      median: of all values.
      low, high: the quartiles (25 %, 75 %); equal to the median of one value.
      count: how many values there were.
      evidence: how they came about.
    """

    unit: str
    median: float
    low: float
    high: float
    count: int
    evidence: Evidence

    def __post_init__(self) -> None:
        if self.unit in TIME_UNITS and self.evidence not in (Evidence.DEVICE, Evidence.HOST):
            raise ValueError(f"time that nobody measured: {self}")

    @classmethod
    def of(cls, values: Sequence[float], unit: str, evidence: Evidence) -> Figure:
        """Median and quartiles of `values`, at least one."""
        low, median, high = np.percentile(np.asarray(values, np.float64), [25, 50, 75])
        return cls(unit, float(median), float(low), float(high), len(values), evidence)

    @property
    def spread(self) -> float:
        """(high - low) / median; 0 of nothing."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclasses.dataclass(frozen=True)
class OpCost:
    """What one op takes.

    Attributes:
      index: of the op in the main graph of the file, or None where the target cannot say.
      op, output: as of `OpPlacement`; of ops that the target makes itself, what it calls them.
      cost: of one run of it.
    """

    index: int | None
    op: str
    output: str
    cost: Figure


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far an output is from that of the reference kernels on this host, on the same inputs.

    Attributes:
      output: name of the output tensor.
      unit: "LSB" for integers, "" for float values.
      most: the largest absolute difference.
      share: of values that differ at all.
    """

    output: str
    unit: str
    most: float
    share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One model on one target.

    Attributes:
      model: how reports call it; sha256 and size (bytes) of the file.
      target: name of the target.
      asked: what the user asked for.
      ran: what really ran, for people: name -> text ("delegate": "XNNPACK, 31 of 31 ops").
      placement: where each op ran.
      figures: "init", "first", "steady" (us), "memory" (bytes), "instructions", ...
      ops: cost by op; empty where it was not measured.
      differences: of the outputs, or empty where nothing could be compared.
      fingerprint: versions, processor, governor, load, device: what the figures are of.
      warnings: what makes them doubtful.
    """

    model: str
    sha256: str
    size: int
    target: str
    asked: Asked
    ran: Mapping[str, str]
    placement: Placement
    figures: Mapping[str, Figure]
    ops: tuple[OpCost, ...] = ()
    differences: tuple[Difference, ...] = ()
    fingerprint: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data, as `tfq/targets/schema.json` describes it."""
        return {
            "model": {"name": self.model, "sha256": self.sha256, "bytes": self.size},
            "target": self.target,
            "asked": dataclasses.asdict(self.asked),
            "ran": dict(self.ran),
            "placement": self.placement.as_json(),
            "figures": {name: _figure(f) for name, f in self.figures.items()},
            "ops": [
                {"index": o.index, "op": o.op, "output": o.output, "cost": _figure(o.cost)}
                for o in self.ops
            ],
            "differences": [dataclasses.asdict(d) for d in self.differences],
            "fingerprint": dict(self.fingerprint),
            "warnings": list(self.warnings),
        }


def _figure(f: Figure) -> dict[str, Any]:
    return {**dataclasses.asdict(f), "evidence": f.evidence.value}
