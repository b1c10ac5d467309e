"""The plan: for every tensor and operator what it becomes and why. Plain data, JSON in and out.

A plan is the whole truth: with it and the float model, emission has nothing left to decide.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from tfq.errors import TfqError, UsageError
from tfq.files import read_bytes, write_atomic
from tfq.graph.model import Model
from tfq.graph.notes import GARBLED, no_number, read_note
from tfq.graph.numerics import Grid
from tfq.plan import arrays, evidence
from tfq.plan.evidence import Evidence
from tfq.plan.scheme import LayerRule

VERSION = 1

# A sample that reaches so many times beyond its input's grid is not what the grid was made for.
_ABSURD = 2.0

_MOST_DIMENSIONS = 8

# How an op is emitted.
INTEGER = "integer"  # by its integer kernel
LOOKUP = "lookup"  # as a table: the end of a chain of elementwise ops of one tensor
INSIDE = "inside"  # not at all: its values are inside a later op's table
PLAIN = "plain"  # as it is: shapes, indices, booleans
KEEP_FLOAT = "float"  # by its float kernel
MODES = (INTEGER, LOOKUP, INSIDE, PLAIN, KEEP_FLOAT)

# Which integers of its argument a table has rows for.
WHOLE = "whole"  # all
HALF = "half"  # those from zero on, of 16 bits
POWER = "power"  # those of 32 bits, from zero on, the large ones together
TABLES = (WHOLE, HALF, POWER)

# How a constant may be rounded, beside to the nearest.
ROUNDINGS = ("down", "up")

# Fused activations that may stand for others.
ACTIVATIONS = ("NONE", "RELU")


@dataclasses.dataclass(frozen=True)
class TensorPlan:
    """The grid on which a computed tensor is produced, and the reason for it."""

    grid: Grid
    reason: str


@dataclasses.dataclass(frozen=True)
class OpPlan:
    """How one op is emitted.

    Attributes:
      op: its name, for readers.
      mode: one of MODES.
      edges: input index -> the grid on which this op reads that input, where it is a constant or
        differs from the grid on which the input is produced.
      root: for LOOKUP, the tensor that the table is a function of.
      reason: why, when it is not the ordinary integer kernel.
      rounding: input index -> how that constant is rounded, "down" or "up", where not to the
        nearest: thresholds.
      narrow: constant weights leave out the lowest integer of their type.
      bias: False where the bias is all zero and the kernel does without: it is not emitted, unless
        the plan gives integers for it.
      cast: the type that the quantized inputs are cast to first: "int32" or None.
      clamp: (lowest, highest) integer to keep those within then: what bounds |x| in sums of x * x.
      kernel: name of the op that is emitted in its place: clamps out of the grid's reach.
      activation: fused activation in the place of its own, one of ACTIVATIONS: the same.
      hybrid: for KEEP_FLOAT, that the kernel reads integer weights itself; otherwise a DEQUANTIZE
        does.
      table: for LOOKUP, one of TABLES.
      snap: for LOOKUP, that an argument within half a step of a whole number stands for it.
    """

    op: str
    mode: str
    edges: Mapping[int, Grid] = dataclasses.field(default_factory=dict)
    root: str | None = None
    reason: str = ""
    rounding: Mapping[int, str] = dataclasses.field(default_factory=dict)
    narrow: bool = True
    bias: bool = True
    cast: str | None = None
    clamp: tuple[int, int] | None = None
    kernel: str | None = None
    activation: str | None = None
    hybrid: bool = False
    table: str = WHOLE
    snap: bool = False


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
            **({"relaxed": list(self.relaxed)} if self.relaxed else {}),
            **({"equalization": scales} if (scales := _lists(self.equalization)) else {}),
            **({"absorbed": moved} if (moved := _lists(self.absorbed)) else {}),
            "inputs": {n: _grid_out(g) for n, g in self.inputs.items()},
            "outputs": {n: _grid_out(g) for n, g in self.outputs.items()},
            **({"detours": detours} if (detours := self._detours_out()) else {}),
            "tensors": {
                n: {**_grid_out(t.grid), "reason": t.reason} for n, t in self.tensors.items()
            },
            "ops": {n: _op_out(op) for n, op in self.ops.items()},
            **extra,
        }
        return json.dumps(body, indent=1, allow_nan=False)

    def _detours_out(self) -> dict[str, Any]:
        return {name: _grid_out(grid) for name, grid in self.detours.items()}

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
            _typed(str, body, "model_sha256"),
            # What is no record of settings at all, `load_plan` says.
            _config_in(c) if isinstance(c := body["config"], dict) else c,
            _each(body, "tensors", _tensor_in),
            _each(body, "ops", _op_in),
            _each(body, "inputs", _grid_in),
            _each(body, "outputs", _grid_in),
            _each(body, "equalization", _scales_in, optional=True),
            tuple(_names_in(body.get("relaxed", []))),
            _each(body, "absorbed", _moved_in, optional=True),
            _each(body, "detours", _grid_in, optional=True),
            _each(body, "biases", arrays.from_json, optional=True),
            _each(body, "weights", arrays.from_json, optional=True),
            evidence.from_json(body.get("improvements", [])),
        )
    except GARBLED as e:
        raise UsageError(
            f"{where} lacks or garbles a field ({type(e).__name__}: {e}). "
            f"Compare it with one written by --plan_out."
        ) from None


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
    return read_note(model, _METADATA, _config_in) or {}


def _config_in(body: Mapping[str, Any]) -> dict[str, Any]:
    known = [f.name for f in dataclasses.fields(LayerRule)]
    for key in ("allow_float", "split_output", "own_grids"):
        names = body.get(key) or []
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ValueError(f"{key!r} is not a list of names: {names!r}")
    if not isinstance(body.get("ranges") or {}, dict):
        raise ValueError(f"'ranges' is not a section: {body['ranges']!r}")
    for rule in body.get("rules") or ():
        LayerRule(**{name: rule[name] for name in known if name in rule})
    return dict(body)


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


def _grid_out(grid: Grid) -> dict[str, Any]:
    out: dict[str, Any] = {"dtype": grid.dtype}
    if grid.scale:
        single = len(grid.scale) == 1
        out["scale"] = grid.scale[0] if single else list(grid.scale)
        zeros = set(grid.zero_point)
        out["zero_point"] = grid.zero_point[0] if len(zeros) == 1 else list(grid.zero_point)
        if grid.axis is not None:
            out["axis"] = grid.axis
        if grid.bits is not None:
            out["bits"] = grid.bits
    return out


Entry = TypeVar("Entry")


def _each(
    body: Mapping[str, Any], section: str, read: Callable[[Any], Entry], *, optional: bool = False
) -> dict[str, Entry]:
    """Every entry of a section, read; what is wrong with one is said with its name."""
    if optional and section not in body:
        return {}
    found = {}
    for name, entry in body[section].items():
        try:
            found[name] = read(entry)
        except GARBLED as e:
            raise ValueError(f"in {section!r} at {name!r}: {type(e).__name__}: {e}") from None
    return found


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else no_number(text)


_KINDS = {str: "text", int: "a whole number", bool: "true or false"}


def _typed(kind: type, body: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value at `key`, of exactly that type: True is no number, and "8" none either."""
    value = body[key] if default is None else body.get(key, default)
    if type(value) is not kind:
        raise ValueError(f"{key!r} is not {_KINDS[kind]}: {value!r}")
    return value


