"""Which activations may be rescaled channel by channel, and by which weights.

A group is a set of tensors whose channels must be scaled alike: the outputs of weighted layers, and
what is computed of them by ops that commute with a positive scale per channel (ReLU, pooling,
padding with zeros, a sum of two such tensors, ...). It can be rescaled when everything that writes
it takes the scale into constant weights, and everything that reads it gives it back.

Left alone are tensors that an input, output or signature shows, that a bounded activation writes
(RELU6 has one cap for all channels; scaled, each would need its own), and that any other op reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.optable import RESHAPES
from tfq.rewrite.match import ACT, WEIGHTED, activation, axes, is_float, static

# f(s x) = s f(x) for s > 0 along the last axis, which stays where it is. The other inputs do not
# matter, or are looked at below.
_ALONG = frozenset(
    [
        "ABS",
        "AVERAGE_POOL_2D",
        "BATCH_TO_SPACE_ND",
        "LEAKY_RELU",
        "MAX_POOL_2D",
        "MEAN",
        "MIRROR_PAD",
        "PAD",
        "PRELU",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "RELU",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SPACE_TO_BATCH_ND",
        "SUM",
    ]
)
_REDUCTIONS = frozenset(["MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM"])


@dataclasses.dataclass(frozen=True, eq=False)
class Use:
    """A weighted op that writes or reads a group.

    Attributes:
      op: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED or TRANSPOSE_CONV with constant weights.
      channels: for each channel of the op's output (a writer) or each input channel of its weights
        (a reader), int [channels], the group's channel.
    """

    op: Op
    channels: np.ndarray

    @property
    def data(self) -> Tensor:
        """The tensor whose channels the op reads."""
        return self.op.input(WEIGHTED[self.op.name][0])

    @property
    def weights(self) -> np.ndarray:
        return self.op.input(WEIGHTED[self.op.name][1]).values()


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Tensors whose channels are scaled together.

    Attributes:
      name: of the first tensor; plans and messages call the group so.
      size: how many channels there are.
      tensors: each with, for every position of its last axis, the channel; int [last axis].
      writers, readers: the layers that take the scale, and those that give it back.
    """

    name: str
    size: int
    tensors: dict[Tensor, np.ndarray]
    writers: list[Use]
    readers: list[Use]


def input_channels(op: Op) -> tuple[int, int] | None:
    """How often and along which axis of its weights a weighted op reads input channels.

    Returns:
      (axis, repeats): each input channel stands for `repeats` places in a row along `axis`; None
      for convolutions with groups, whose weights hold a part of the channels each.
    """
    xi, wi, _, _ = WEIGHTED[op.name]
    w, x = op.input(wi), op.input(xi)
    if op.name == "DEPTHWISE_CONV_2D":
        return 3, w.shape[3] // x.shape[-1]
    axis = 1 if op.name == "FULLY_CONNECTED" else 3
    if op.name != "FULLY_CONNECTED" and w.shape[axis] != x.shape[-1]:
        return None
    return axis, 1


class _Set:
    """A group in the making."""

    def __init__(self, size: int):
        self.size = size
        self.tensors: dict[Tensor, np.ndarray] = {}
        self.writers: list[Use] = []
        self.readers: list[Use] = []
        self.blocked = False


