"""The plan: for every tensor and operator what it becomes and why. Plain data, JSON in and out.

A plan is the whole truth: with it and the float model, emission has nothing left to decide.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq.errors import TfqError, UsageError
from tfq.files import read_bytes, write_atomic
from tfq.graph.notes import GARBLED, no_number
from tfq.graph.numerics import Grid
from tfq.plan import arrays, evidence
from tfq.plan.config_record import config_from_json
from tfq.plan.entries import KEEP_FLOAT, OpPlan, TensorPlan
from tfq.plan.entries_json import (
    absorbed_from_json,
    grid_from_json,
    grid_to_json,
    lists,
    names_from_json,
    op_from_json,
    op_to_json,
    read_entries,
    read_value,
    scales_from_json,
    tensor_from_json,
)
from tfq.plan.evidence import Evidence

VERSION = 1

# A sample that reaches so many times beyond its input's grid is not what the grid was made for.
_ABSURD = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Everything that emission needs besides the float model.

    Attributes:
      model_sha256: of the prepared float model it was made for.
      config: the choices it was made with (`Config.as_dict`), for the record.
      tensors: computed float tensor name -> its grid.
      ops: name of an op's first output -> how the op is emitted.
      inputs, outputs: grid at the model's boundary by tensor name.
      equalization: factors for the channels of some activations, by tensor name, that the prepared
        model was rescaled with; `model_sha256` is that of the rescaled model.
      relaxed: first outputs of ops whose RELU6 became RELU before that.
      absorbed: what was moved from biases into the layers behind after that, by the name of a
        layer's output.
      detours: output name -> the grid between its own and the one at the boundary, where no kernel
        goes straight from one to the other.
      biases: name of an op's first output -> integers that take the place of its quantized float
        bias, int32 or int64, shape [channels]: corrected ones.
      weights: name of an op's first output -> the integers of its constant weights, in their shape:
        chosen roundings. Types below 8 bits are held in int8.
      improvements: what was tried, and what was kept, for the record.
      improved_sha256: `sha256` of the plan that `improvements` is about.
    """

    model_sha256: str
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorPlan]
    ops: Mapping[str, OpPlan]
    inputs: Mapping[str, Grid]
    outputs: Mapping[str, Grid]
    equalization: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    relaxed: tuple[str, ...] = ()
    absorbed: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    detours: Mapping[str, Grid] = dataclasses.field(default_factory=dict)
    biases: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    improvements: tuple[Evidence, ...] = ()
    improved_sha256: str = ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        mine, theirs = vars(self), vars(other)
        return all(
            arrays.equal(mine[name], theirs[name])
            if name in ("biases", "weights")
            else mine[name] == theirs[name]
            for name in mine
        )

    def spans(self, sample: Mapping[str, np.ndarray]) -> bool:
        """Whether the input grids were made for samples like this, none of them absurdly large."""
        for name, values in sample.items():
            entry = self.tensors.get(name)
            if entry is not None and entry.grid.scale and values.size:
                lo, hi = entry.grid.range()
                if max(float(values.max()), -float(values.min())) > _ABSURD * max(hi, -lo):
                    return False
        return True

    @property
    def sha256(self) -> str:
        """Of all that the emitted model is made from: what is for the record only has no part."""
        bare = dataclasses.replace(
            self, config={}, improvements=(), improved_sha256="", biases={}, weights={}
        )
        digest = hashlib.sha256(json.dumps(json.loads(bare.to_json()), sort_keys=True).encode())
        for kind, arrays_of in (("bias", self.biases), ("weights", self.weights)):
            for name, integers in sorted(arrays_of.items()):
                digest.update(f"{kind} {name} {integers.dtype} {integers.shape}".encode())
                digest.update(np.ascontiguousarray(integers).tobytes())
        return digest.hexdigest()

    def with_improvements(self, tried: Sequence[Evidence]) -> Plan:
        """The same plan with the record of how it came about."""
        return dataclasses.replace(
            self, improvements=tuple(tried), improved_sha256=self.sha256 if tried else ""
        )

    def count_modes(self) -> dict[str, int]:
        """How many ops each mode has."""
        return dict(collections.Counter(op.mode for op in self.ops.values()))

    @property
    def float_ops(self) -> dict[str, OpPlan]:
        return {name: op for name, op in self.ops.items() if op.mode == KEEP_FLOAT}

    def to_json(self) -> str:
        """All of it as text, biases and weights among it."""
        given = {"biases": self.biases, "weights": self.weights}
        return self._text({kind: arrays.as_json(v) for kind, v in given.items() if v})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes JSON, and beside it a file with the biases and weights where there are any.

        The second file is named after what is in it (`plan.json` and `plan.0123456789ab.npz`); the
        JSON comes last and names it, so that there is a whole plan at any moment. The file of the
        plan that was there before is removed.

        Raises:
          TfqError: a file cannot be written (UsageError where the folder does not exist).
        """
        # The arrays go where the JSON really is: a link may lead to another folder.
        place = os.path.realpath(os.fspath(path))
        before = arrays.written_beside(place)
        name, extra = None, {}
        if self.biases or self.weights:
            content = arrays.pack([*self.biases.values(), *self.weights.values()])
            name, digest = arrays.beside(place, content)
            listed = {"biases": list(self.biases), "weights": list(self.weights)}
            extra = {"arrays": {"file": name, "sha256": digest, **listed}}
            write_atomic(os.path.join(os.path.dirname(place), name), content)
        write_atomic(place, self._text(extra).encode())
        if before is not None and os.path.basename(before) != name:
            with contextlib.suppress(OSError):
                os.unlink(before)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Plan:
        """Reads what `save` wrote, or JSON that a person changed.

        Raises:
          UsageError: there is no such file, it is not a plan, or the file beside it is missing,
            another plan's or damaged.
        """
        where = os.fspath(path)
        try:
            text = read_bytes(where).decode("utf-8")
        except UnicodeDecodeError:
            raise UsageError(f"{where} is not a plan. Write one with --plan_out.") from None
        body = _body(text, where)
        plan = _plan_in(body, where)
        if "arrays" not in body:
            return plan
        if plan.biases or plan.weights:
            raise UsageError(
                f"{where} has biases or weights itself and in the file beside it. Leave one out."
            )
        found = arrays.read_beside(os.path.realpath(where), body["arrays"])
        return dataclasses.replace(plan, biases=found["biases"], weights=found["weights"])

    def _text(self, extra: Mapping[str, Any]) -> str:
        body = {
            "version": VERSION,
            "model_sha256": self.model_sha256,
            "config": dict(self.config),
            **({"improvements": evidence.to_json(tried)} if (tried := self.improvements) else {}),
            **({"improved_sha256": sha} if (sha := self.improved_sha256) else {}),
            **({"relaxed": list(self.relaxed)} if self.relaxed else {}),
            **({"equalization": scales} if (scales := lists(self.equalization)) else {}),
            **({"absorbed": moved} if (moved := lists(self.absorbed)) else {}),
            "inputs": {n: grid_to_json(g) for n, g in self.inputs.items()},
            "outputs": {n: grid_to_json(g) for n, g in self.outputs.items()},
            **({"detours": detours} if (detours := self._detours_out()) else {}),
            "tensors": {
                n: {**grid_to_json(t.grid), "reason": t.reason} for n, t in self.tensors.items()
            },
            "ops": {n: op_to_json(op) for n, op in self.ops.items()},
            **extra,
        }
        return json.dumps(body, indent=1, allow_nan=False)

    def _detours_out(self) -> dict[str, Any]:
        return {name: grid_to_json(grid) for name, grid in self.detours.items()}

    @staticmethod
    def from_json(text: str, *, where: str = "the plan") -> Plan:
        """Reads a plan.

        Raises:
          UsageError: not JSON, of another version, or with a missing or wrong field.
        """
        body = _body(text, where)
        if "arrays" in body:
            raise UsageError(
                f"{where} has biases and weights in a file beside it. Give the path of the plan "
                "instead of its text."
            )
        return _plan_in(body, where)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else no_number(text)


def _body(text: str, where: str) -> dict[str, Any]:
    """The JSON of a plan of this version."""
    try:
        body = json.loads(text, parse_constant=no_number, parse_float=_finite)
        json.dumps(body, ensure_ascii=False).encode("utf-8")  # Halves of characters are none.
    except RecursionError:
        raise UsageError(f"{where} is no plan: its values are nested too deep.") from None
    except ValueError as e:
        raise UsageError(f"{where} is not JSON: {e}.") from None
    if not isinstance(body, dict) or body.get("version") != VERSION:
        found = body.get("version") if isinstance(body, dict) else type(body).__name__
        raise UsageError(
            f"{where} is not a tfq plan of version {VERSION} (found: {found}). "
            f"Write one with --plan_out."
        )
    return body


def _plan_in(body: Mapping[str, Any], where: str) -> Plan:
    try:
        return Plan(
            read_value(str, body, "model_sha256"),
            # What is no record of settings at all, `load_plan` says.
            config_from_json(c) if isinstance(c := body["config"], dict) else c,
            read_entries(body, "tensors", tensor_from_json),
            read_entries(body, "ops", op_from_json),
            read_entries(body, "inputs", grid_from_json),
            read_entries(body, "outputs", grid_from_json),
            read_entries(body, "equalization", scales_from_json, optional=True),
            tuple(names_from_json(body.get("relaxed", []))),
            read_entries(body, "absorbed", absorbed_from_json, optional=True),
            read_entries(body, "detours", grid_from_json, optional=True),
            read_entries(body, "biases", arrays.from_json, optional=True),
            read_entries(body, "weights", arrays.from_json, optional=True),
            evidence.from_json(body.get("improvements", [])),
            read_value(str, body, "improved_sha256", ""),
        )
    except GARBLED as e:
        raise UsageError(
            f"{where} lacks or garbles a field ({type(e).__name__}: {e}). "
            f"Compare it with one written by --plan_out."
        ) from None


def check_replay(plan: Plan, model_sha256: str, names: set[str]) -> None:
    """Stops a plan from being replayed on another model.

    Raises:
      TfqError: the plan names tensors or ops that the model does not have, or lacks some.
    """
    if plan.model_sha256 != model_sha256 and set(plan.ops) != names:
        extra = sorted(set(plan.ops) - names)[:3]
        missing = sorted(names - set(plan.ops))[:3]
        raise TfqError(
            "The plan was made for another model: "
            + (f"it names {', '.join(extra)}, which this model lacks. " if extra else "")
            + (f"It says nothing of {', '.join(missing)}. " if missing else "")
            + "Make a new one with --plan_out."
        )
