"""A Keras model as a flat list of calls, which can be changed and called again.

Nested models are expanded in place, subclassed ones are traced. Every layer is a copy of the given
model's, made once however often it is called, so that shared layers stay shared and the given
model's are left alone. Layers that are several integer ops become several calls:

    SeparableConv        ->  DepthwiseConv, Conv (1x1)
    f(Conv), f no ReLU   ->  Conv, Activation(f)
    Add of n tensors     ->  n - 1 Adds of two; likewise Multiply, Maximum, Minimum
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import tree

from tfq.errors import ModelError, UsageError
from tfq.keras.kinds import Kind, kind_of

# Kernels compute these together with the product before them.
_FUSED = ("linear", "relu", "relu6")


@dataclasses.dataclass(eq=False)
class Value:
    """A tensor between calls.

    Attributes:
      shape: with None where it is free.
      dtype: as the layers compute it.
      name: of an input.
    """

    shape: tuple[int | None, ...]
    dtype: str
    name: str = ""

    @property
    def is_float(self) -> bool:
        return "float" in self.dtype


@dataclasses.dataclass(eq=False)
class Call:
    """One call of a layer or operation.

    Attributes:
      operation: what is called: a new layer, or an operation without state.
      args, kwargs: of the call, with Values for tensors.
      outputs: in the order in which the result flattens.
      kind: how its grids are bound.
      path: of the user's layer: "backbone/conv1".
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Value]
    kind: Kind
    path: str

    @property
    def inputs(self) -> list[Value]:
        """The float tensors it reads, in order."""
        flat = tree.flatten((self.args, self.kwargs))
        return [v for v in flat if isinstance(v, Value) and v.is_float]


@dataclasses.dataclass(eq=False)
class FlatModel:
    """A model, ready to be called again.

    Attributes:
      model: the given one, as a Functional model.
      inputs: in the order of `model.inputs`.
      calls: in the order of execution.
      outputs: in the order of `model.outputs`.
      copies: (layer, the variables to copy into its own) once the layers are built.
    """

    model: Any
    inputs: list[Value]
    calls: list[Call]
    outputs: list[Value]
    copies: list[tuple[Any, list[Any]]]


Replace = Callable[[Any, str], Any]


def read_flat_model(
    model: Any, replace: Replace, left: Callable[[str], bool] | None = None
) -> FlatModel:
    """Reads a model into calls with layers of their own.

    Args:
      model: a built Keras 3 model.
      replace: called with each layer and its path; returns the new layer to use for it (not yet
        built; of the same variables in the same order), or None for a plain copy.
      left: whether the layer of a path is to be taken as it is, whatever it computes.

    Raises:
      UsageError: the model is not built, or layers are of no kind that can be trained; all named.
      ModelError: a subclassed model cannot be traced.
    """
    reader = _Reader(replace, left or (lambda path: False))
    functional = _functional(model)
    inputs = [Value(tuple(t.shape), t.dtype, t.name) for t in functional.inputs]
    outputs = reader.expand(functional, inputs, "")
    if reader.unknown:
        listed = "\n".join(f"  {type(op).__name__} {path!r}" for op, path in reader.unknown)
        raise UsageError(
            f"{len(reader.unknown)} layer(s) cannot be trained with quantizers, since what they "
            f"compute is not known:\n{listed}\nSay it with Keras's layers or keras.ops, or leave "
            'them to calibration with rules=[{"regex": NAME, "weights": None, "activations": '
            "None}]."
        )
    return FlatModel(functional, inputs, reader.calls, outputs, reader.copies)


def _functional(model: Any) -> Any:
    """The graph of a model: Functional, inside a Sequential, or traced from its `call`."""
    if isinstance(model, keras.Sequential):
        if not model.built or model._functional is None:
            raise _not_built(model)
        return model._functional
    if hasattr(model, "_nodes_by_depth"):
        return model
    if not model.built:
        raise _not_built(model)
    from keras.src.export.export_utils import get_input_signature

    try:
        signature = get_input_signature(model)
    except ValueError:
        raise _not_built(model) from None
    inputs = tree.map_structure(
        lambda s: keras.Input(batch_shape=tuple(s.shape), dtype=s.dtype, name=s.name), signature
    )
    arguments = inputs if isinstance(inputs, list | tuple) else [inputs]
    traced = _trace(model, arguments, {})
    flat = tree.flatten(inputs)
    return keras.Model(flat[0] if len(flat) == 1 else list(flat), traced, name=model.name)


def _not_built(model: Any) -> UsageError:
    return UsageError(
        f"The model {model.name!r} is not built, so it has no weights and its shapes are unknown. "
        "Call it once on a batch, or give its input shape, before it is quantized."
    )


