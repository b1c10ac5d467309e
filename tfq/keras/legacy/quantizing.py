"""Quantization-aware training of a tf_keras model, by tensorflow-model-optimization's wrappers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfq.data import open_data
from tfq.errors import UsageError, unknown_option
from tfq.graph.interface import ArgSpec
from tfq.keras.legacy.backend import annotate, quantization, quantize_config, tf_keras, wrapper
from tfq.keras.legacy.models import check_model, copy_model
from tfq.keras.legacy.quantizers import observing
from tfq.keras.legacy.scheme import Choice, Scheme, custom_objects

_BITS = {"int8": 8, "w4a8": 4}
_KERAS_3 = "Keras 3 models have all of tfq's"
_BATCH = 32


def quantize(
    model: Any,
    scheme: str = "int8",
    *,
    weights: Any = None,
    activations: Any = None,
    rules: Sequence[Mapping[str, Any]] | Mapping[str, Any] = (),
    data: Any = None,
    samples: int | None = None,
) -> Any:
    """A trainable tf_keras model of the same weights that computes as its integers will.

    It is a model of tensorflow-model-optimization (`quantize_apply`), uncompiled, with the
    differences that `docs/from-tfmot.md` lists: a scale per channel in every kernel, activation
    ranges that start from `data`, and zeros of a pruned kernel that stay zero. Save it as .h5
    (loaded under `tfq.keras.legacy.scope()`) or SavedModel; .keras files of wrapped models cannot
    be loaded.

    Args:
      model: Functional or Sequential, built; neither changed nor shared with the result.
      scheme: "int8", or "w4a8" for 4-bit weights.
      weights: None or "minmax", the only one here.
      activations: None or "moving_average", the only one here.
      rules: dicts {"regex": ..., "weights": ..., "activations": ...}. The regex is searched in
        layers' names; None leaves a layer's weights or activations float.
      data: samples from which ranges start, in any form `tfq.convert_model` takes. Without them
        they start from the first batch of the training.
      samples: at most so many samples of `data`.

    Returns:
      A tf_keras model.

    Raises:
      UsageError: a scheme, quantizer or rule that is unknown or not for tf_keras models, a rule
        that matches no layer or contradicts another, a model that is not built.
      ModelError: the model is subclassed, nested or wrapped already, or has layers that
        tensorflow-model-optimization does not know.
    """
    if scheme not in _BITS:
        raise _only("scheme", scheme, _BITS)
    _check_quantizer("weights", weights, "minmax")
    _check_quantizer("activations", activations, "moving_average")
    check_model(model, "quantize")
    choices = _choices(model, _BITS[scheme], [rules] if isinstance(rules, Mapping) else rules)
    copy = copy_model(model)

    def annotated(layer: Any) -> Any:
        choice = choices[layer.name]
        if choice.bits is None and not choice.activations:
            return layer
        return annotate.QuantizeAnnotate(layer)

    marked = tf_keras.models.clone_model(copy, clone_function=annotated)
    with scope():
        quantized = quantization.quantize_apply(marked, Scheme(choices))
    for layer in quantized.layers:
        if isinstance(layer, wrapper.QuantizeWrapper):
            _finish(layer)
    if data is not None:
        with observing():
            for batch in _batches(model, data, samples):
                quantized(batch, training=False)
    return quantized


def scope() -> Any:
    """`quantize_scope` with tfq's quantizers."""
    return quantization.quantize_scope(custom_objects())


def _finish(layer: Any) -> None:
    config = layer.quantize_config
    if isinstance(config, quantize_config.OutputOnlyConfig):
        # The class for layers around quantized ones: it cannot be saved, what it holds can.
        layer.quantize_config = config.quantize_config
    for weight, quantizer, variables in layer._weight_vars:
        if quantizer.sparse:
            variables["mask"].assign(np.asarray(weight) != 0)


def _choices(model: Any, bits: int, rules: Sequence[Mapping[str, Any]]) -> dict[str, Choice]:
    """What is quantized in each layer, by name."""
    names = [layer.name for layer in model.layers]
    fields: dict[str, dict[str, tuple[str, bool]]] = {name: {} for name in names}
    for rule in rules:
        for field in rule:
            if field not in ("regex", "weights", "activations"):
                raise unknown_option("field of a rule", field, ("regex", "weights", "activations"))
        if "regex" not in rule or len(rule) < 2:
            raise UsageError(
                f'A rule has a "regex" and "weights" or "activations" or both. '
                f"Received: {dict(rule)!r}."
            )
        regex = str(rule["regex"])
        try:
            matched = [name for name in names if re.search(regex, name)]
        except re.error as e:
            raise UsageError(f"{regex!r} is not a regular expression: {e}.") from None
        if not matched:
            raise UsageError(
                f"The rule {regex!r} matches no layer. The model's layers are: "
                f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
            )
        for field, only in (("weights", "minmax"), ("activations", "moving_average")):
            if field not in rule:
                continue
            if rule[field] is not None:
                _check_quantizer(field, rule[field], only)
            for name in matched:
                other, value = fields[name].setdefault(field, (regex, rule[field] is not None))
                if value != (rule[field] is not None):
                    raise UsageError(
                        f"Two rules contradict each other on the {field} of layer {name!r}: "
                        f"{other!r} and {regex!r}. Make their regexes apart."
                    )
    yes = ("", True)
    return {
        name: Choice(
            bits if found.get("weights", yes)[1] else None, found.get("activations", yes)[1]
        )
        for name, found in fields.items()
    }


def _check_quantizer(what: str, received: Any, only: str) -> None:
    if received not in (None, only):
        raise _only(f"{what} quantizer", received, (only,))


def _only(what: str, received: Any, options: Any) -> UsageError:
    return UsageError(
        f"A tf_keras model has no {what} {received!r}: tensorflow-model-optimization trains it, "
        f"which leaves {' and '.join(repr(o) for o in options)}. {_KERAS_3}."
    )


def _batches(model: Any, data: Any, samples: int | None) -> Iterator[Any]:
    """The samples in batches as the model takes them."""
    inputs = model.inputs
    specs = []
    for tensor, name in zip(inputs, model.input_names, strict=True):
        shape = tensor.shape.as_list()
        if None in shape[1:]:
            raise UsageError(
                f"Ranges cannot start from data: input {name!r} has free dimensions {shape}. "
                f"Give the model a static shape, or leave data out."
            )
        specs.append(ArgSpec(name, name, (shape[0] or 1, *shape[1:]), tensor.dtype.name, True))
    free = all(tensor.shape[0] is None for tensor in inputs)
    group: list[Mapping[str, np.ndarray]] = []

    def joined() -> Any:
        arrays = [np.concatenate([s[spec.name] for s in group]) for spec in specs]
        return arrays[0] if len(arrays) == 1 else arrays

    for sample in open_data(data, specs, limit=samples):
        group.append(sample.inputs)
        if len(group) == (_BATCH if free else 1):
            yield joined()
            group = []
    if group:
        yield joined()
