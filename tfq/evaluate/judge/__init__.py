"""The judge: turns the figures of a model's layers into named causes, each with its remedy."""

from __future__ import annotations

from tfq.evaluate.judge.finding import Finding, Remedy
from tfq.evaluate.judge.grouping import Group, group
from tfq.evaluate.judge.judging import judge
from tfq.evaluate.judge.registry import CAUSES

__all__ = ["CAUSES", "Finding", "Group", "Remedy", "group", "judge"]