def _trace(model: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """What a subclassed model's `call` gives for symbolic inputs."""
    try:
        result = model.call(*arguments, **named)
    except Exception as e:  # The user's own code: whatever it raises.
        raise ModelError(
            f"The subclassed model {model.name!r} cannot be traced ({type(e).__name__}: {e}). Its "
            "call must use Keras layers and keras.ops on its tensors."
        ) from None
    if not all(isinstance(t, keras.KerasTensor) for t in tree.flatten(result)):
        raise ModelError(
            f"The subclassed model {model.name!r} cannot be traced: its call returns "
            f"{type(result).__name__}. It must return tensors computed by Keras layers."
        )
    flat = tree.flatten((arguments, named))
    graph = keras.Model([t for t in flat if isinstance(t, keras.KerasTensor)], result)
    known = {id(v) for v in graph.weights}
    lost = [v.path for v in model.weights if id(v) not in known]
    if lost:
        raise ModelError(
            f"The subclassed model {model.name!r} uses variables outside of its layers: "
            f"{', '.join(lost[:3])}. Put them into layers, so that they can be quantized."
        )
    return result


class _Reader:
    def __init__(self, replace: Replace, left: Callable[[str], bool]):
        self.replace, self.left = replace, left
        self.calls: list[Call] = []
        self.copies: list[tuple[Any, list[Any]]] = []
        self.unknown: list[tuple[Any, str]] = []
        self._pieces: dict[int, list[Any]] = {}
        self._taken: set[str] = set()

    def expand(self, functional: Any, inputs: list[Value], prefix: str) -> list[Value]:
        """Adds the calls of a model, and returns the values of its outputs."""
        values = {id(t): v for t, v in zip(functional.inputs, inputs, strict=True)}
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                args, kwargs = node.arguments.fill_in(values)
                results = self._call(node, args, kwargs, prefix)
                values |= {id(t): v for t, v in zip(node.outputs, results, strict=True)}
        return [values[id(t)] for t in functional.outputs]

    def _call(self, node: Any, args: Any, kwargs: Any, prefix: str) -> list[Value]:
        operation = node.operation
        path = f"{prefix}{operation.name}"
        if isinstance(operation, keras.Model):
            flat = [v for v in tree.flatten((args, kwargs)) if isinstance(v, Value)]
            if isinstance(operation, keras.Sequential) or hasattr(operation, "_nodes_by_depth"):
                inner = _functional(operation)
            else:
                inner = self._traced(operation, node)
            return self.expand(inner, flat, f"{path}/")
        outputs = [Value(tuple(t.shape), t.dtype) for t in node.outputs]
        lower = _LOWERED.get(type(operation).__name__, _as_it_is)
        lower(self, operation, args, kwargs, outputs, path)
        return outputs

    def _traced(self, model: Any, node: Any) -> Any:
        key = id(model)
        if key not in self._pieces:
            inputs = tree.map_structure(
                lambda t: (
                    keras.Input(batch_shape=tuple(t.shape), dtype=t.dtype)
                    if isinstance(t, keras.KerasTensor)
                    else t
                ),
                (list(node.arguments.args), dict(node.arguments.kwargs)),
            )
            result = _trace(model, *inputs)
            flat = [t for t in tree.flatten(inputs) if isinstance(t, keras.KerasTensor)]
            self._pieces[key] = [keras.Model(flat, result)]
        return self._pieces[key][0]

    # --- layers ---------------------------------------------------------------------------------

    def piece(
        self, source: Any, path: str, index: int, make: Callable[[], Any], variables: list[Any]
    ) -> Any:
        """The new layer number `index` of a layer, made when it is asked for the first time."""
        pieces = self._pieces.setdefault(id(source), [])
        if index == len(pieces):
            layer = make()
            pieces.append(self.replace(layer, path) or layer)
            self.copies.append((pieces[-1], variables))
        return pieces[index]

    def name(self, path: str) -> str:
        """A name for a layer: Keras wants them unique and without slashes."""
        base = path.replace("/", "_")
        name, n = base, 0
        while name in self._taken:
            n += 1
            name = f"{base}_{n}"
        self._taken.add(name)
        return name

    def copy(self, layer: Any, path: str, **changes: Any) -> Any:
        """A layer like the given one, with its config changed, not built."""
        from keras.src.saving.serialization_lib import SafeModeScope

        config = {**layer.get_config(), **changes, "name": self.name(path)}
        with SafeModeScope(False):  # A Lambda of the user's own program, not from a file.
            return type(layer).from_config(config)

    def add(self, operation: Any, args: Any, kwargs: Any, outputs: list[Value], path: str) -> None:
        kind = kind_of(operation)
        if kind is None:
            if not self.left(path) and (operation, path) not in self.unknown:
                self.unknown.append((operation, path))
            kind = Kind.COMPOSITE
        self.calls.append(Call(operation, tuple(args), dict(kwargs), outputs, kind, path))


def _as_it_is(
    reader: _Reader, source: Any, args: Any, kwargs: Any, outputs: list[Value], path: str
) -> None:
    if not isinstance(source, keras.layers.Layer):
        reader.add(_same_operation(source), args, kwargs, outputs, path)
        return
    layer = reader.piece(source, path, 0, lambda: reader.copy(source, path), source.weights)
    reader.add(layer, args, kwargs, outputs, path)


def _same_operation(source: Any) -> Any:
    """A copy of the operation of a `keras.ops` node: calling it leaves marks on it."""
    try:
        return type(source).from_config(source.get_config())
    except (NotImplementedError, TypeError):  # Of arguments that cannot be serialized.
        return source


def _with_activation(
    reader: _Reader, source: Any, args: Any, kwargs: Any, outputs: list[Value], path: str
) -> None:
    # An object (a LeakyReLU layer, say) has no name, and a kernel of its own.
    function = getattr(source.activation, "__name__", "")
    if function in _FUSED:
        _as_it_is(reader, source, args, kwargs, outputs, path)
        return
    linear = reader.piece(
        source, path, 0, lambda: reader.copy(source, path, activation="linear"), source.weights
    )
    between = [Value(outputs[0].shape, outputs[0].dtype)]
    reader.add(linear, args, kwargs, between, path)
    _activate(reader, source, between, outputs, path, 1)


def _activate(
    reader: _Reader, source: Any, inputs: list[Value], outputs: list[Value], path: str, index: int
) -> None:
    def make() -> Any:
        return keras.layers.Activation(
            source.activation, name=reader.name(f"{path}_activation"), dtype=source.dtype_policy
        )

    reader.add(reader.piece(source, path, index, make, []), inputs, {}, outputs, path)


def _separable(
    reader: _Reader, source: Any, args: Any, kwargs: Any, outputs: list[Value], path: str
) -> None:
    rank = source.rank
    common = {"data_format": source.data_format, "dtype": source.dtype_policy}

    def depthwise() -> Any:
        cls = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)[rank - 1]
        return cls(
            source.kernel_size,
            strides=source.strides,
            padding=source.padding,
            depth_multiplier=source.depth_multiplier,
            dilation_rate=source.dilation_rate,
            use_bias=False,
            depthwise_regularizer=source.depthwise_regularizer,
            depthwise_constraint=source.depthwise_constraint,
            name=reader.name(f"{path}_depthwise"),
            **common,
        )

    def pointwise() -> Any:
        cls = (keras.layers.Conv1D, keras.layers.Conv2D)[rank - 1]
        return cls(
            source.filters,
            1,
            use_bias=source.use_bias,
            kernel_regularizer=source.pointwise_regularizer,
            bias_regularizer=source.bias_regularizer,
            kernel_constraint=source.pointwise_constraint,
            bias_constraint=source.bias_constraint,
            activation=source.activation if fused else None,
            name=reader.name(f"{path}_pointwise"),
            **common,
        )

    fused = getattr(source.activation, "__name__", "") in _FUSED
    spatial = outputs[0].shape[1:-1] if source.data_format == "channels_last" else ()
    first = [Value((outputs[0].shape[0], *spatial, None), outputs[0].dtype)]
    kernels = [source.depthwise_kernel], [source.pointwise_kernel]
    if source.use_bias:
        kernels[1].append(source.bias)
    layer = reader.piece(source, f"{path}/depthwise", 0, depthwise, kernels[0])
    reader.add(layer, args, kwargs, first, f"{path}/depthwise")
    last = reader.piece(source, f"{path}/pointwise", 1, pointwise, kernels[1])
    if fused:
        reader.add(last, first, {}, outputs, f"{path}/pointwise")
        return
    between = [Value(outputs[0].shape, outputs[0].dtype)]
    reader.add(last, first, {}, between, f"{path}/pointwise")
    _activate(reader, source, between, outputs, path, 2)


