"""Follows channels through a Keras graph: which channel of which tensor is which.

Every channel that a layer makes gets a number; a tensor is described by the numbers along its last
axis. Layers then either make new numbers (convolutions, dense), hand them on (normalization,
activations, pooling), repeat them (flattening: one for each position), join them (concatenation)
or tie them: an addition makes its operands' channels one and the same, since none can go alone.
Ties are a union-find over numbers. What is not known to treat channels one by one pins those it
reads, with a reason, and they stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfq.errors import UsageError

# What a layer's weight has along its axes: "in", "out", "mid" (between the halves of a separable
# convolution). Axes from the end, since the number of window axes varies.
CONV = {"kernel": {-2: "in", -1: "out"}, "bias": {-1: "out"}}
TRANSPOSED = {"kernel": {-2: "out", -1: "in"}, "bias": {-1: "out"}}
DEPTHWISE = {"kernel": {-2: "in"}, "bias": {-1: "out"}}
SEPARABLE = {
    "depthwise_kernel": {-2: "in"},
    "pointwise_kernel": {-2: "mid", -1: "out"},
    "bias": {-1: "out"},
}
RECURRENT = {"kernel": {-2: "in"}}
PER_CHANNEL: dict[str, dict[int, str]] = {
    name: {-1: "out"} for name in ("gamma", "beta", "moving_mean", "moving_variance", "alpha")
}

PRODUCERS: dict[str, dict[str, dict[int, str]]] = {
    "Dense": CONV,
    **{f"Conv{d}D": CONV for d in (1, 2, 3)},
    **{f"Conv{d}DTranspose": TRANSPOSED for d in (1, 2, 3)},
    **{f"SeparableConv{d}D": SEPARABLE for d in (1, 2)},
}
_DEPTHWISE = {"DepthwiseConv1D", "DepthwiseConv2D"}
_RECURRENT = {"LSTM", "GRU", "SimpleRNN"}
_DIMS = ("1D", "2D", "3D")
_PASS = {
    "BatchNormalization", "PReLU", "Activation", "ReLU", "LeakyReLU", "ELU", "Identity",
    "Rescaling", "Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise",
    "ActivityRegularization",
    *(f"{kind}{d}" for d in _DIMS for kind in (
        "SpatialDropout", "ZeroPadding", "Cropping", "UpSampling", "MaxPooling", "AveragePooling",
        "GlobalMaxPooling", "GlobalAveragePooling")),
    # Operations of keras.ops, value by value.
    "Relu", "Relu6", "Sigmoid", "HardSigmoid", "Silu", "HardSilu", "Gelu", "Elu", "Selu", "Celu",
    "LeakyRelu", "Softplus", "Softsign", "HardTanh", "Tanh", "Abs", "Absolute", "Negative",
    "Square", "Sqrt", "Exp", "Clip", "Cast",
}  # fmt: skip
_TIE = {
    "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Divide", "TrueDivide",
}  # fmt: skip
_REDUCE = {"Mean", "Max", "Min", "Sum", "Amax", "Amin"}
_MIXING_ACTIVATIONS = {"softmax", "log_softmax", "glu", "sparsemax"}


@dataclasses.dataclass(frozen=True, eq=False)
class Channels:
    """A tensor while its graph is followed: its shape, and the numbers along the last axis."""

    numbers: np.ndarray
    shape: tuple[int | None, ...]


class Trace:
    """The channels of a Functional or Sequential model; nested models are followed inside.

    Attributes:
      layers: every layer that was called, in order of its first call.
      reads: layer id -> numbers of its (first) input's channels.
      makes: layer or operation id -> numbers of its (first) output's channels.
      between: the same for the middle of separable convolutions.
      pinned: number -> why its channel must stay.
    """

    def __init__(self, model: Any) -> None:
        self.layers: list[Any] = []
        self.reads: dict[int, np.ndarray] = {}
        self.makes: dict[int, np.ndarray] = {}
        self.between: dict[int, np.ndarray] = {}
        self.pinned: dict[int, str] = {}
        self._parents: list[int] = []
        graph = functional(model)
        inputs = [Channels(self._new(t.shape, "it is an input"), t.shape) for t in graph.inputs]
        for output in keras.tree.flatten(walk(graph, inputs, self._visit)):
            self._pin(output.numbers, "it is an output of the model")

    def root(self, number: int) -> int:
        """The number that stands for all that are tied to this one."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def roots(self, numbers: np.ndarray) -> np.ndarray:
        return np.array([self.root(int(n)) for n in numbers], np.int64)

    def pins(self) -> dict[int, str]:
        """Roots that must stay, with the first reason of each."""
        found: dict[int, str] = {}
        for number, why in self.pinned.items():
            found.setdefault(self.root(number), why)
        return found

    # --- numbers ---

    def _new(self, shape: Sequence[int | None], why: str = "") -> np.ndarray:
        count = shape[-1] if len(shape) > 1 and shape[-1] else 0
        numbers = np.arange(len(self._parents), len(self._parents) + count)
        self._parents.extend(numbers.tolist())
        if why:
            self._pin(numbers, why)
        return numbers

    def _pin(self, numbers: np.ndarray, why: str) -> None:
        for n in numbers.tolist():
            self.pinned.setdefault(n, why)

    def _tie(self, a: np.ndarray, b: np.ndarray) -> None:
        for x, y in zip(a.tolist(), b.tolist(), strict=True):
            low, high = sorted((self.root(x), self.root(y)))
            self._parents[high] = low

    # --- layers and operations ---

    def _visit(self, op: Any, args: tuple, kwargs: dict, node: Any) -> Any:
        operands = [v for v in keras.tree.flatten((args, kwargs)) if isinstance(v, Channels)]
        outputs = node.outputs
        shapes = [tuple(t.shape) for t in outputs]
        numbers: np.ndarray | None = None
        why = "treats channels in a way that is not known"
        if len(outputs) == 1 and operands and type(op).__module__.startswith("keras."):
            numbers, why = self._follow(op, operands, args, shapes[0])
        if numbers is not None and len(numbers) != (shapes[0][-1] or 0):
            numbers, why = None, "changes the number of channels in a way that is not known"
        if numbers is None:
            why = f"{op.name} ({type(op).__name__}) {why}"
            for operand in operands:
                self._pin(operand.numbers, why)
            made = [self._made(op, shape, why) for shape in shapes]
        else:
            made = [numbers]
        if isinstance(op, keras.Layer) and operands:
            if id(op) not in self.reads:
                self.layers.append(op)
                self.reads[id(op)] = operands[0].numbers
            elif len(self.reads[id(op)]) == len(operands[0].numbers):  # A shared layer.
                self._tie(self.reads[id(op)], operands[0].numbers)
        self.makes[id(op)] = made[0]
        values = [Channels(m, s) for m, s in zip(made, shapes, strict=True)]
        return values

    def _made(self, op: Any, shape: tuple[int | None, ...], why: str = "") -> np.ndarray:
        """The numbers of what a layer makes: the same at each of its calls."""
        known = self.makes.get(id(op))
        if known is None or len(known) != (shape[-1] or 0):
            return self._new(shape, why)
        if why:
            self._pin(known, why)
        return known

    def _follow(
        self, op: Any, operands: list[Channels], args: tuple, shape: tuple[int | None, ...]
    ) -> tuple[np.ndarray | None, str]:
        """The output's numbers; or None and the reason why the channels cannot be followed."""
        kind = type(op).__name__
        x = operands[0]
        activation = getattr(getattr(op, "activation", None), "__name__", "")
        if getattr(op, "data_format", None) == "channels_first":
            return None, "has its channels first"
        if kind in PRODUCERS or kind in _DEPTHWISE:
            if getattr(op, "groups", 1) != 1:
                return None, "has groups"
            if len(operands) > 1 or not len(x.numbers):
                return None, "has an input of unknown depth"
            if kind in _DEPTHWISE:
                return np.repeat(x.numbers, op.depth_multiplier), ""
            if kind in ("SeparableConv1D", "SeparableConv2D"):
                self.between[id(op)] = np.repeat(x.numbers, op.depth_multiplier)
            made = self._made(op, shape)
            if activation in _MIXING_ACTIVATIONS:
                self._pin(made, f"{op.name} ({kind}) ends in {activation}, over all channels")
            return made, ""
        if kind in _RECURRENT:
            if len(operands) > 1:
                return None, "has an initial state"
            return self._made(op, shape, f"{op.name} ({kind}) feeds its state back"), ""
        if kind in _TIE:
            return self._tied(operands, args, shape)
        if kind == "Concatenate":
            rank = len(shape)
            if op.axis % rank == rank - 1:
                return np.concatenate([o.numbers for o in operands]), ""
            return self._tied(operands, (), shape)
        if kind in ("Flatten", "Reshape", "Ravel"):
            return _tiled(x, shape)
        if kind in _REDUCE:
            return _reduced(op, x)
        if kind in _PASS and len(operands) == 1:
            if activation in _MIXING_ACTIVATIONS:
                return None, f"computes {activation} over all channels"
            if kind == "BatchNormalization" and op.axis % len(shape) != len(shape) - 1:
                return None, "normalizes another axis than the last"
            if kind == "Rescaling" and (np.ndim(op.scale) or np.ndim(op.offset)):
                return None, "scales each channel by a constant"
            return x.numbers, ""
        return None, "treats channels in a way that is not known"

    def _tied(
        self, operands: list[Channels], args: tuple, shape: tuple[int | None, ...]
    ) -> tuple[np.ndarray | None, str]:
        constants = [v for v in keras.tree.flatten(args) if not isinstance(v, Channels)]
        if any(np.ndim(v) > 0 and np.shape(v)[-1] != 1 for v in constants if v is not None):
            return None, "has a constant for each channel"
        depth = shape[-1]
        full = [o for o in operands if len(o.numbers) == depth]
        if not full or any(len(o.numbers) not in (1, depth) for o in operands):
            return None, "has operands of unknown depth"
        for other in operands:
            if len(other.numbers) != depth:
                self._pin(other.numbers, "it is broadcast to all channels")
        for other in full[1:]:
            self._tie(full[0].numbers, other.numbers)
        return full[0].numbers, ""