def _optional(kind: type, body: Mapping[str, Any], key: str) -> Any:
    return None if body.get(key) is None else _typed(kind, body, key)


def _numbers(values: Any, kinds: tuple[type, ...]) -> list[Any]:
    """One number or a list of them."""
    found = values if isinstance(values, list) else [values]
    if not all(type(v) in kinds for v in found):
        raise ValueError(f"bad scale or zero point: {values!r}")
    return found


def _tensor_in(body: Mapping[str, Any]) -> TensorPlan:
    return TensorPlan(_grid_in(body), _typed(str, body, "reason"))


def _grid_in(body: Mapping[str, Any]) -> Grid:
    dtype = _typed(str, body, "dtype")
    if "scale" not in body:
        return Grid(dtype)
    # A hand-edited scale is rounded to the float32 that the file can hold.
    with np.errstate(over="ignore"):
        scale = tuple(float(np.float32(s)) for s in _numbers(body["scale"], (int, float)))
    zero = body["zero_point"]
    zeros = _numbers(zero, (int,)) * (1 if isinstance(zero, list) else len(scale))
    if not scale or len(zeros) != len(scale) or not all(np.isfinite(s) and s > 0 for s in scale):
        raise ValueError(f"bad scale or zero point: {body}")
    axis = _optional(int, body, "axis")
    if axis is not None and not 0 <= axis < _MOST_DIMENSIONS:
        raise ValueError(f"bad axis: {axis}")
    return Grid(dtype, scale, tuple(zeros), axis, _optional(int, body, "bits"))


