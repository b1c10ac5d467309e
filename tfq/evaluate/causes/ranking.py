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

from tfq.evaluate.causes import (
    accumulates,
    channel_imbalance,
    shared_scale,
    silenced_channels,
    too_few_bits,
    unscaled_input,
)
from tfq.evaluate.causes.finding import Claim, Finding, Remedy
from tfq.evaluate.causes.noise import decibel
from tfq.evaluate.causes.registry import SPECIFIC
from tfq.evaluate.causes.remedies import done
from tfq.evaluate.causes.view import View, moves, same_grid
from tfq.evaluate.figures import LayerAnalysis, TensorFigures

# The model's output is as good as float from here on, and useless from there on.
_GOOD_DB, _BAD_DB = 35.0, 5.0

# What is less severe is left out; more so, where there is something else to say.
_LEAST, _WORTH = 0.01, 0.02

_PER_TENSOR = 2

# Causes that a small branch on a shared grid has as its consequence, behind it.
_FOLLOWING = (channel_imbalance.NAME, silenced_channels.NAME, too_few_bits.NAME)

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def find_causes(
    analysis: LayerAnalysis,
    *,
    options: Mapping[str, Any] = _NOTHING,
    outputs: Mapping[str, str] = _NOTHING,
) -> tuple[Finding, ...]:
    """Names what makes a quantized model's error, and what to do about it.

    Args:
      analysis: the figures of every quantized tensor.
      options: how the model was converted, as far as known, with keys as `Config.as_dict` and
        `convert_model` have them: what was done already is not advised again.
      outputs: names of the outputs, by tensor.

    Returns:
      At most two findings a tensor, the most severe first; none for a healthy model. Where the
      samples do not fit an input, this alone.
    """
    view = View(analysis, options, outputs)
    unfit = [(t, c) for t in analysis.tensors if (c := unscaled_input.find(view, t)) is not None]
    if unfit:
        return tuple(_finding(view, t, c, 1.0, 0.0) for t, c in unfit)
    claims = _claims(view)
    _follow(view, claims)
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
    worth = [f for f in findings if f.severity >= _WORTH] or findings
    return tuple(sorted(worth, key=lambda f: -f.severity))


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


def _follow(view: View, claims: dict[str, list[Claim]]) -> None:
    """What 16 bits for a shared grid mend, too, is that grid's: its small branch is lost there."""
    for t in view.analysis.tensors:
        for i, cause in enumerate(claims[t.name]):
            if cause.cause != shared_scale.NAME or not cause.remedy.layers:
                continue
            for u in view.analysis.tensors:
                if u.name == t.name or t.name not in view.sources(u):
                    continue
                follows = [c for c in claims[u.name] if _mended(c, cause)]
                claims[u.name] = [c for c in claims[u.name] if c not in follows]
                cause = dataclasses.replace(cause, noise=cause.noise + _noise(follows))
            claims[t.name][i] = cause


def _mended(claim: Claim, cause: Claim) -> bool:
    layers = set(claim.remedy.layers)
    return claim.cause in _FOLLOWING and bool(layers) and layers.issubset(cause.remedy.layers)


def _noise(claims: Sequence[Claim]) -> float:
    return sum(c.noise for c in claims)


def _finding(view: View, t: TensorFigures, claim: Claim, badness: float, total: float) -> Finding:
    severity = claim.weight
    if severity is None:
        share = min(claim.noise, view.reaching(t)) / total if total > 0 else 1.0
        severity = badness * min(share, 1.0)
    remedy = _new(view, claim.remedy)
    return Finding(t.name, t.layer, claim.cause, claim.title, severity, claim.text, remedy)


def _new(view: View, remedy: Remedy) -> Remedy:
    """The remedy, if the file was not made with it already."""
    name, _, value = (remedy.flag or "").removeprefix("--").partition("=")
    return done(f"The file was made with {remedy.flag}") if view.is_set(name, value) else remedy


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
