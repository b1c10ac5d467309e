"""`remove_channels`: a smaller model without the channels that matter least.

Structured removal is the pruning that makes a model faster everywhere: what is left is an ordinary
dense model. The weights that stay are copied as they are, so the new model computes what the old
one would if the removed channels contributed nothing to the layers that read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfq.errors import ModelError, UsageError
from tfq.keras.pruning.channels import ChannelPlan, axes_of, makes_channels
from tfq.keras.pruning.kernels import check_rules, choices_for
from tfq.keras.pruning.schedules import check_fraction
from tfq.keras.pruning.trace import functional, walk


def remove_channels(
    model: keras.Model,
    fraction: float | None = 0.5,
    *,
    rules: Sequence[Mapping[str, Any]] = (),
    criterion: str = "l2",
) -> keras.Model:
    """A new Functional model without the least important channels; the given one stays as it is.

    Channels are followed through normalization, activations, pooling, padding, sums, products,
    concatenation, flattening and depthwise convolutions. Those that reach a layer which mixes them
    in another way, or an output of the model, stay: `channel_groups` says which and why. Train the
    new model a little afterwards.

    Args:
      model: a Functional or Sequential float model, nested ones included.
      fraction: the share of each layer's channels that goes, rounded half up; each layer keeps one.
        None: those that are exactly zero, as the pattern "channels" of `prune` leaves them. These
        contribute nothing as long as activations map 0 to 0.
      rules: dicts of "regex", searched in the names of layers that make channels, and "fraction".
      criterion: "l2" or "l1" (of the weights that make a channel), or "bn_gamma" (of the factor
        that BatchNormalization gives it).

    Returns:
      The new model, with the same names of layers (nested models are flattened), not compiled.

    Raises:
      UsageError: an argument is wrong; a rule matches nothing, or only layers whose channels must
        all stay; tied layers are to lose different shares; nothing can be removed.
      ModelError: a layer cannot be made again from its configuration.
    """
    plan = ChannelPlan(model)
    if fraction is None:
        if rules:
            raise UsageError("fraction=None removes channels that are zero, and takes no rules.")
        gone = plan.zeros()
        if not gone:
            raise UsageError(
                f"No channel of {model.name!r} is zero, so fraction=None removes none. Prune with "
                'pattern="channels" first, or give a fraction.'
            )
    else:
        gone = plan.choose(_fractions(plan, fraction, rules), criterion)
    return _rebuilt(model, plan, gone)


def _fractions(
    plan: ChannelPlan, fraction: float, rules: Sequence[Mapping[str, Any]]
) -> dict[int, float]:
    check_fraction("fraction", fraction)
    check_rules(rules, ("fraction",))
    for rule in rules:
        check_fraction("fraction", rule["fraction"])
    producers = plan.producers()
    found = choices_for([p.name for p in producers], rules, "layers that make channels")
    stuck = {n: g.reason for g in plan.groups() if not g.removable for n in g.layers}
    for rule in rules:
        hit = [p.name for p, c in zip(producers, found, strict=True) if c]
        if rule["fraction"] and all(name in stuck for name in hit):
            raise UsageError(
                f"The rule {rule['regex']!r} asks for channels of {', '.join(hit)}, and none can "
                f"go: {stuck[hit[0]]}."
            )
    if len(stuck) == len(producers):
        reasons = dict.fromkeys(f"{n}: {why}" for n, why in stuck.items())
        raise UsageError(
            f"No channel of the model can be removed ({'; '.join(reasons) or 'it makes none'})."
        )
    return {id(p): c.get("fraction", fraction) for p, c in zip(producers, found, strict=True)}


def _rebuilt(model: Any, plan: ChannelPlan, gone: set[int]) -> keras.Model:
    graph = functional(model)
    made: dict[int, Any] = {}
    names: set[str] = set()

    def stays(numbers: np.ndarray) -> np.ndarray:
        return np.array([r not in gone for r in plan.trace.roots(numbers).tolist()], bool)

    def visit(op: Any, args: tuple, kwargs: dict, node: Any) -> Any:
        if id(op) not in made:
            made[id(op)] = _remade(op, plan, stays, names)
        return made[id(op)](*args, **kwargs)

    # A tensor's own name is an internal one; users and files know the input layer's.
    inputs = [
        keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t._keras_history.operation.name)
        for t in graph.inputs
    ]
    names.update(t.name for t in inputs)
    outputs = walk(graph, inputs, visit)
    structure = keras.tree.pack_sequence_as(graph._inputs_struct, inputs)
    smaller = keras.Model(structure, outputs, name=model.name)
    for layer in plan.trace.layers:
        _copy_weights(layer, made[id(layer)], plan, stays)
    return smaller


def _remade(op: Any, plan: ChannelPlan, stays: Any, names: set[str]) -> Any:
    """The layer or operation with as many channels as stay."""
    try:
        if type(op) is keras.layers.Lambda:  # Its configuration is code, which Keras mistrusts.
            return keras.layers.Lambda(op.function, arguments=op.arguments, name=op.name)
        config = op.get_config()
        if isinstance(op, keras.Layer):
            while config["name"] in names:  # From different nested models.
                config["name"] += "_1"
            names.add(config["name"])
            _resize(op, config, stays(plan.trace.makes[id(op)]))
        elif type(op).__name__ == "Reshape" and len(plan.trace.makes[id(op)]):
            config["newshape"] = _last(op.newshape, stays(plan.trace.makes[id(op)]))
        return type(op).from_config(config)
    except (TypeError, ValueError, NotImplementedError, KeyError) as e:
        reason = str(e).strip().splitlines()
        raise ModelError(
            f"The layer {op.name!r} ({type(op).__name__}) cannot be made again from its "
            f"configuration: {reason[0] if reason else type(e).__name__}. Give it get_config."
        ) from None


def _resize(op: Any, config: dict[str, Any], keep: np.ndarray) -> None:
    if makes_channels(op):
        config["units" if "units" in config else "filters"] = int(keep.sum())
    elif type(op).__name__ == "Reshape" and len(keep):
        config["target_shape"] = _last(op.target_shape, keep)


def _last(shape: Sequence[int], keep: np.ndarray) -> tuple[int, ...]:
    """The shape with its last axis as long as what stays; -1 finds it by itself."""
    return tuple(shape) if shape[-1] == -1 else (*shape[:-1], int(keep.sum()))


def _copy_weights(old: Any, new: Any, plan: ChannelPlan, stays: Any) -> None:
    trace = plan.trace
    sides = {"in": trace.reads, "out": trace.makes, "mid": trace.between}
    table = axes_of(old)
    for source, target in zip(old.weights, new.weights, strict=True):
        value = np.asarray(keras.ops.convert_to_numpy(source.value))
        for axis, side in table.get(source.name, {}).items():
            keep = stays(sides[side][id(old)])
            if value.shape[axis] == len(keep):  # PReLU may share its slopes among channels.
                value = np.compress(keep, value, axis=axis)
        target.assign(value)
