"""What is said of a model: a named cause with figures, and the remedy as a flag or a call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Remedy:
    """What to do about a cause.

    Attributes:
      text: a sentence; it names the ways that no option of tfq can go, too.
      flag: to add to `python -m tfq.convert`, quoted for a shell, or None.
      call: the same from Python, or None.
      layers: names of the layers that it is a rule for; empty where it is for the whole model.
      output: whether the rule widens the model's output, too.
      kept: rules that the file was made with, which the call names, too.
    """

    text: str
    flag: str | None = None
    call: str | None = None
    layers: tuple[str, ...] = ()
    output: bool = False
    kept: tuple[Mapping[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Claim:
    """What one cause says of one tensor, before it is weighed against the others.

    Attributes:
      cause: its name.
      title: a short line.
      text: one or two sentences with figures.
      remedy: what to do.
      noise: noise power that the cause accounts for, relative to the signal where it shows.
      weight: the severity itself, where it does not follow from the noise.
    """

    cause: str
    title: str
    text: str
    remedy: Remedy
    noise: float
    weight: float | None = None


@dataclasses.dataclass(frozen=True)
class Finding:
    """One cause of error at one tensor.

    Attributes:
      tensor: its name.
      layer: path of the layer that it came from, or "".
      cause: one of `CAUSES`.
      title: a short line.
      severity: 0 to 1; how much of the model's output error it is to blame for, times how bad
        that error is.
      text: one or two sentences with figures.
      remedy: what to do.
    """

    tensor: str
    layer: str
    cause: str
    title: str
    severity: float
    text: str
    remedy: Remedy

    def as_dict(self) -> dict[str, Any]:
        """As the report holds it, without the model's name."""
        remedy = {"text": self.remedy.text, "flag": self.remedy.flag, "call": self.remedy.call}
        return {**dataclasses.asdict(self), "layer": self.layer or None, "remedy": remedy}
