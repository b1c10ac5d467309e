"""Findings that say the same of many layers, put together for the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfq.evaluate.causes.finding import Finding, Remedy
from tfq.evaluate.causes.remedies import wider_layers


@dataclasses.dataclass(frozen=True)
class Group:
    """Findings of one cause with one remedy.

    Attributes:
      findings: the most severe first.
      title: the cause, and how many layers have it.
      severity: of all together, 0 to 1.
      layers: what is concerned, by name of the layer, else of the tensor; each once.
      tensors: names of the tensors, in the order of `findings`.
      remedy: for all of them; a rule for some layers names the layers of all.
    """

    findings: tuple[Finding, ...]
    title: str
    severity: float
    layers: tuple[str, ...]
    tensors: tuple[str, ...]
    remedy: Remedy


def group(findings: Sequence[Finding]) -> tuple[Group, ...]:
    """Puts together what has the same cause and the same remedy.

    Args:
      findings: the most severe first, as `find_causes` returns them.

    Returns:
      The most severe group first.
    """
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for f in findings:
        rule = bool(f.remedy.layers)
        key = (f.cause, "rule" if rule else "", f.remedy.text if rule else f.remedy.flag or "")
        groups.setdefault(key, []).append(f)
    made = [
        Group(
            tuple(members),
            _title(members),
            min(sum(f.severity for f in members), 1.0),
            tuple(dict.fromkeys(f.layer or f.tensor for f in members)),
            tuple(dict.fromkeys(f.tensor for f in members)),
            _remedy(members),
        )
        for members in groups.values()
    ]
    return tuple(sorted(made, key=lambda g: -g.severity))


def _title(members: Sequence[Finding]) -> str:
    layers = len({f.layer or f.tensor for f in members})
    title = members[0].title
    return title if layers == 1 else f"{layers} layers: {title[:1].lower()}{title[1:]}"


def _remedy(members: Sequence[Finding]) -> Remedy:
    first = members[0].remedy
    if not first.layers:
        return first
    return wider_layers(
        tuple(dict.fromkeys(n for f in members for n in f.remedy.layers)),
        first.text,
        output=any(f.remedy.output for f in members),
        kept=first.kept,
    )
