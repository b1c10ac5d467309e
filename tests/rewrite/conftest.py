"""A few lines to say a small float graph, rewrite it, and run both in LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfq.graph.model import Graph, Model, Op, Signature, Tensor, options_type
from tfq.rewrite import REWRITES, rewrite
from tfq.runtime import Runner

_OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "CONV_3D": "Conv3DOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "RESHAPE": "ReshapeOptions",
    "TRANSPOSE": "TransposeOptions",
    "CAST": "CastOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "CUMSUM": "CumsumOptions",
    "SHAPE": "ShapeOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "CONCATENATION": "ConcatenationOptions",
    "PACK": "PackOptions",
    "SOFTMAX": "SoftmaxOptions",
    "L2_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "GELU": "GeluOptions",
    "BUCKETIZE": "BucketizeOptions",
}


class Net:
    """A graph under construction; every method returns the tensor it makes."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.ops: list[Op] = []
        self.count = 0
        self.rng = np.random.default_rng(7)
        self.model = Model([])

    def input(self, *shape: int, dtype: str = "float32") -> Tensor:
        self.inputs.append(Tensor(f"in{len(self.inputs)}", shape, dtype))
        return self.inputs[-1]

    def const(self, values: Any, dtype: str = "float32") -> Tensor:
        self.count += 1
        data = np.array(values, np.bool_ if dtype == "bool" else np.dtype(dtype))
        return Tensor(f"c{self.count}", data.shape, dtype, data)

    def weights(self, *shape: int) -> Tensor:
        return self.const(self.rng.normal(0, 0.5, shape))

    def op(
        self,
        name: str,
        *inputs: Tensor | float | None,
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
        **fields: Any,
    ) -> Tensor:
        """Appends an op; by default its output broadcasts the inputs' shapes."""
        tensors = [self.const(x) if isinstance(x, int | float) else x for x in inputs]
        present = [t for t in tensors if t is not None]
        if shape is None:
            shape = np.broadcast_shapes(*(t.shape for t in present))
        self.count += 1
        out = Tensor(f"t{self.count}", shape, dtype or present[0].dtype)
        options = None
        if name in _OPTIONS:
            options = options_type(_OPTIONS[name])()
            for key, value in fields.items():
                assert hasattr(options, key), key
                setattr(options, key, value)
        self.ops.append(Op(name, tensors, [out], options))
        return out

    def conv(self, x: Tensor, channels: int = 4, *, act: int = 0) -> Tensor:
        """A 3x3 VALID convolution of stride 1."""
        n, h, w, c = x.shape
        return self.op(
            "CONV_2D",
            x,
            self.weights(channels, 3, 3, c),
            self.weights(channels),
            shape=(n, h - 2, w - 2, channels),
            padding=1,
            strideH=1,
            strideW=1,
            fusedActivationFunction=act,
        )

    def rewritten(
        self,
        outputs: Tensor | list[Tensor],
        *names: str,
        tol: float = 1e-5,
        spread: float = 2.0,
        activations: str = "int8",
    ) -> list[str]:
        """The op names after the rewrites `names`, having checked the numbers and the names.

        `self.applied` and `self.model` hold the rest of the result.
        """
        outs = [outputs] if isinstance(outputs, Tensor) else outputs
        graph = Graph("main", self.ops, self.inputs, outs)
        signature = Signature(
            "serving_default",
            {f"x{i}": t for i, t in enumerate(self.inputs)},
            {f"y{i}": t for i, t in enumerate(outs)},
        )
        model = Model([graph], [signature])
        before = model.to_bytes()
        skip = [n for n in REWRITES if n not in names]
        assert len(skip) == len(REWRITES) - len(names), "an unknown rewrite"
        self.model, self.applied = rewrite(model, skip=skip, activations=activations)
        after = self.model.to_bytes()
        assert model.to_bytes() == before, "the model given was changed"
        self.same(before, after, tol, spread)
        return [op.name for op in self.model.main.ops]

    def same(self, before: bytes, after: bytes, tol: float, spread: float) -> None:
        a, b = Runner(before, kernels="builtin"), Runner(after, kernels="builtin")
        assert [d["name"] for d in a.inputs] == [d["name"] for d in b.inputs]
        assert [d["name"] for d in a.outputs] == [d["name"] for d in b.outputs]
        for _ in range(3):
            values = {}
            for d in a.inputs:
                drawn = self.rng.normal(0, spread, d["shape"])
                values[d["name"]] = drawn.astype(d["dtype"])
            want, got = a.run(values), b.run(values)
            for name, w in want.items():
                scale = tol * (1 + np.max(np.abs(w.astype(np.float64))))
                np.testing.assert_allclose(got[name], w, rtol=0, atol=scale, err_msg=name)

    def reasons(self, rule: Any) -> list[str]:
        """What `rule` says about each op at which it looks and does not apply."""
        from tfq.rewrite.core import No, View

        view = View(Graph("main", self.ops, self.inputs, [self.ops[-1].outputs[0]]))
        found = [rule.check(op, view) for op in self.ops if op.name in rule.roots]
        return [str(f) for f in found if isinstance(f, No)]


@pytest.fixture
def net() -> Net:
    return Net()
