"""From the figures of a model's layers to named causes of its error, each with its remedy."""

from __future__ import annotations

from tfq.evaluate.causes.finding import Finding, Remedy
from tfq.evaluate.causes.grouping import Group, group
from tfq.evaluate.causes.ranking import find_causes
from tfq.evaluate.causes.registry import CAUSES

__all__ = ["CAUSES", "Finding", "Group", "Remedy", "find_causes", "group"]
