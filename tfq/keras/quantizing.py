"""`tfq.keras.quantize`: a Keras 3 model that trains with the rounding it will be shipped with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import tree

from tfq.errors import UsageError
from tfq.keras.batch_norm import FreezableBatchNormalization
from tfq.keras.flat_model import Call, FlatModel, Value, read_flat_model
from tfq.keras.initialize import initialize_activations
from tfq.keras.kinds import Kind
from tfq.keras.layers import QuantizedWeights, quantized_class
from tfq.keras.placement import Placement, place
from tfq.keras.quantizers import ActivationQuantizer, Fixed
from tfq.keras.rules import Choices, _identity

__all__ = ["is_quantized", "quantize"]


def quantize(
    model: Any,
    scheme: str = "int8",
    *,
    weights: Any = None,
    activations: Any = None,
    rules: Sequence[Mapping[str, Any]] = (),
    data: Any = None,
    samples: int | None = 256,
) -> Any:
    """Makes a trainable model whose weights and activations are fake-quantized.

    The result computes what the integer file will compute, up to the kernels' rounding, and trains
    through the rounding (straight-through estimation, Bengio et al. 2013). `tfq.convert_model`
    writes exactly its grids.

    Args:
      model: a built Keras 3 model: Functional, Sequential, nested, or subclassed with a `call` of
        Keras layers and keras.ops. It is left as it is, and shares nothing with the result.
      scheme: "int8" (weights and activations of 8 bits), "int16x8" (16-bit activations), "w4a8",
        "w4a16", "w2a8", "ternary", "binary". The last three leave the first and the last weighted
        layer and depthwise ones at 8 bits.
      weights: a weight quantizer in place of the scheme's: a name ("minmax", "mse", "lsq",
        "ternary", "binary", "mean_deviation"), config or object.
      activations: an activation quantizer in place of the scheme's: a name ("moving_average",
        "minmax", "percentile", "mse", "lsq", "pact"), config or object.
      rules: for some layers, dicts with a "regex" that is searched in the layer's path
        ("backbone/conv1") and "weights", "activations" or both; None leaves the layer's to
        calibration at conversion.
      data: representative samples in any form `tfq.convert_model` takes; activation ranges start
        from them. Without, they start from the first batch of training, which some quantizers
        ("percentile", "mse", "lsq") cannot.
      samples: use at most so many of them.

    Returns:
      A new Functional model with the same weights, inputs and outputs, not compiled; what a
      subclassed model overrides besides `call` (`train_step`) is not part of it. Layers keep
      their names, but for the last one of an output: that is now a quantizer, which takes the name
      since Keras calls the output by it, and the user's layer gets "_layer" behind its own.

    Raises:
      UsageError: the model is not built or quantized already, has layers that cannot be trained
        (all are named), or an option or a rule is wrong.
      DataError: the samples do not fit the model.
      ModelError: a subclassed model cannot be traced.
    """
    _check(model)
    if samples is not None and (isinstance(samples, bool) or not isinstance(samples, int)):
        raise UsageError(f"samples is a whole number, or None for all. Received: {samples!r}.")
    plain = Choices(scheme, weights, activations, rules)
    edges = _edges(model, plain) if plain.scheme.edges_8_bits else frozenset()
    choices = Choices(scheme, weights, activations, rules, edges)

    def replace(layer: Any, path: str) -> Any:
        if type(layer) is keras.layers.BatchNormalization:
            return FreezableBatchNormalization.from_config(layer.get_config())
        cls = quantized_class(layer)
        quantizer = choices.weights_for(path) if cls is not None else None
        if cls is None or quantizer is None:
            return None
        return cls.from_config({**layer.get_config(), "weight_quantizer": quantizer})

    flat = read_flat_model(model, replace, choices.left)
    paths = [s.path for s in flat.calls]
    choices.check_rules(
        list(dict.fromkeys([*(v.name for v in flat.inputs), *paths])),
        [s.path for s in flat.calls if quantized_class_of(s.operation)],
    )
    placement = place(flat, choices.scheme.activation_bits)
    quantizers = _quantizers(placement, choices)
    result, seen = _build(flat, placement, quantizers, choices.scheme.activation_bits)
    for layer, variables in flat.copies:
        _copy(layer, variables)
    needing = [q for q in quantizers.values() if q is not None and q.needs_data]
    if data is None and needing:
        names = sorted({type(q).__name__ for q in needing})
        raise UsageError(
            f"The activation quantizers {', '.join(names)} start from representative samples. Give "
            'some with data=, or use activations="moving_average", which starts from the first '
            "batch."
        )
    if data is not None and seen:
        initialize_activations(result, seen, data, samples)
    return result


def quantized_class_of(operation: Any) -> bool:
    return isinstance(operation, QuantizedWeights) or quantized_class(operation) is not None


def is_quantized(model: Any) -> bool:
    """Whether a Keras model has tfq's quantizers in it."""
    layers = model._flatten_layers(include_self=False, recursive=True)
    return any(isinstance(x, QuantizedWeights | ActivationQuantizer) for x in layers)


