"""Range rules by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfq.calibrate.rules.base import RangeRule
from tfq.calibrate.rules.entropy import Entropy
from tfq.calibrate.rules.mse import MSE
from tfq.calibrate.rules.octav import Octav
from tfq.calibrate.rules.robust import Robust
from tfq.calibrate.rules.simple import MeanStd, MinMax, MovingAverage, Percentile
from tfq.errors import UsageError, unknown_option

RULES: dict[str, type[RangeRule]] = {
    cls.name: cls
    for cls in (Robust, MinMax, MovingAverage, Percentile, MSE, Entropy, Octav, MeanStd)
}


def get_rule(spec: str | RangeRule, *, more: Sequence[str] = ()) -> RangeRule:
    """The rule that `spec` names.

    Args:
      spec: a rule, or its name, or its name and first parameter: "percentile:99.9".
      more: what else the caller takes, for the message.

    Raises:
      UsageError: no such rule, or a parameter it does not take.
    """
    if isinstance(spec, RangeRule):
        return spec
    if not isinstance(spec, str):
        raise UsageError(f"A range rule is a name or a RangeRule object. Received: {spec!r}.")
    name, colon, value = spec.partition(":")
    if name not in RULES:
        raise unknown_option("range rule", name, (*more, *RULES))
    cls = RULES[name]
    if not colon:
        return cls()
    fields = dataclasses.fields(cls)
    if not fields:
        raise UsageError(f"The range rule {name!r} takes no parameter. Received: {spec!r}.")
    try:
        number = int(value) if isinstance(fields[0].default, int) else float(value)
    except ValueError:
        raise UsageError(
            f"The range rule {name!r} takes a number, {fields[0].name}, as in "
            f"{name}:{fields[0].default}. Received: {spec!r}."
        ) from None
    return cls(**{fields[0].name: number})


def spell(rule: RangeRule) -> str:
    """The rule's name, and the parameters that are not its defaults, as one text."""
    fields = {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule)}
    said = [
        f"{f.name}={fields[f.name]}"
        for f in dataclasses.fields(rule)
        if fields[f.name] != f.default
    ]
    return ":".join([rule.name, *said])
