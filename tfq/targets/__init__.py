"""The places where a model runs: what each can hold, where its ops run there, and how fast.

A target is one frozen value (`Target`): a profile as data, and four things it does: `check` (which
op runs where), `prepare` (compile, push, load), and of what is prepared `run` and `measure`. One
file or folder a target, found by `get_target`.
"""

from tfq.targets.measurement import Asked, Difference, Evidence, Figure, Measurement, OpCost
from tfq.targets.placement import OpPlacement, Placement
from tfq.targets.profile import Profile
from tfq.targets.registry import get_target, known_targets
from tfq.targets.target import Prepared, Target

__all__ = [
    "Asked",
    "Difference",
    "Evidence",
    "Figure",
    "Measurement",
    "OpCost",
    "OpPlacement",
    "Placement",
    "Prepared",
    "Profile",
    "Target",
    "get_target",
    "known_targets",
]
