"""What the user asked for: number formats, and how they are chosen, as one frozen value.

A `Config` is complete: with the same model and statistics it gives the same plan. Choices for some
layers only are `LayerRule`s, mixed precision of activations and of weights among them.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from tfq.calibrate.rules import RangeRule, get_rule
from tfq.calibrate.weight_rules import WEIGHT_RULES
from tfq.errors import UsageError, unknown_option

IO_TYPES = ("float32", "int8", "uint8", "int16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheme:
    """Number formats of a whole model.

    Attributes:
      name: what the user writes.
      activations: dtype that ops compute in: "int8", "int16", or "float32".
      weights: dtype that weights are stored in.
      compute: "integer" (weights and activations), "dynamic" (int8 weights, activations quantized
        by the kernel at run time), "stored" (weights are converted back to float before use).
    """

    name: str
    activations: str
    weights: str
    compute: str
    help: str


SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme(
            name="int8",
            activations="int8",
            weights="int8",
            compute="integer",
            help="full integer: 8-bit weights and activations",
        ),
        Scheme(
            name="int16x8",
            activations="int16",
            weights="int8",
            compute="integer",
            help="full integer: 8-bit weights, 16-bit activations",
        ),
        Scheme(
            name="dynamic",
            activations="float32",
            weights="int8",
            compute="dynamic",
            help="8-bit weights, activations quantized as they come; needs no data",
        ),
        Scheme(
            name="weight_only",
            activations="float32",
            weights="int8",
            compute="stored",
            help="8-bit weights, float arithmetic",
        ),
        Scheme(
            name="float16",
            activations="float32",
            weights="float16",
            compute="stored",
            help="half-precision weights, float arithmetic",
        ),
        Scheme(
            name="float32",
            activations="float32",
            weights="float32",
            compute="stored",
            help="no quantization",
        ),
    )
}


def get_scheme(scheme: str | Scheme) -> Scheme:
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise unknown_option("scheme", scheme, SCHEMES)
    return SCHEMES[scheme]


GRANULARITIES = ("per_channel", "per_tensor")
WEIGHT_BITS = (8, 4, 2)
EQUALIZATIONS = ("auto", "cross_layer", "none")


def check_weight_bits(bits: object) -> None:
    """Raises UsageError for widths of weights that no file can hold, or no kernel can read."""
    if isinstance(bits, bool) or bits not in WEIGHT_BITS:
        hint = (
            " One-bit weights come from training, and are stored in two: -1 and 1."
            if bits == 1
            else ""
        )
        raise UsageError(
            f"Weights have 8, 4 or 2 bits: .tflite has no integers of other widths that kernels "
            f"read as weights.{hint} Received: weight_bits={bits!r}."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRule:
    """A different choice for some layers.

    Attributes:
      regex: searched in the names of an op's outputs.
      activations: dtype those ops compute in ("int8", "int16", "float32"), or None for the
        scheme's. "float32" keeps the op float.
      granularity: "per_channel" or "per_tensor" weights, or None for the scheme's.
      weight_bits: 8, 4 or 2, or None for the model's.
    """

    regex: str
    activations: str | None = None
    granularity: str | None = None
    weight_bits: int | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.regex)
        except re.error as e:
            raise UsageError(f"{self.regex!r} is not a regular expression: {e}.") from None
        if self.activations not in (None, "int8", "int16", "float32"):
            raise unknown_option("activations", self.activations, ("int8", "int16", "float32"))
        if self.granularity not in (None, *GRANULARITIES):
            raise unknown_option("granularity", self.granularity, GRANULARITIES)
        if self.weight_bits is not None:
            check_weight_bits(self.weight_bits)

    def matches(self, name: str) -> bool:
        return re.search(self.regex, name) is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a plan, besides the model and its statistics.

    Attributes:
      scheme: number formats.
      calibration: how ranges are read from statistics.
      weights: "minmax" or "mse" scales.
      weight_bits: 8, 4 or 2: the grids of weights. They are stored in the narrowest type that the
        op's kernel reads rightly.
      granularity: of weights.
      dense_granularity: of fully connected weights ("per_tensor" for EdgeTPU and microcontrollers).
      equalization: of channels: "auto" (kept where it helps), "cross_layer" (always) or "none".
      input_type, output_type: dtype at the model's boundary; None for the scheme's own.
      input_range: real (lo, hi) that the input's integers span, or None to calibrate it.
      allow_float: op names or regexes of output names that may stay float.
      split_output: outputs whose parts are outputs of their own, by name.
      rules: choices for some layers; for each choice the first match that makes it wins.
      ranges: how the ranges of single tensors are read, by name, where not by `calibration`.
      io_types: types of single inputs and outputs, by tensor name, where not `input_type` and
        `output_type`.
      own_grids: names of tensors that have grids of their own though a concatenation, say, joins
        them with others: it requantizes them.
      weight_scales: of the constant weights of single ops, by the name of their first output,
        where not by `weights`: one for each channel, or one alone where the granularity is
        "per_tensor". Kernels that need larger ones get them, and the plan says so.
      asked: what the user said of improvements, by the option's name, for the record.
    """

    scheme: Scheme = SCHEMES["int8"]
    calibration: RangeRule = dataclasses.field(default_factory=lambda: get_rule("robust"))
    weights: str = "minmax"
    weight_bits: int = 8
    granularity: str = "per_channel"
    dense_granularity: str = "per_channel"
    equalization: str = "auto"
    input_type: str | None = None
    output_type: str | None = None
    input_range: tuple[float, float] | None = None
    allow_float: tuple[str, ...] = ()
    split_output: tuple[str, ...] = ()
    rules: tuple[LayerRule, ...] = ()
    ranges: Mapping[str, RangeRule] = dataclasses.field(default_factory=dict)
    io_types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    own_grids: tuple[str, ...] = ()
    weight_scales: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    asked: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [("input_type", self.input_type), ("output_type", self.output_type)]
        for what, value in [*given, *((f"type of {n}", v) for n, v in self.io_types.items())]:
            if value is not None and value not in IO_TYPES:
                raise unknown_option(what, value, IO_TYPES)
        if self.scheme.compute != "integer":
            for what, value in (("input_type", self.input_type), ("output_type", self.output_type)):
                if value not in (None, "float32"):
                    raise UsageError(
                        f"{what}={value} needs an integer scheme, but scheme={self.scheme.name} "
                        f"computes in float. Use --scheme=int8, or leave {what} out."
                    )
        for what, value, options in (
            ("weights rule", self.weights, WEIGHT_RULES),
            ("granularity", self.granularity, GRANULARITIES),
            ("dense granularity", self.dense_granularity, GRANULARITIES),
            ("equalization", self.equalization, EQUALIZATIONS),
        ):
            if value not in options:
                raise unknown_option(what, value, options)
        check_weight_bits(self.weight_bits)
        for name, scales in self.weight_scales.items():
            if not scales or not all(math.isfinite(s) and s > 0 for s in scales):
                raise UsageError(f"Scales of weights are positive numbers. At {name!r}: {scales}.")
        if self.scheme.weights != "int8" and self._narrow_weights:
            raise UsageError(
                f"weight_bits={self._narrow_weights[0]} needs a scheme with integer weights, but "
                f"scheme={self.scheme.name} has {self.scheme.weights}. Use --scheme=int8 or "
                "--scheme=weight_only, or leave weight_bits out."
            )
        wide = [r.regex for r in self.rules if r.activations in ("int8", "int16")]
        if wide and self.scheme.compute != "integer":
            raise UsageError(
                f"{wide[0]!r} is to be computed in integers, but scheme={self.scheme.name} "
                "computes in float. Use --scheme=int8, or leave the rule out."
            )
        if self.equalization == "cross_layer" and self.scheme.compute != "integer":
            raise UsageError(
                f"equalization=cross_layer needs an integer scheme, but scheme={self.scheme.name} "
                "computes in float. Use --scheme=int8, or leave equalization out."
            )
        if self.input_range is not None:
            lo, hi = self.input_range
            if not (lo < hi and lo <= 0 <= hi and math.isfinite(hi - lo)):
                raise UsageError(
                    f"input_range must be lo,hi with lo <= 0 <= hi. Received: {lo},{hi}."
                )
            if self.scheme.compute != "integer":
                raise UsageError(
                    f"input_range needs an integer scheme, but scheme={self.scheme.name} takes "
                    "float inputs. Use --scheme=int8, or leave input_range out."
                )

    @property
    def _narrow_weights(self) -> list[int]:
        """Widths below 8 bits that are asked for somewhere."""
        asked = [self.weight_bits, *(r.weight_bits for r in self.rules)]
        return [bits for bits in asked if bits is not None and bits < 8]

    def range_rule(self, tensor: str) -> RangeRule:
        """How the range of one tensor is read from its statistics."""
        return self.ranges.get(tensor, self.calibration)

    def input_type_of(self, tensor: str) -> str | None:
        """The dtype of one input at the model's boundary; None for the scheme's own."""
        return self.io_types.get(tensor, self.input_type)

    def output_type_of(self, tensor: str) -> str | None:
        """The same of one output."""
        return self.io_types.get(tensor, self.output_type)

    def rule_for(self, name: str, choice: str) -> LayerRule | None:
        """The first rule for an output that makes a choice, the name of one of its attributes."""
        found = (r for r in self.rules if getattr(r, choice) is not None)
        return next((r for r in found if r.matches(name)), None)

    def granularity_of(self, op: str, output: str) -> str:
        """That of the weights of one op, by its name and its output's."""
        rule = self.rule_for(output, "granularity")
        if rule is not None and rule.granularity is not None:
            return rule.granularity
        return self.dense_granularity if op == "FULLY_CONNECTED" else self.granularity

    def weight_bits_of(self, output: str) -> int:
        """Those of the weights of one op, by its output's name."""
        rule = self.rule_for(output, "weight_bits")
        if rule is not None and rule.weight_bits is not None:
            return rule.weight_bits
        return self.weight_bits

    def as_dict(self) -> dict[str, Any]:
        """For plans and summaries."""
        return {
            "scheme": self.scheme.name,
            "calibration": self.calibration.get_config(),
            "weights": self.weights,
            "weight_bits": self.weight_bits,
            "granularity": self.granularity,
            "dense_granularity": self.dense_granularity,
            "equalization": self.equalization,
            "input_type": self.input_type,
            "output_type": self.output_type,
            "input_range": list(self.input_range) if self.input_range else None,
            "allow_float": list(self.allow_float),
            "split_output": list(self.split_output),
            "rules": [dataclasses.asdict(r) for r in self.rules],
            **(
                {"ranges": {n: r.get_config() for n, r in self.ranges.items()}}
                if self.ranges
                else {}
            ),
            **({"io_types": dict(self.io_types)} if self.io_types else {}),
            **({"own_grids": list(self.own_grids)} if self.own_grids else {}),
            # The scales themselves are in the plan's grids.
            **({"weight_scales": list(self.weight_scales)} if self.weight_scales else {}),
            **({"asked": dict(self.asked)} if self.asked else {}),
        }