def _check(model: Any) -> None:
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            "tfq.keras trains on Keras's TensorFlow backend. Set KERAS_BACKEND=tensorflow before "
            f"Keras is imported. Received: KERAS_BACKEND={keras.backend.backend()}."
        )
    if not isinstance(model, keras.Model):
        raise UsageError(
            f"A Keras 3 model is quantized for training. Received: {type(model).__name__}."
        )
    if is_quantized(model):
        raise UsageError(
            f"The model {model.name!r} has quantizers already. Quantize the float model that it "
            "was made of, with other rules if need be."
        )
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
            raise UsageError(
                f"Layer {layer.name!r} was changed by Keras's own quantize() or enable_lora(). "
                "Quantize the model before that."
            )


def _edges(model: Any, choices: Choices) -> frozenset[str]:
    """Paths of the first and the last weighted layer and of depthwise ones."""
    read = read_flat_model(model, lambda layer, path: None, choices.left)
    calls = [s for s in read.calls if _has_kernel(s)]
    narrow = {s.path for s in calls if type(s.operation).__name__.startswith("Depthwise")}
    return frozenset({*narrow, *(s.path for s in (*calls[:1], *calls[-1:]))})


def _has_kernel(call: Call) -> bool:
    return (
        call.kind in (Kind.WEIGHTED, Kind.COMPOSITE) and quantized_class(call.operation) is not None
    )


def _quantizers(placement: Placement, choices: Choices) -> dict[Value, ActivationQuantizer | None]:
    """One quantizer a group.

    Raises:
      UsageError: rules ask for different ones in one group.
    """
    made: dict[Value, ActivationQuantizer | None] = {}
    for root, paths in placement.paths.items():
        ruled: dict[str, tuple[str, ActivationQuantizer]] = {}
        others: list[ActivationQuantizer | None] = []
        for path in dict.fromkeys(paths):
            quantizer = choices.activations_for(path)
            if quantizer is not None and choices.rules_activations(path):
                ruled.setdefault(_identity(quantizer), (path, quantizer))
            else:
                others.append(quantizer)
        if len(ruled) > 1:
            (a, qa), (b, qb) = list(ruled.values())[:2]
            raise UsageError(
                f"Two rules contradict each other: the outputs of layers {a!r} and {b!r} share one "
                f"grid, but are to have a {type(qa).__name__} and a {type(qb).__name__}. Give both "
                "the same."
            )
        # What a rule says holds for the group; what one layer leaves out, another may need.
        made[root] = next(
            (q for q in [*(q for _, q in ruled.values()), *others] if q is not None), None
        )
    return made