class _Finder:
    def __init__(self, graph: Graph, shown: Iterable[Tensor]):
        self._sets: dict[Tensor, _Set] = {}
        self._order: list[_Set] = []
        self._shown = {*graph.inputs, *graph.outputs, *shown}
        self._readers: dict[Tensor, int] = {}
        for op in graph.ops:
            for t in op.inputs:
                if t is not None:
                    self._readers[t] = self._readers.get(t, 0) + 1

    def add(self, op: Op) -> None:
        if op.name in WEIGHTED:
            self._weighted(op)
        elif op.name in _ALONG or op.name in RESHAPES:
            self._along(op)
        elif op.name == "ADD" or op.name == "SUB":
            self._sum(op)
        else:
            self._block(*op.inputs)

    def groups(self) -> list[ChannelGroup]:
        found = []
        for s in self._order:
            if s.blocked or not s.readers or s.size < 2:
                continue
            if any(t in self._shown or t.is_variable for t in s.tensors):
                continue
            name = next(iter(s.tensors)).name
            found.append(ChannelGroup(name, s.size, s.tensors, s.writers, s.readers))
        return found

    def _block(self, *tensors: Tensor | None) -> None:
        for t in tensors:
            if t in self._sets:
                self._sets[t].blocked = True

    def _own_weights(self, op: Op) -> bool:
        """Whether the op's weights and bias are constants that can be replaced."""
        _, wi, bi, _ = WEIGHTED[op.name]
        w = op.input(wi)
        bias = op.inputs[bi] if bi < len(op.inputs) else None
        if not w.is_const or not is_float(w, op.outputs[0]) or self._readers[w] > 1:
            return False
        return bias is None or (bias.is_const and is_float(bias))

    def _weighted(self, op: Op) -> None:
        xi = WEIGHTED[op.name][0]
        x, out = op.input(xi), op.outputs[0]
        self._block(*(t for i, t in enumerate(op.inputs) if i != xi))
        if not self._own_weights(op) or not static(x, out):
            self._block(x)
            return
        s = self._sets.get(x)
        if s is not None:
            self._read(op, s, s.tensors[x])
        if activation(op) in (ACT.NONE, ACT.RELU):
            made = _Set(out.shape[-1])
            index = np.arange(made.size)
            made.tensors[out] = index
            made.writers.append(Use(op, index))
            self._sets[out] = made
            self._order.append(made)

    def _read(self, op: Op, s: _Set, index: np.ndarray) -> None:
        where = input_channels(op)
        if where is None:
            s.blocked = True
            return
        axis, repeats = where
        places = op.input(WEIGHTED[op.name][1]).shape[axis]
        channels = np.repeat(index, repeats)
        if places % channels.size:
            s.blocked = True
            return
        # A dense layer may flatten its input; channels vary fastest.
        s.readers.append(Use(op, np.tile(channels, places // channels.size)))

    def _along(self, op: Op) -> None:
        x, out = op.input(0), op.outputs[0]
        s = self._sets.get(x)
        self._block(*op.inputs[1:])
        if s is None:
            return
        if not self._keeps_channels(op, x, out):
            s.blocked = True
            return
        index = s.tensors[x]
        self._join(out, s, np.tile(index, out.shape[-1] // index.size))

    def _keeps_channels(self, op: Op, x: Tensor, out: Tensor) -> bool:
        if (
            not x.size
            or not static(x, out)
            or len(op.outputs) != 1
            or not out.shape
            or not is_float(x, out)
        ):
            return False
        if activation(op) not in (ACT.NONE, ACT.RELU):
            return False
        last = len(x.shape) - 1
        if op.name in _REDUCTIONS:
            reduced = axes(op.input(1), len(x.shape))
            return reduced is not None and last not in reduced
        if op.name in RESHAPES:
            # The last axis varies fastest, so joined with others it is repeated; split it is lost.
            return out.shape[-1] % x.shape[-1] == 0
        if op.name == "PRELU" and not op.input(1).is_const:
            return False
        return out.shape[-1] == x.shape[-1]

    def _sum(self, op: Op) -> None:
        a, b, out = op.input(0), op.input(1), op.outputs[0]
        first, second = self._sets.get(a), self._sets.get(b)
        whole = (
            first is not None
            and second is not None
            and np.array_equal(first.tensors[a], second.tensors[b])
            and first.size == second.size
            and activation(op) in (ACT.NONE, ACT.RELU)
            and static(a, b, out)
            and out.shape[-1:] == a.shape[-1:] == b.shape[-1:]
        )
        if not whole or first is None or second is None:
            self._block(a, b)
            return
        if first is not second:
            # The older one stays, so that names do not depend on the order of the operands.
            first, second = sorted((first, second), key=self._order.index)
            for t in second.tensors:
                self._sets[t] = first
            first.tensors.update(second.tensors)
            first.writers += second.writers
            first.readers += second.readers
            first.blocked |= second.blocked
            self._order.remove(second)
        self._join(out, first, first.tensors[a])

    def _join(self, t: Tensor, s: _Set, index: np.ndarray) -> None:
        s.tensors[t] = index
        self._sets[t] = s


def find_groups(graph: Graph, shown: Iterable[Tensor] = ()) -> list[ChannelGroup]:
    """The groups of a prepared float graph that can be rescaled, in execution order.

    Args:
      graph: with constants folded and BatchNorm inside the weights.
      shown: tensors beyond the graph's inputs and outputs that are seen from outside (signatures').
    """
    finder = _Finder(graph, shown)
    for op in graph.ops:
        finder.add(op)
    return finder.groups()
