"""What the user asks for: a scheme for the whole model, and rules for some of its layers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfq.errors import UsageError, unknown_option
from tfq.keras.quantizers import (
    ActivationQuantizer,
    WeightQuantizer,
    get_activation_quantizer,
    get_weight_quantizer,
)

__all__ = ["SCHEMES", "Choices", "Rule", "Scheme"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheme:
    """Quantizers of a whole model.

    Attributes:
      weights: name of the weights' quantizer.
      weight_bits: 8, 4 or 2; 1 for binary weights.
      activation_bits: 8 or 16.
      edges_8_bits: the first and the last weighted layer and depthwise ones keep 8 bits: they hold
        few of the weights and most of the loss.
    """

    weights: str = "minmax"
    weight_bits: int = 8
    activation_bits: int = 8
    edges_8_bits: bool = False


SCHEMES = {
    "int8": Scheme(),
    "int16x8": Scheme(activation_bits=16),
    "w4a8": Scheme(weights="lsq", weight_bits=4),
    "w4a16": Scheme(weights="lsq", weight_bits=4, activation_bits=16),
    "w2a8": Scheme(weights="lsq", weight_bits=2, edges_8_bits=True),
    "ternary": Scheme(weights="ternary", weight_bits=2, edges_8_bits=True),
    "binary": Scheme(weights="binary", weight_bits=1, edges_8_bits=True),
}

# Quantizers by name that take their width from the scheme.
_RANGED = ("minmax", "mse", "lsq", "mean_deviation")

_FIELDS = ("regex", "weights", "activations")
_UNSET = object()


@dataclasses.dataclass(frozen=True)
class Rule:
    """Quantizers of the layers whose name or path matches.

    Attributes:
      regex: searched in the layer's path ("backbone/conv1").
      weights, activations: a quantizer's name, config or object, or None to leave them to
        calibration at conversion; left out, the scheme's stay.
    """

    regex: str
    weights: Any = _UNSET
    activations: Any = _UNSET

    @staticmethod
    def of(given: Any) -> Rule:
        """A rule from a dict or a Rule.

        Raises:
          UsageError: it is neither, has unknown or missing fields, or an invalid regex.
        """
        if isinstance(given, Rule):
            return given
        if not isinstance(given, Mapping):
            raise UsageError(
                f'A rule is a dict like {{"regex": "conv", "weights": "lsq"}}. Received: {given!r}.'
            )
        for field in given:
            if field not in _FIELDS:
                raise unknown_option("field of a rule", str(field), _FIELDS)
        if "regex" not in given or len(given) < 2:
            raise UsageError(
                'A rule has a "regex" and "weights" or "activations" or both. '
                f"Received: {dict(given)!r}."
            )
        try:
            re.compile(given["regex"])
        except (re.error, TypeError) as e:
            raise UsageError(
                f"The regex of a rule cannot be read ({e}). Received: {given['regex']!r}."
            ) from None
        return Rule(**given)

    def matches(self, path: str) -> bool:
        return re.search(self.regex, path) is not None


class Choices:
    """Which quantizer each layer gets.

    Args:
      scheme: name of a scheme.
      weights, activations: in place of the scheme's: a name, config or object; None for the
        scheme's own.
      rules: for some layers.
      edges: paths of layers that the scheme leaves at 8 bits; `weights` and rules that are
        objects bring a width of their own.

    Raises:
      UsageError: an unknown scheme or quantizer, or a rule that cannot be read.
    """

    def __init__(
        self,
        scheme: str,
        weights: Any,
        activations: Any,
        rules: Sequence[Any],
        edges: frozenset[str] = frozenset(),
    ):
        if not isinstance(scheme, str) or scheme not in SCHEMES:
            scheme = str(scheme)
            raise unknown_option("scheme", scheme, SCHEMES)
        self.scheme = SCHEMES[scheme]
        if isinstance(rules, Mapping | str) or not isinstance(rules, Sequence):
            raise UsageError(
                'rules is a list of dicts like {"regex": "conv", "weights": "lsq"}. '
                f"Received: {rules!r}."
            )
        self.rules = [Rule.of(r) for r in rules]
        self.edges = edges
        self._weights = weights
        self._activations = activations
        self.weights_for("")
        self.activations_for("")
        for rule in self.rules:
            if rule.weights is not _UNSET and rule.weights is not None:
                self._weight_quantizer(rule.weights)
            if rule.activations is not _UNSET and rule.activations is not None:
                self._activation_quantizer(rule.activations)

    def check_rules(self, paths: Sequence[str], with_kernels: Sequence[str]) -> None:
        """Raises UsageError for rules that match nothing, or that contradict each other."""
        for rule in self.rules:
            if not any(rule.matches(p) for p in paths):
                names = ", ".join(list(paths)[:8])
                raise UsageError(
                    f"The rule {rule.regex!r} matches no layer. The model's layers are: {names}"
                    f"{', ...' if len(paths) > 8 else ''}."
                )
            if rule.weights not in (_UNSET, None) and rule.activations is _UNSET:
                if not any(rule.matches(p) for p in with_kernels):
                    raise UsageError(
                        f"The rule {rule.regex!r} is for weights, but no layer that it matches "
                        "has a kernel."
                    )
        for path in paths:
            for field in ("weights", "activations"):
                found = [
                    (r.regex, getattr(r, field))
                    for r in self.rules
                    if r.matches(path) and getattr(r, field) is not _UNSET
                ]
                if len({_identity(value) for _, value in found}) > 1:
                    (first, a), (second, b) = (
                        found[0],
                        next(f for f in found if _identity(f[1]) != _identity(found[0][1])),
                    )
                    raise UsageError(
                        f"Two rules contradict each other on the {field} of layer {path!r}: "
                        f"{first!r} says {a!r}, {second!r} says {b!r}. Make their regexes apart."
                    )

    def _ruled(self, path: str, field: str) -> Any:
        for rule in self.rules:
            value = getattr(rule, field)
            if value is not _UNSET and rule.matches(path):
                return value
        return _UNSET

    def left(self, path: str) -> bool:
        """Whether rules leave both the weights and the output of a layer to calibration."""
        return self._ruled(path, "weights") is None and self._ruled(path, "activations") is None

    def rules_activations(self, path: str) -> bool:
        """Whether a rule says what the output of a layer gets."""
        return self._ruled(path, "activations") is not _UNSET

    def weights_for(self, path: str) -> WeightQuantizer | None:
        """A quantizer for the kernels of a layer, or None to leave them."""
        ruled = self._ruled(path, "weights") if path else _UNSET
        if ruled is not _UNSET:
            return None if ruled is None else self._weight_quantizer(ruled)
        if path in self.edges and (self._weights is None or isinstance(self._weights, str)):
            named = self._weights if self._weights in _RANGED else "minmax"
            return get_weight_quantizer(named, bits=8)
        return self._weight_quantizer(
            self.scheme.weights if self._weights is None else self._weights
        )

    def activations_for(self, path: str) -> ActivationQuantizer | None:
        """A quantizer for the output of a layer, or None to leave it to calibration."""
        ruled = self._ruled(path, "activations") if path else _UNSET
        if ruled is not _UNSET:
            return None if ruled is None else self._activation_quantizer(ruled)
        given = "moving_average" if self._activations is None else self._activations
        return self._activation_quantizer(given)

    def _weight_quantizer(self, given: Any) -> WeightQuantizer:
        if given in _RANGED:
            # Of the scheme "binary": the narrowest width that has a range.
            return get_weight_quantizer(given, bits=max(self.scheme.weight_bits, 2))
        return get_weight_quantizer(given)

    def _activation_quantizer(self, given: Any) -> ActivationQuantizer:
        quantizer = get_activation_quantizer(given, bits=self.scheme.activation_bits)
        if quantizer.bits != self.scheme.activation_bits:
            raise UsageError(
                f"The scheme computes with {self.scheme.activation_bits}-bit activations, which "
                f"have one width in a model. Received: {type(quantizer).__name__}(bits="
                f"{quantizer.bits}). Give it bits={self.scheme.activation_bits}, or choose "
                "another scheme."
            )
        return quantizer


def _identity(value: Any) -> str:
    """Equal for quantizers that are configured alike."""
    if isinstance(value, WeightQuantizer | ActivationQuantizer):
        config = {k: v for k, v in value.get_config().items() if k != "name"}
        return f"{type(value).__name__} {sorted(config.items(), key=lambda i: i[0])}"
    return repr(value)
