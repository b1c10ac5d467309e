"""Recognises an elementwise function by what it computes instead of by how it is written.

x * relu6(x + 3) / 6 can be written in dozens of orders. So a recovery takes the ops above a tensor
that form a function of one source (elementwise ops and constants), evaluates it on probe values,
and compares it with the function it knows. The probes are all bfloat16 numbers up to 1e3, 33,000 of
them, denser than any 8-bit activation will ever be and more than any such formula has corners;
functions with constants per channel get fewer, for every element of the constants.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import View
from tfq.rewrite.match import ACT, activation

_MAX_OPS = 14


def _select(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(c, a, b)


def _gelu(op: Op, x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    if op.options is not None and op.options.approximate:
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "ABS": np.abs,
    "ADD": np.add,
    "DIV": np.divide,
    "EXP": np.exp,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "LOGISTIC": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "MUL": np.multiply,
    "NEG": np.negative,
    "POW": np.power,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "RELU_0_TO_1": lambda x: np.clip(x, 0, 1),
    "SELECT": _select,
    "SELECT_V2": _select,
    "SIGN": np.sign,
    "SQUARE": np.square,
    "SUB": np.subtract,
    "TANH": np.tanh,
}
_WITH_OPTIONS: dict[str, Callable[..., np.ndarray]] = {
    "GELU": _gelu,
    "LEAKY_RELU": lambda op, x: np.where(x < 0, x * op.options.alpha, x),
}
_FUSED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    ACT.NONE: lambda x: x,
    ACT.RELU: _FUNCTIONS["RELU"],
    ACT.RELU6: _FUNCTIONS["RELU6"],
    ACT.RELU_N1_TO_1: _FUNCTIONS["RELU_N1_TO_1"],
}
ELEMENTWISE = frozenset(_FUNCTIONS) | frozenset(_WITH_OPTIONS)


def _bfloat16_probes() -> np.ndarray:
    bits = np.arange(1 << 16, dtype=np.uint32) << 16
    values = bits.view(np.float32)
    with np.errstate(invalid="ignore"):
        return values[np.isfinite(values) & (np.abs(values) <= 1e3)].astype(np.float64)


_FEW = np.concatenate([np.linspace(-9, 9, 73), [-500.0, -50, -1e-3, 1e-3, 50, 500]])
_ALL = _bfloat16_probes()


@dataclasses.dataclass(frozen=True)
class ElementwiseFunction:
    """The elementwise function that leads from `source` to the output of `ops[-1]`.

    Attributes:
      source: the only computed tensor that the ops read.
      ops: in execution order.
      shape: what the constants among the inputs broadcast to; () when all are scalars.
    """

    source: Tensor
    ops: tuple[Op, ...]
    shape: tuple[int, ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Values of the function at `x`, a vector; float64 [len(x), *shape] or [len(x)]."""
        with np.errstate(all="ignore"):
            values: dict[Tensor, np.ndarray] = {
                self.source: x.reshape(-1, *[1] * len(self.shape)).astype(np.float64)
            }
            for op in self.ops:
                args = []
                for t in op.inputs:
                    assert t is not None
                    if t.data is None:
                        args.append(values[t])
                    elif self.shape:
                        args.append(t.data.astype(np.float64))
                    else:
                        args.append(t.data.reshape(-1)[0].astype(np.float64))
                if op.name in _WITH_OPTIONS:
                    y = _WITH_OPTIONS[op.name](op, *args)
                else:
                    y = _FUNCTIONS[op.name](*args)
                values[op.outputs[0]] = _FUSED[activation(op)](y)
            return values[self.ops[-1].outputs[0]]

    def equals(self, known: Callable[[np.ndarray], np.ndarray]) -> bool:
        """Whether the function is `known`, to float rounding, at every probe."""
        for probes in (_FEW, _ALL) if not self.shape else (_FEW,):
            got, want = self(probes), known(probes.reshape(-1, *[1] * len(self.shape)))
            x = np.maximum(np.abs(probes), 1e-30).reshape(-1, *[1] * (got.ndim - 1))
            if not np.all(np.abs(got - want) <= 2e-6 * np.maximum(np.abs(want), x)):
                return False
        return True


def elementwise_functions(op: Op, view: View) -> Iterator[ElementwiseFunction]:
    """The elementwise functions that end in `op`, the nearest source first."""
    root = op.outputs[0]
    inside: list[Op] = []
    leaves: list[Tensor] = []

    def add(member: Op) -> bool:
        if member.name not in ELEMENTWISE or activation(member) not in _FUSED:
            return False
        if any(t is None for t in member.inputs):
            return False
        out = member.outputs[0]
        if out.dtype not in ("float32", "bool") or out.quant is not None:
            return False
        inside.append(member)
        for t in member.inputs:
            assert t is not None
            if not t.is_const and t not in leaves:
                leaves.append(t)
        return True

    if not add(op):
        return
    while True:
        if len(leaves) == 1:
            function = _function(root, leaves[0], inside)
            if function is not None:
                yield function
        if len(inside) >= _MAX_OPS or not leaves:
            return
        # Open the leaf that is computed last: it cannot be above another leaf.
        makers = [(t, view.producer(t)) for t in leaves]
        leaf, maker = (
            makers[0]
            if len(makers) == 1
            else max(makers, key=lambda m: -1 if m[1] is None else view.position(m[1]))
        )
        if maker is None:
            return
        leaves.remove(leaf)
        if not add(maker):
            return


def _function(root: Tensor, source: Tensor, inside: list[Op]) -> ElementwiseFunction | None:
    if source.dtype != "float32" or source.shape != root.shape:
        return None
    shapes = [t.shape for op in inside for t in op.inputs if t is not None and t.data is not None]
    sizes = {int(np.prod(s, dtype=np.int64)) for s in shapes}
    if sizes <= {1}:
        return ElementwiseFunction(source, tuple(inside[::-1]), ())
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        return None
    if len(shape) > len(root.shape) or np.broadcast_shapes(shape, root.shape) != root.shape:
        return None
    return ElementwiseFunction(source, tuple(inside[::-1]), shape)
