"""Statistics of a float model's tensors, and ranges from them."""

from __future__ import annotations

from tfq.calibrate.rules import RangeRule, get_rule
from tfq.calibrate.run import calibrate
from tfq.calibrate.statistics import Statistics
from tfq.calibrate.weight_rules import weight_scales
from tfq.observe.sketch import Sketch

__all__ = ["RangeRule", "Sketch", "Statistics", "calibrate", "get_rule", "weight_scales"]
