"""From the figures of a model to findings, the most severe first.

A cause's noise over all noise that the layers make is its share of the blame; its severity is that
share times how bad the model's output is. So the same tensor is grave in a model that is off, and
not worth a word in one that is right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tfq.evaluate.figures import LayerAnalysis, TensorFigures
from tfq.evaluate.judge import accumulates, too_few_bits
from tfq.evaluate.judge.finding import Claim, Finding
from tfq.evaluate.judge.noise import decibel
from tfq.evaluate.judge.registry import SPECIFIC
from tfq.evaluate.judge.view import View, moves, same_grid

# The model's output is as good as float from here on, and useless from there on.
_GOOD_DB, _BAD_DB = 35.0, 5.0

# What is less severe is left out.
_LEAST = 0.01

_PER_TENSOR = 2

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def judge(analysis: LayerAnalysis, *, options: Mapping[str, Any] = _NOTHING) -> tuple[Finding, ...]:
    """Names what makes a quantized model's error, and what to do about it.

    Args:
      analysis: the figures of every quantized tensor.
      options: how the model was converted, as far as known, with keys as `Config.as_dict` and
        `convert_model` have them: what was done already is not advised again.

    Returns:
      At most two findings a tensor, the most severe first; none for a healthy model.
    """
    view = View(analysis, options)
    claims = _claims(view)
    badness, total = _badness(view, claims), _total(view, claims)
    for t in view.outputs():
        explained = sum(_noise(claims[name]) for name in view.sources(t))
        claim = accumulates.find(view, t, explained)
        if claim is not None:
            # All of this output's noise.
            claims[t.name].append(dataclasses.replace(claim, weight=_grade(decibel(claim.noise))))
            break
    findings = []
    for t in analysis.tensors:
        weighed = [_finding(view, t, c, badness, total) for c in claims[t.name]]
        kept = sorted((f for f in weighed if f.severity >= _LEAST), key=lambda f: -f.severity)
        # What one remedy mends is said once.
        once = {f.remedy.flag or f.remedy.text: f for f in reversed(kept)}
        findings += list(reversed(once.values()))[:_PER_TENSOR]
    return tuple(sorted(findings, key=lambda f: -f.severity))


def _claims(view: View) -> dict[str, list[Claim]]:
    """What the causes say of every tensor, without what its inputs are to blame for."""
    claims: dict[str, list[Claim]] = {}
    # Causes of a tensor's grid, its own or those of an input with the same one; noise that its
    # readers see and must not be blamed for.
    causes: dict[str, set[str]] = {}
    faults: dict[str, float] = {}
    for t in view.analysis.tensors:
        inputs = view.inputs(t)
        inherited = {c for i in inputs if same_grid(i, t) for c in causes[i.name]}
        given = max((faults[i.name] for i in inputs), default=0.0)
        found = [c for find in SPECIFIC if (c := find(view, t)) and c.cause not in inherited]
        rest = too_few_bits.find(view, t, _noise(found) + given)
        if rest is not None and rest.cause not in inherited:
            found.append(rest)
        claims[t.name] = found
        causes[t.name] = inherited | {c.cause for c in found}
        # What only moves values hands on the faults of its inputs.
        faults[t.name] = _noise(found) + (given if moves(t) else 0.0)
    return claims


def _noise(claims: Sequence[Claim]) -> float:
    return sum(c.noise for c in claims)


def _finding(view: View, t: TensorFigures, claim: Claim, badness: float, total: float) -> Finding:
    severity = claim.weight
    if severity is None:
        share = min(claim.noise, view.reaching(t)) / total if total > 0 else 1.0
        severity = badness * min(share, 1.0)
    return Finding(t.name, t.layer, claim.cause, claim.title, severity, claim.text, claim.remedy)


def _grade(sqnr_db: float) -> float:
    """0 to 1 from good to useless."""
    return min(max((_GOOD_DB - sqnr_db) / (_GOOD_DB - _BAD_DB), 0.0), 1.0)


def _badness(view: View, claims: Mapping[str, Sequence[Claim]]) -> float:
    """Of the worst output; by what the causes say where none was read."""
    known = [t.accumulated.sqnr_db for t in view.outputs() if t.accumulated is not None]
    return _grade(min(known, default=decibel(sum(_noise(c) for c in claims.values()))))


def _total(view: View, claims: Mapping[str, Sequence[Claim]]) -> float:
    """All noise that the layers make and that can reach an output, relative to their signals."""
    total = 0.0
    for t in view.analysis.tensors:
        isolated = view.isolated(t)
        own = _noise(claims[t.name]) if isolated is None else isolated
        total += min(own, view.reaching(t))
    return total