def _merge(
    reader: _Reader, source: Any, args: Any, kwargs: Any, outputs: list[Value], path: str
) -> None:
    """Sums and products of many tensors two at a time, as the runtime computes them."""
    tensors = args[0] if args and isinstance(args[0], list | tuple) else []
    if len(tensors) <= 2 or not isinstance(source, keras.layers.Layer):
        _as_it_is(reader, source, args, kwargs, outputs, path)
        return
    total = tensors[0]
    for i, other in enumerate(tensors[1:]):
        last = i == len(tensors) - 2
        out = outputs if last else [Value(outputs[0].shape, outputs[0].dtype)]
        at = path if last else f"{path}_{i}"

        def make(at: str = at) -> Any:
            return reader.copy(source, at)

        reader.add(reader.piece(source, path, i, make, []), ([total, other],), {}, out, path)
        total = out[0]


Lower = Callable[[_Reader, Any, Any, Any, list[Value], str], None]
_LOWERED: dict[str, Lower] = {
    **dict.fromkeys(
        (
            "Conv1D",
            "Conv2D",
            "Conv3D",
            "Conv1DTranspose",
            "Conv2DTranspose",
            "Conv3DTranspose",
            "Dense",
            "DepthwiseConv1D",
            "DepthwiseConv2D",
            "EinsumDense",
        ),
        _with_activation,
    ),
    "SeparableConv1D": _separable,
    "SeparableConv2D": _separable,
    "Add": _merge,
    "Multiply": _merge,
    "Maximum": _merge,
    "Minimum": _merge,
}