def _tiled(x: Channels, shape: tuple[int | None, ...]) -> tuple[np.ndarray | None, str]:
    """Row-major order: a longer last axis repeats the channels, once for each position in it."""
    depth, last = len(x.numbers), shape[-1]
    if not depth or not last or last % depth:
        return None, "splits channels up"
    return np.tile(x.numbers, last // depth), ""


def _reduced(op: Any, x: Channels) -> tuple[np.ndarray | None, str]:
    rank = len(x.shape)
    axes = op.axis if isinstance(op.axis, list | tuple) else [op.axis]
    if any(a is None or a % rank == rank - 1 for a in axes):
        return None, "reduces over the channels"
    return x.numbers, ""


# --- graphs -------------------------------------------------------------------------------------


def functional(model: Any) -> Any:
    """The graph of a Functional or Sequential model.

    Raises:
      UsageError: the model is of another kind, or has no input shape yet.
    """
    graph = graph_of(model)
    if graph is None:
        raise UsageError(
            "Channels are followed through Functional and Sequential models whose input shape is "
            f"known. Received: {getattr(model, 'name', model)!r}, a {type(model).__name__}. A "
            "subclassed model becomes one with keras.Model(inputs, model.call(inputs))."
        )
    return graph


def graph_of(op: Any) -> Any | None:
    """A model's graph of nodes, or None for what is no Functional or Sequential model."""
    if isinstance(op, keras.Sequential):
        return op._functional
    is_functional = isinstance(op, keras.Model) and hasattr(op, "_nodes_by_depth")
    return op if is_functional else None


def walk(graph: Any, inputs: Sequence[Any], visit: Callable[[Any, tuple, dict, Any], Any]) -> Any:
    """Runs `visit(operation, args, kwargs, node)` over a graph in order, into nested models too.

    Args:
      graph: from `functional`.
      inputs: one value for each of the graph's inputs.
      visit: returns the operation's output or outputs, as values of the same kind.

    Returns:
      The outputs, in the structure of the model's.
    """
    values: dict[int, Any] = {id(t): v for t, v in zip(graph.inputs, inputs, strict=True)}
    for node in _nodes(graph):
        if node.is_input or any(id(t) not in values for t in node.input_tensors):
            continue
        args, kwargs = node.arguments.fill_in(values)
        nested = graph_of(node.operation)
        if nested is not None:
            operands = [values[id(t)] for t in node.input_tensors]
            made = walk(nested, operands, visit)
        else:
            made = visit(node.operation, args, kwargs, node)
        for tensor, value in zip(node.outputs, keras.tree.flatten(made), strict=True):
            values[id(tensor)] = value
    return keras.tree.map_structure(lambda t: values[id(t)], graph._outputs_struct)


def _nodes(graph: Any) -> Iterator[Any]:
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]