def _build(
    flat: FlatModel,
    placement: Placement,
    quantizers: Mapping[Value, ActivationQuantizer | None],
    bits: int,
) -> tuple[Any, dict[Any, list[Any]]]:
    """The model, and for each activation quantizer the tensors that enter it."""
    inputs = [
        keras.Input(batch_shape=v.shape, dtype=v.dtype, name=v.name or None) for v in flat.inputs
    ]
    tensors: dict[Value, Any] = {}
    seen: dict[Any, list[Any]] = {}
    layers: dict[Value, Any] = {}
    taken = {s.operation.name for s in flat.calls if isinstance(s.operation, keras.layers.Layer)}

    def named(path: str) -> str:
        return _free(f"{path.replace('/', '_')}_quantizer", taken)

    def settle(v: Value, tensor: Any, path: str) -> None:
        """Gives a value its tensor: on its grid, where it has one."""
        if v in placement.fixed and path:
            scale, zero_point = placement.fixed[v]
            fixed = Fixed(
                scale=scale, zero_point=zero_point, bits=bits, by_kernel=True, name=named(path)
            )
            tensor = fixed(tensor)
        elif v in placement.marked:
            root = placement.groups[v]
            prototype = quantizers[root]
            if prototype is not None:
                if root not in layers:
                    config = {**prototype.get_config(), "name": named(placement.paths[root][0])}
                    layers[root] = type(prototype).from_config(config)
                seen.setdefault(layers[root], []).append(tensor)
                tensor = layers[root](tensor)
        tensors[v] = tensor

    for v, tensor in zip(flat.inputs, inputs, strict=True):
        settle(v, tensor, "")
    for call in flat.calls:
        args, kwargs = tree.map_structure(
            lambda a: tensors[a] if isinstance(a, Value) else a, (call.args, call.kwargs)
        )
        results = tree.flatten(call.operation(*args, **kwargs))
        rounds = call.kind is Kind.FIXED
        for v, tensor in zip(call.outputs, results, strict=True):
            settle(v, tensor, call.path if rounds or v not in placement.fixed else "")
    outputs = tree.pack_sequence_as(
        flat.model._outputs_struct, _named_outputs(flat, [tensors[v] for v in flat.outputs])
    )
    structure = tree.pack_sequence_as(flat.model._inputs_struct, inputs)
    return keras.Model(structure, outputs, name=flat.model.name), seen


def _named_outputs(flat: FlatModel, outputs: list[Any]) -> list[Any]:
    """The outputs, each from a last layer with the name that the output had.

    Keras names outputs by their last layer, and losses are given by these names. A quantizer that
    is the last layer now takes the name, and the user's layer gets another; where the quantizer is
    that of several tensors, or what is last is no layer of its own, a layer that does nothing does.
    """
    layers = {s.operation.name: s.operation for s in flat.calls}
    taken = {*layers, *(t._keras_history.operation.name for t in outputs)}
    inputs = {v.name for v in flat.inputs}
    claimed: dict[str, int] = {}
    result = []
    for name, tensor in zip(flat.model.output_names, outputs, strict=True):
        last = tensor._keras_history.operation
        if claimed.get(name) == id(tensor) or name in inputs:
            result.append(tensor)  # One tensor twice, or an input: nothing to tell apart.
            continue
        if last.name == name and name not in claimed:
            claimed[name] = id(tensor)
            result.append(tensor)
            continue
        if name in layers and layers[name] is not last:
            layers[name].name = _free(f"{name}_layer", taken)
        alone = len(last._inbound_nodes) == 1 and last.name not in claimed
        if isinstance(last, ActivationQuantizer) and alone:
            last.name = name
        else:
            tensor = keras.layers.Identity(name=name)(tensor)
        claimed[name] = id(tensor)
        result.append(tensor)
    return result


def _free(base: str, taken: set[str]) -> str:
    name, n = base, 0
    while name in taken:
        n += 1
        name = f"{base}_{n}"
    taken.add(name)
    return name


def _copy(layer: Any, variables: list[Any]) -> None:
    own = layer.own_weights if isinstance(layer, QuantizedWeights) else None
    if own is None:
        own = layer.weights[: len(variables)]
    for mine, given in zip(own, variables, strict=True):
        mine.assign(given)
    if isinstance(layer, QuantizedWeights):
        layer.initialize_quantizers()
