"""What `convert_model` was called with: wrong types and contradictions, found before the work."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tfq.calibrate.statistics import Statistics
from tfq.convert.quality import choose_weights, get_quality
from tfq.convert.refusals import without_samples
from tfq.data import DataOptions, check_data, saved_data_path
from tfq.errors import UsageError
from tfq.graph.numerics import LIMITS, Grid
from tfq.plan.plan import Plan
from tfq.plan.scheme import IO_TYPES, Config, LayerRule, get_scheme
from tfq.sources import certainly_untrained


def load_plan(plan: Plan | str | os.PathLike[str] | None) -> Plan | None:
    """Reads a plan and checks that its grids can be those of tensors.

    Raises:
      UsageError: there is no such file, it is not a plan, or it was edited into nonsense.
    """
    if plan is None:
        return None
    if isinstance(plan, Plan):
        loaded, where = plan, "the plan"
    else:
        where = os.fspath(plan)
        loaded = Plan.load(where)
    places = [
        *(("inputs", n, g) for n, g in loaded.inputs.items()),
        *(("outputs", n, g) for n, g in loaded.outputs.items()),
        *(("detours", n, g) for n, g in loaded.detours.items()),
        *(("tensors", n, t.grid) for n, t in loaded.tensors.items()),
        *(("ops", f"{n}, input {i}", g) for n, o in loaded.ops.items() for i, g in o.edges.items()),
    ]
    if not isinstance(loaded.config, Mapping):
        raise UsageError(f"{where} has no settings in 'config'. Undo the last edit.")
    for section, name, grid in places:
        # An input of indices has no scale; it is not among the tensors that were given grids.
        boundary = section in ("inputs", "outputs")
        free = boundary and name not in loaded.tensors
        if boundary and not free and grid.dtype not in IO_TYPES:
            wrong = f"{grid.dtype}, which is none of {', '.join(IO_TYPES)},"
        else:
            wrong = _wrong_grid(grid, free=free)
        if wrong:
            raise UsageError(f"{where} has {wrong} in {section!r} at {name!r}. Undo the last edit.")
    return loaded


# Kernels take these to lie around zero, as the LiteRT specification has it.
_SYMMETRIC = ("int2", "int4", "int16", "int32", "int64")
_OTHER_TYPES = ("float32", "float16", "bool", "uint32", "int32", "int64", "string")


def _wrong_grid(grid: Grid, *, free: bool) -> str:
    """What is wrong with a grid that a person wrote, or ""."""
    if grid.dtype not in LIMITS and grid.dtype not in _OTHER_TYPES:
        return f"the unknown dtype {grid.dtype!r}"
    if not grid.scale:
        return "" if free or grid.dtype in _OTHER_TYPES else f"{grid.dtype} without a scale"
    if grid.dtype not in LIMITS:
        return f"a scale for {grid.dtype}"
    if grid.bits is not None and LIMITS.get(f"int{grid.bits}", (0, 0))[1] > LIMITS[grid.dtype][1]:
        return f"{grid.bits} bits, which are more than {grid.dtype} has,"
    if grid.bits is not None and f"int{grid.bits}" not in LIMITS:
        return f"integers of {grid.bits} bits, which do not exist,"
    if grid.dtype in _SYMMETRIC and any(grid.zero_point):
        return f"{grid.dtype} with the zero point {next(filter(None, grid.zero_point))}, not 0,"
    lo, hi = LIMITS[grid.dtype]
    bad = [z for z in grid.zero_point if not lo <= z <= hi]
    return f"the zero point {bad[0]}, outside of {grid.dtype}" if bad else ""


# The share of operations that `int16=auto` widens at most.
_SHARE = 10.0


def int16_share(option: object, default: str, scheme: str) -> float:
    """The share of operations, 0 to 1, that an `int16` option lets compute in 16 bits; 0: none.

    Args:
      option: "none", "auto", or "auto:PERCENT"; None for the default.
      default: what is done where the scheme computes in 8 bits.
      scheme: the scheme's name.

    Raises:
      UsageError: it is none of these, or the scheme does not compute in 8 bits.
    """
    if option is None:
        option = default if scheme == "int8" else "none"
    if option == "none":
        return 0.0
    word, colon, percent = str(option).partition(":")
    try:
        share = float(percent) if colon else _SHARE
    except ValueError:
        share = 0.0
    if word != "auto" or not 0.0 < share <= 100.0:
        raise UsageError(
            "int16 is auto, auto:PERCENT (of the operations, above 0 and up to 100) or none. "
            f"Layers by name: --int16=REGEX, or rules in Python. Received: int16={option!r}."
        )
    if scheme != "int8":
        raise UsageError(
            f"int16={option} widens layers of 8 bits, but scheme={scheme} has none. Use "
            "--scheme=int8, or leave int16 out."
        )
    return share / 100.0


def check_types(
    rules: object,
    input_range: object,
    samples: object,
    data_options: object,
    statistics: object,
    plan: object,
    progress: object,
) -> None:
    """Raises UsageError for an argument of a type that would fail far from the call."""
    if not isinstance(rules, Sequence) or not all(isinstance(r, LayerRule) for r in rules):
        raise UsageError(f"rules is a list of LayerRule. Received: {rules!r}.")
    if input_range is not None and not (
        isinstance(input_range, Sequence)
        and len(input_range) == 2
        and all(isinstance(v, int | float) for v in input_range)
    ):
        raise UsageError(f"input_range is two numbers, (lo, hi). Received: {input_range!r}.")
    if samples is not None and (isinstance(samples, bool) or not isinstance(samples, int)):
        raise UsageError(f"samples is a whole number. Received: {samples!r}.")
    if progress is not None and not callable(progress):
        raise UsageError(f"progress is a function(stage, done, total). Received: {progress!r}.")
    for what, value, kinds in (
        ("data_options", data_options, (DataOptions,)),
        ("statistics", statistics, (Statistics, str, os.PathLike)),
        ("plan", plan, (Plan, str, os.PathLike)),
    ):
        if value is not None and not isinstance(value, kinds):
            names = " or ".join(k.__name__ for k in kinds)
            raise UsageError(f"{what} is a {names}. Received: {value!r}.")


def check_samples(
    source: Any,
    data: Any,
    options: DataOptions | None,
    limit: int | None,
    config: Config,
    *,
    needed: bool,
) -> None:
    """Raises for samples that are missing or damaged before a model is converted for them.

    Args:
      source, data, options, limit, config: as `convert_model` got them.
      needed: whether an integer scheme has nothing else to take ranges from, but what training left
        in the model.

    Raises:
      DataError, UsageError: as `check_data`, and where it is certain that there is nothing.
    """
    if data is None and isinstance(source, str | os.PathLike):
        data = saved_data_path(source)
    if data is not None:
        check_data(data, options=options, limit=limit)
    elif needed and config.scheme.compute == "integer" and certainly_untrained(source):
        raise without_samples(config)


def _defaults(plan: Plan, made: Mapping[str, str]) -> dict[str, str]:
    """What a plan's own run did where it was not told, by the option's name."""
    level, config = get_quality(made.get("quality", "default")), plan.config
    rules = [LayerRule(regex="", weight_bits=r.get("weight_bits")) for r in config.get("rules", ())]
    scheme = get_scheme(str(config.get("scheme")))
    bits = config.get("weight_bits", 8)
    return {
        "quality": level.name,
        "calibration": level.calibration,
        "weights": choose_weights(None, level, scheme, bits, rules),
        "equalization": level.equalization,
        "bias_correction": level.bias_correction,
        "int16": level.int16 if scheme.name == "int8" else "none",
    }


def check_plan_options(plan: Plan, config: Config, excluded: Sequence[str]) -> None:
    """A replayed plan has decided already; an option that says otherwise would be ignored.

    What the plan's own run was given is no other.

    Raises:
      UsageError: the scheme is another, or an option was given that the plan was not made with.
    """
    default, asked = Config().as_dict(), config.as_dict()
    scheme = plan.config.get("scheme")
    if asked["scheme"] != scheme:
        raise UsageError(
            f"The plan was made with scheme={scheme}. Received: scheme={asked['scheme']}. "
            f"Say --scheme={scheme}, or make a new plan."
        )
    made = plan.config.get("asked") or {}
    defaults = _defaults(plan, made)
    for name, value in asked.pop("asked", {}).items():
        was = made.get(name, defaults[name])
        if value != was:
            raise UsageError(
                f"A plan is replayed as it is, so {name}={value} would have no effect: it was made "
                f"with {name}={was}. Leave {name} out, or make a new plan with --plan_out."
            )
    for name in defaults:
        asked.pop(name, None)
    # The plan's own record went through JSON.
    asked, default = json.loads(json.dumps(asked)), json.loads(json.dumps(default))
    ignored = {n: v for n, v in asked.items() if v != default[n] and v != plan.config.get(n)}
    for name, value in ignored.items():
        if excluded and name in ("allow_float", "rules"):
            name, value = "exclude", list(excluded)
        raise UsageError(
            f"A plan is replayed as it is, so {name} would have no effect. Leave it out, edit "
            f"the plan, or make a new one with --plan_out. Received: {name}={value!r}."
        )
