"""What was tried to make a model better, and what the judge made of it: a record that goes along.

A plan carries it, and every file that is emitted from the plan, so that a page about the file can
say what was kept and what was refused. Nothing is decided by it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfq.graph.model import Model
from tfq.graph.notes import read_note

# Where an emitted file has the record.
_METADATA = "tfq_improvements"


@dataclasses.dataclass(frozen=True)
class Effect:
    """What a change does to an output, or to a part of it.

    Attributes:
      output: name of the output tensor.
      part: which part, or "".
      before_db, after_db: signal to quantization noise in dB on the judge's samples; None where
        exact.
    """

    output: str
    part: str
    before_db: float | None
    after_db: float | None


@dataclasses.dataclass(frozen=True)
class Refusal:
    """The most that a refused attempt would have lost.

    Attributes:
      what: the attempt.
      output, part: where.
      loss_db: how much, in dB.
    """

    what: str
    output: str
    part: str
    loss_db: float


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One improvement.

    Attributes:
      name: of it.
      kept: what was kept, or "".
      tried: how many attempts there were.
      effects: of what is kept, against the model before it; where nothing is, of the best attempt.
      refused: the worst of what was refused; None where nothing would have lost.
      note: why nothing was tried or judged, or "".
    """

    name: str
    kept: str
    tried: int
    effects: tuple[Effect, ...] = ()
    refused: Refusal | None = None
    note: str = ""


def to_json(records: Sequence[Evidence]) -> list[dict[str, Any]]:
    """Plain data; what says nothing is left out."""
    return [
        {
            "name": r.name,
            "kept": r.kept,
            "tried": r.tried,
            **({"outputs": [list(vars(e).values()) for e in r.effects]} if r.effects else {}),
            **({"refused": vars(r.refused)} if r.refused is not None else {}),
            **({"note": r.note} if r.note else {}),
        }
        for r in records
    ]


def from_json(body: Any) -> tuple[Evidence, ...]:
    """What `to_json` wrote.

    Raises:
      ValueError, KeyError, TypeError: it is something else.
    """
    if not isinstance(body, list):
        raise ValueError("no list of improvements")
    return tuple(map(_evidence, body))


def write_evidence(model: Model, records: Sequence[Evidence]) -> None:
    """Writes the record into a model's metadata; without any, takes out what is there."""
    model.metadata.pop(_METADATA, None)
    if records:
        text = json.dumps(to_json(records), separators=(",", ":"), sort_keys=True)
        model.metadata[_METADATA] = text.encode()


def read_evidence(model: Model) -> tuple[Evidence, ...]:
    """What `write_evidence` wrote; empty for files without.

    Raises:
      ModelError: the metadata is damaged.
    """
    return read_note(model, _METADATA, from_json) or ()


def _evidence(body: Mapping[str, Any]) -> Evidence:
    tried, refused = body["tried"], body.get("refused")
    effects = body.get("outputs", [])
    if type(tried) is not int or tried < 0:
        raise ValueError(f"'tried' is no count: {tried!r}")
    if not isinstance(effects, list):
        raise ValueError("'outputs' is no list of outputs")
    return Evidence(
        _text(body["name"]),
        _text(body["kept"]),
        tried,
        tuple(
            Effect(_text(output), _text(part), _decibel(before), _decibel(after))
            for output, part, before, after in effects
        ),
        None if refused is None else _refusal(refused),
        _text(body.get("note", "")),
    )


def _refusal(body: Mapping[str, Any]) -> Refusal:
    loss = _decibel(body["loss_db"])
    if loss is None:
        raise ValueError("'loss_db' is no number")
    return Refusal(_text(body["what"]), _text(body["output"]), _text(body["part"]), loss)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"no text: {value!r}")
    value.encode("utf-8")  # Halves of characters are none.
    return value


def _decibel(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"no decibels: {value!r}")
    return float(value)
