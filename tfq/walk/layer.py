"""A layer at which a walk halts, seen with everything that methods of quantization ask of it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from tfq.errors import ModelError
from tfq.graph.clamping import clamp_range
from tfq.graph.model import Model, Op, Quant, Tensor
from tfq.graph.optable import OpSpec, op_version
from tfq.walk.stretches import Kernels
from tfq.walk.targets import Target

# How far kernels may be from the rounded accumulator, in steps: int16 kernels multiply by 16 bits.
_TOLERANCE = {"int8": 2, "uint8": 2, "int16": 8}
_COMPARED = 2


@dataclasses.dataclass
class Layer:
    """A weighted op with constant integer weights, before it runs.

    Attributes:
      name: of its output in the float model.
      op: the op as it will run, replaced constants included.
      row: its row of the op table.
      inputs: the integers that it reads, for every sample.
      float_inputs: what the same op of the float model reads, for every sample; None where the
        walk keeps no float values.
      float_op: the op of the float model, with its weights; None where the walk has none.
      target: means of what it is to compute; None where the walk has no float model.
    """

    name: str
    op: Op
    row: OpSpec
    inputs: Sequence[np.ndarray]
    float_inputs: Sequence[np.ndarray] | None
    float_op: Op | None
    target: Target | None
    model: Model
    _accumulating: tuple[Tensor, Kernels] | None = None

    @property
    def x(self) -> Tensor:
        """The data input."""
        assert self.row.data is not None
        return self.op.input(self.row.data[0])

    @property
    def weights(self) -> Tensor:
        assert self.row.weights is not None
        return self.op.input(self.row.weights)

    @property
    def bias(self) -> Tensor | None:
        i = self.row.bias
        return self.op.inputs[i] if i is not None and i < len(self.op.inputs) else None

    @property
    def y(self) -> Tensor:
        return self.op.outputs[0]

    @property
    def channels(self) -> int:
        return self.y.shape[-1]

    @property
    def ratio(self) -> np.ndarray:
        """What one step of the accumulator is in steps of the output, float64 [channels]."""
        x, w, y = (_quant(t) for t in (self.x, self.weights, self.y))
        scales = float(x.scale[0]) * w.scale.astype(np.float64) / float(y.scale[0])
        return np.broadcast_to(scales, (self.channels,))

    @property
    def reach(self) -> tuple[int, int]:
        """The least and largest output, in steps from its zero point: the grid's ends, or where
        the fused activation clamps."""
        low, high = clamp_range(self.op)
        zero = 0 if self.y.quant is None else int(self.y.quant.zero_point[0])
        return low - zero, high - zero

    @property
    def bias_steps(self) -> np.ndarray:
        """The bias in steps of the output, float64 [channels]."""
        if self.bias is None:
            return np.zeros(self.channels)
        return self.bias.values().reshape(-1).astype(np.float64) * self.ratio

    def replace(self, i: int, tensor: Tensor) -> None:
        """Gives the op another constant as input `i`, with which the walk goes on."""
        inputs = list(self.op.inputs)
        inputs[i] = tensor
        self.op = dataclasses.replace(self.op, inputs=inputs)

    def outputs(self, samples: int | None = None) -> Iterator[np.ndarray]:
        """The integers that its kernel computes as the op is now."""
        reads = [t for t in self.op.inputs if t is not None and not t.is_const]
        run = Kernels(self.model, [self.op], reads, [self.y])
        for q in self.inputs[:samples]:
            yield run([q] * len(reads))[0]

    def accumulators(self, samples: int | None = None) -> Iterator[np.ndarray]:
        """The sums of weights times inputs, without the bias.

        They come from a float32 model of the op with the integer weights, which is fed with the
        inputs minus their zero point: exact below 2^24, else to float32's rounding.

        Returns:
          For each sample float32 [positions, channels], in steps of the accumulator.

        Raises:
          ModelError: the op has no such form.
        """
        if self._accumulating is None or self._accumulating[0] is not self.weights:
            self._accumulating = self.weights, self._accumulator()
        run = self._accumulating[1]
        zero = np.float32(_quant(self.x).zero_point[0])
        for q in self.inputs[:samples]:
            yield run([q.astype(np.float32) - zero])[0].reshape(-1, self.channels)

    def _accumulator(self) -> Kernels:
        """The op in float32, with the integer weights and without bias and activation."""
        assert self.row.data is not None
        assert self.row.weights is not None
        x, w, y = (_as_float(t) for t in (self.x, self.weights, self.y))
        w.data = self.weights.values().astype(np.float32)
        inputs = list(self.op.inputs)
        inputs[self.row.data[0]], inputs[self.row.weights] = x, w
        if self.row.bias is not None and self.row.bias < len(inputs):
            zeros = np.zeros(self.channels, np.float32)
            inputs[self.row.bias] = Tensor("no bias", (self.channels,), "float32", zeros)
        options = copy.copy(self.op.options)
        options.fusedActivationFunction = 0
        op = dataclasses.replace(self.op, inputs=inputs, outputs=[y], options=options)
        op.version = op_version(op)
        return Kernels(Model([]), [op], [x], [y])

    def without_accumulators(self) -> str:
        """Why what the kernel computes is not told by accumulators, or "" when it is.

        The kernel itself is asked: its outputs of the first samples are compared.
        """
        if self.x.quant is None or self.y.quant is None or self.weights.quant is None:
            return "one of its tensors has no grid"
        if self.y.dtype not in _TOLERANCE or self.x.dtype not in _TOLERANCE:
            return f"it computes {self.y.dtype} from {self.x.dtype}"
        if not hasattr(self.op.options, "fusedActivationFunction"):
            return "its options are not known"
        if self.weights.quant.scale.size not in (1, self.channels):
            return "its weights have other scales than one, or one per output channel"
        ratio, offset, (low, high) = self.ratio, self.bias_steps, self.reach
        zero = int(self.y.quant.zero_point[0])
        try:
            for z, q in zip(self.accumulators(_COMPARED), self.outputs(_COMPARED), strict=True):
                expected = np.clip(np.rint(z * ratio + offset), low, high)
                got = q.reshape(-1, self.channels).astype(np.float64) - zero
                off = float(np.abs(got - expected).max(initial=0.0))
                if not off <= _TOLERANCE[self.y.dtype]:
                    return f"its kernel is {off:.0f} steps from the rounded accumulator"
        except ModelError as e:
            return f"it has no float form ({e})"
        return ""


def _quant(t: Tensor) -> Quant:
    if t.quant is None:
        raise ModelError(f"Tensor {t.name!r} has no grid.")
    return t.quant


def _as_float(t: Tensor) -> Tensor:
    return Tensor(t.name, t.shape, "float32", signature=t.signature, has_rank=t.has_rank)
