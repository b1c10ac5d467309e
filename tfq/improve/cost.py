"""What improvements cost at most, said before they begin."""

from __future__ import annotations

import dataclasses
import math

# Multiplications a second of matrix products; the machine that does fewer has no float units. A
# small model's run is no measure of it: it takes as long as calling its kernels does.
_SLOWEST = 1e9


@dataclasses.dataclass(frozen=True)
class Cost:
    """What work takes at most.

    Attributes:
      trials: candidates that are built and judged.
      calibrations: runs over all samples that measure another float model.
      runs: runs of one sample besides.
      multiplications: in matrix products besides.
    """

    trials: int = 0
    calibrations: int = 0
    runs: int = 0
    multiplications: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.trials + other.trials,
            self.calibrations + other.calibrations,
            self.runs + other.runs,
            self.multiplications + other.multiplications,
        )


@dataclasses.dataclass(frozen=True)
class Speed:
    """What was measured so far, in seconds.

    Attributes:
      build: of planning, emitting and loading one candidate.
      calibration: of the run over all samples; 0 where there was none.
      sample: of one sample in that run, in one process.
      multiplications: of the layers with weights in one sample.
    """

    build: float
    calibration: float
    sample: float
    multiplications: float

    def seconds(self, cost: Cost, judged: int) -> float:
        """About how long work takes at most; 0 where nothing was measured.

        Args:
          cost: of the work.
          judged: samples that each trial runs.
        """
        if not self.calibration:
            return 0.0
        speed = max(self.multiplications / max(self.sample, 1e-9), _SLOWEST)
        return (
            cost.trials * (self.build + judged * self.sample)
            + cost.calibrations * self.calibration
            + cost.runs * self.sample
            + cost.multiplications / speed
        )


def announcement(cost: Cost, seconds: float) -> str:
    """The cost in words: "Improving: at most 31 trials and some 12 s"."""
    trials = f"{cost.trials} trial{'s' * (cost.trials != 1)}"
    if not seconds:
        return f"Improving: at most {trials}"
    whole = math.ceil(seconds)
    time = f"{whole} s" if whole < 100 else f"{round(seconds / 60)} min"
    return f"Improving: at most {trials} and some {time}"


def times(count: int) -> str:
    """How often: "once", "12 times"."""
    return "once" if count == 1 else f"{count} times"
