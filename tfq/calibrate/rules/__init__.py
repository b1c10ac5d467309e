"""Range rules: the same sketch in, the range of one tensor out."""

from __future__ import annotations

from tfq.calibrate.rules.base import RangeRule
from tfq.calibrate.rules.entropy import Entropy
from tfq.calibrate.rules.mse import MSE
from tfq.calibrate.rules.octav import Octav
from tfq.calibrate.rules.registry import RULES, get_rule, spell
from tfq.calibrate.rules.robust import Robust
from tfq.calibrate.rules.simple import MeanStd, MinMax, MovingAverage, Percentile

__all__ = [
    "MSE",
    "RULES",
    "Entropy",
    "MeanStd",
    "MinMax",
    "MovingAverage",
    "Octav",
    "Percentile",
    "RangeRule",
    "Robust",
    "get_rule",
    "spell",
]
