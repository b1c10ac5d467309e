"""The choices that a plan was made with, as the plan and every file emitted from it record them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tfq.graph.model import Model
from tfq.graph.notes import read_note
from tfq.plan.scheme import LayerRule

# Where an emitted file says how it was made.
_METADATA = "tfq_config"


def write_config(model: Model, config: Mapping[str, Any]) -> None:
    """Writes the choices that a plan was made with into a model's metadata."""
    model.metadata[_METADATA] = json.dumps(dict(config), sort_keys=True).encode()


def read_config(model: Model) -> dict[str, Any]:
    """What `write_config` wrote; empty for files of others.

    Raises:
      ModelError: the metadata is damaged.
    """
    return read_note(model, _METADATA, config_from_json) or {}


def config_from_json(body: Mapping[str, Any]) -> dict[str, Any]:
    """The record, with what others read from it checked.

    Raises:
      ValueError, TypeError, UsageError: it is garbled.
    """
    known = [f.name for f in dataclasses.fields(LayerRule)]
    for key in ("allow_float", "split_output", "own_grids"):
        names = body.get(key) or []
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ValueError(f"{key!r} is not a list of names: {names!r}")
    if not isinstance(body.get("ranges") or {}, dict):
        raise ValueError(f"'ranges' is not a section: {body['ranges']!r}")
    asked = body.get("asked") or {}
    if not isinstance(asked, dict) or not all(isinstance(v, str) for v in asked.values()):
        raise ValueError(f"'asked' is no section of options: {asked!r}")
    for rule in body.get("rules") or ():
        LayerRule(**{name: rule[name] for name in known if name in rule})
    return dict(body)