def _lists(values: Mapping[str, tuple[float, ...]]) -> dict[str, list[float]]:
    return {name: list(v) for name, v in values.items()}


def _names_in(body: Any) -> list[str]:
    if not isinstance(body, list) or not all(isinstance(n, str) for n in body):
        raise ValueError(f"'relaxed' is not a list of names: {body!r}")
    return body


def _moved_in(body: list[float]) -> tuple[float, ...]:
    moved = tuple(float(v) for v in _numbers(body, (int, float)))
    if not isinstance(body, list) or not all(math.isfinite(v) and v >= 0 for v in moved):
        raise ValueError(f"bad parts of biases: {body}")
    return moved


def _scales_in(body: list[float]) -> tuple[float, ...]:
    factors = tuple(float(f) for f in _numbers(body, (int, float)))
    if not isinstance(body, list) or not all(math.isfinite(f) and f > 0 for f in factors):
        raise ValueError(f"bad scales: {body}")
    return factors


def _op_out(op: OpPlan) -> dict[str, Any]:
    out: dict[str, Any] = {"op": op.op, "mode": op.mode}
    if op.edges:
        out["inputs"] = {str(i): _grid_out(g) for i, g in op.edges.items()}
    if op.root is not None:
        out["root"] = op.root
    if op.reason:
        out["reason"] = op.reason
    if op.rounding:
        out["rounding"] = {str(i): how for i, how in op.rounding.items()}
    if op.clamp is not None:
        out["clamp"] = list(op.clamp)
    for field in _SHORT:
        if (value := getattr(op, field.name)) != field.default:
            out[field.name] = value
    return out


# Fields of ops that are written as they are, where they are not what they are mostly.
_SHORT = [
    f
    for f in dataclasses.fields(OpPlan)
    if f.name in ("narrow", "bias", "cast", "kernel", "activation", "hybrid", "table", "snap")
]


def _one_of(values: tuple[str, ...], found: Any) -> str:
    if found not in values:
        raise ValueError(f"{found!r} is none of {', '.join(values)}")
    return found


def _clamp_in(values: Any) -> tuple[int, int]:
    whole = isinstance(values, list) and len(values) == 2 and all(type(v) is int for v in values)
    if not whole or not -(2**31) <= values[0] <= values[1] < 2**31:
        raise ValueError(f"'clamp' is not the lowest and the highest integer: {values!r}")
    return values[0], values[1]


def _op_in(body: Mapping[str, Any]) -> OpPlan:
    if body["mode"] not in MODES:
        raise ValueError(f"unknown mode {body['mode']!r}; one of {', '.join(MODES)}")
    cast = _optional(str, body, "cast")
    activation = _optional(str, body, "activation")
    return OpPlan(
        _typed(str, body, "op"),
        body["mode"],
        {int(i): _grid_in(g) for i, g in body.get("inputs", {}).items()},
        _optional(str, body, "root"),
        _typed(str, body, "reason", ""),
        {int(i): _one_of(ROUNDINGS, how) for i, how in body.get("rounding", {}).items()},
        _typed(bool, body, "narrow", True),
        _typed(bool, body, "bias", True),
        None if cast is None else _one_of(("int32",), cast),
        None if body.get("clamp") is None else _clamp_in(body["clamp"]),
        _optional(str, body, "kernel"),
        None if activation is None else _one_of(ACTIVATIONS, activation),
        _typed(bool, body, "hybrid", False),
        _one_of(TABLES, body.get("table", WHOLE)),
        _typed(bool, body, "snap", False),
    )
