"""Integer models of one op on random grids, and what the interpreter makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfq.graph.model import Graph, Model, Op, Quant, Tensor, options_type
from tfq.graph.numerics import LIMITS
from tfq.graph.optable import op_version
from tfq.runtime import Runner


class Draw:
    """Random tensors of one op."""

    def __init__(self, seed: int, dtype: str = "int8"):
        self.rng, self.dtype, self.count = np.random.default_rng(seed), dtype, 0

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high, endpoint=True))

    def scale(self, low: float = 0.01, high: float = 0.1) -> np.float32:
        return np.float32(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def quant(self, scale: Any = None) -> Quant:
        zero = 0 if self.dtype == "int16" else self.integer(-128, 127)
        scale = self.scale() if scale is None else scale
        if self.dtype == "int16":
            scale = scale / 256
        return Quant.per_tensor(np.float32(scale), zero)

    def integers(self, shape: tuple[int, ...], dtype: str | None = None) -> np.ndarray:
        dtype = dtype or self.dtype
        return self.rng.integers(*LIMITS[dtype], shape, endpoint=True).astype(
            {"int4": "int8"}.get(dtype, dtype)
        )

    def tensor(self, *shape: int, quant: Quant | None = None, const: bool = False) -> Tensor:
        self.count += 1
        data = self.integers(shape) if const else None
        return Tensor(f"t{self.count}", shape, self.dtype, data, quant or self.quant())

    def weights(self, *shape: int, axis: int | None, dtype: str = "int8") -> Tensor:
        """Narrow weights with a scale per index of `axis`, or one."""
        self.count += 1
        low, high = LIMITS[dtype]
        data = self.rng.integers(low + 1, high, shape, endpoint=True).astype(np.int8)
        channels = 1 if axis is None else shape[axis]
        scales = np.array([self.scale(0.002, 0.02) for _ in range(channels)], np.float32)
        quant = Quant(scales, np.zeros(channels, np.int64), axis or 0)
        return Tensor(f"w{self.count}", shape, dtype, data, quant)

    def bias(self, x: Tensor, w: Tensor, channels: int) -> Tensor:
        assert x.quant is not None
        assert w.quant is not None
        scales = (x.quant.scale[0] * w.quant.scale).astype(np.float32)
        wide = "int64" if self.dtype == "int16" else "int32"
        data = self.rng.integers(-3000, 3000, channels).astype(wide)
        quant = Quant(scales, np.zeros(scales.size, np.int64), 0)
        return Tensor(f"b{self.count}", (channels,), wide, data, quant)

    def constant(self, *values: int) -> Tensor:
        self.count += 1
        data = np.array(values, np.int32)
        return Tensor(f"k{self.count}", data.shape, "int32", data)


def options(name: str, **fields: Any) -> Any:
    made = options_type(name + "Options")()
    for key, value in fields.items():
        assert hasattr(made, key), key
        setattr(made, key, value)
    return made


def model_of(op: Op) -> Model:
    """The op alone, with all its computed tensors as inputs."""
    op.version = op_version(op)
    inputs = list(dict.fromkeys(t for t in op.inputs if t is not None and not t.is_const))
    return Model([Graph("main", [op], inputs, op.outputs)])


def runtime_results(
    model: Model, kernels: str, feeds: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return Runner(model.to_bytes(), kernels=kernels, threads=1).run(feeds)


def typical_scale(op: Op, terms: int) -> np.float32:
    """An output scale that the sum of so many products mostly fills."""
    x, w = op.input(0), op.input(1)
    assert x.quant is not None
    assert w.quant is not None
    size = 150 if x.dtype == "int8" else 32768
    real = size * float(x.quant.scale[0]) * 70 * float(w.quant.scale.mean())
    return np.float32(real * terms**0.5 / (60 if x.dtype == "int8" else 60 * 256))
