"""Small float models, said in a few lines, and what tests do with them: plan and emit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.calibrate.run import calibrate
from tfq.calibrate.statistics import Statistics
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.model import Graph, Model, Op, Signature, Tensor, options_type
from tfq.plan.float_schemes import plan_float
from tfq.plan.layout import Layout, make_layout
from tfq.plan.plan import Plan
from tfq.plan.planner import make_plan
from tfq.plan.scheme import Config, get_scheme
from tfq.quantize.candidate import Candidate, build
from tfq.quantize.emit import Emitted, emit
from tfq.rewrite.prepare import Prepared, prepare
from tfq.runtime import Runner

ACT = schema.ActivationFunctionType
_OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "POW": "PowOptions",
    "RESHAPE": "ReshapeOptions",
    "TRANSPOSE": "TransposeOptions",
    "CAST": "CastOptions",
    "MEAN": "ReducerOptions",
    "CONCATENATION": "ConcatenationOptions",
    "SOFTMAX": "SoftmaxOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "REDUCE_MAX": "ReducerOptions",
    "FAKE_QUANT": "FakeQuantOptions",
    "SELECT_V2": "SelectV2Options",
}


class Net:
    """A float graph under construction; every method returns the tensor it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.inputs: list[Tensor] = []
        self.ops: list[Op] = []
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def input(self, *shape: int, name: str = "", dtype: str = "float32") -> Tensor:
        self.inputs.append(Tensor(name or f"in{len(self.inputs)}", shape, dtype))
        return self.inputs[-1]

    def const(self, values: Any, dtype: str = "float32", name: str = "") -> Tensor:
        self.count += 1
        data = np.array(values, np.bool_ if dtype == "bool" else np.dtype(dtype))
        return Tensor(name or f"c{self.count}", data.shape, dtype, data)

    def op(
        self,
        name: str,
        *inputs: Tensor | float | None,
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
        out: str = "",
        options: Any = None,
        **fields: Any,
    ) -> Tensor:
        """Appends an op; by default its output broadcasts the inputs' shapes."""
        tensors = [self.const(x) if isinstance(x, int | float) else x for x in inputs]
        present = [t for t in tensors if t is not None]
        if shape is None:
            shape = np.broadcast_shapes(*(t.shape for t in present))
        self.count += 1
        result = Tensor(out or f"{name.lower()}_{self.count}", shape, dtype or present[0].dtype)
        if options is None and name in _OPTIONS:
            options = options_type(_OPTIONS[name])()
        for key, value in fields.items():
            assert hasattr(options, key), key
            setattr(options, key, value)
        self.ops.append(Op(name, tensors, [result], options))
        return result

    def conv(
        self,
        x: Tensor,
        channels: int = 4,
        *,
        size: int = 3,
        act: int = 0,
        weights: Any = None,
        bias: Any = None,
        out: str = "",
    ) -> Tensor:
        """A VALID convolution of stride 1."""
        n, h, w, c = x.shape
        if weights is None:
            weights = self.rng.normal(0, (size * size * c) ** -0.5, (channels, size, size, c))
        bias = self.rng.normal(0, 0.1, channels) if bias is None else bias
        options = options_type("Conv2DOptions")()
        return self.op(
            "CONV_2D",
            x,
            weights if isinstance(weights, Tensor) else self.const(weights),
            bias if isinstance(bias, Tensor) else self.const(bias),
            shape=(n, h - size + 1, w - size + 1, channels),
            out=out,
            options=options,
            padding=schema.Padding.VALID,
            strideH=1,
            strideW=1,
            fusedActivationFunction=act,
        )

    def depthwise(self, x: Tensor, *, size: int = 3, act: int = 0, out: str = "") -> Tensor:
        n, h, w, c = x.shape
        options = options_type("DepthwiseConv2DOptions")()
        return self.op(
            "DEPTHWISE_CONV_2D",
            x,
            self.const(self.rng.normal(0, 1 / size, (1, size, size, c))),
            self.const(self.rng.normal(0, 0.1, c)),
            shape=(n, h - size + 1, w - size + 1, c),
            out=out,
            options=options,
            padding=schema.Padding.VALID,
            strideH=1,
            strideW=1,
            depthMultiplier=1,
            fusedActivationFunction=act,
        )

    def upsample(self, x: Tensor, channels: int = 2, *, size: int = 3, out: str = "") -> Tensor:
        """A transposed convolution of stride 2, without a bias."""
        n, h, w, c = x.shape
        shape = (n, 2 * h, 2 * w, channels)
        return self.op(
            "TRANSPOSE_CONV",
            self.const(shape, "int32"),
            self.const(self.rng.normal(0, 1, (channels, size, size, c))),
            x,
            shape=shape,
            dtype=x.dtype,
            out=out,
            options=options_type("TransposeConvOptions")(),
            padding=schema.Padding.SAME,
            strideH=2,
            strideW=2,
        )

    def dense(
        self,
        x: Tensor,
        units: int,
        *,
        act: int = 0,
        weights: Any = None,
        bias: Any = None,
        out: str = "",
    ) -> Tensor:
        n, c = x.shape
        if weights is None:
            weights = self.rng.normal(0, c**-0.5, (units, c))
        bias = self.rng.normal(0, 0.1, units) if bias is None else bias
        return self.op(
            "FULLY_CONNECTED",
            x,
            weights if isinstance(weights, Tensor) else self.const(weights),
            bias if isinstance(bias, Tensor) else self.const(bias),
            shape=(n, units),
            out=out,
            options=options_type("FullyConnectedOptions")(),
            fusedActivationFunction=act,
        )

    def mean(self, x: Tensor, out: str = "") -> Tensor:
        """Over height and width."""
        return self.op(
            "MEAN", x, self.const([1, 2], "int32"), shape=(x.shape[0], x.shape[3]), out=out
        )

    def reshape(self, x: Tensor, *shape: int, out: str = "") -> Tensor:
        return self.op("RESHAPE", x, self.const(shape, "int32"), shape=shape, out=out)

    def softmax(self, x: Tensor, out: str = "") -> Tensor:
        return self.op("SOFTMAX", x, out=out, beta=1.0)

    def concat(self, *tensors: Tensor, out: str = "") -> Tensor:
        shape = (*tensors[0].shape[:-1], sum(t.shape[-1] for t in tensors))
        return self.op("CONCATENATION", *tensors, shape=shape, out=out, axis=-1)

    def graph(self, *outputs: Tensor) -> Graph:
        return Graph("main", self.ops, self.inputs, list(outputs))

    def model(self, *outputs: Tensor) -> Model:
        """With a signature that calls inputs x0, x1, ... and outputs y0, y1, ..."""
        signature = Signature(
            "serving_default",
            {f"x{i}": t for i, t in enumerate(self.inputs)},
            {f"y{i}": t for i, t in enumerate(outputs)},
        )
        return Model([self.graph(*outputs)], [signature])

    def bytes(self, *outputs: Tensor) -> bytes:
        return self.model(*outputs).to_bytes()


def cnn(seed: int = 0, size: int = 8, classes: int = 5) -> bytes:
    """Convolution, depthwise, residual, pooling by MEAN, dense, softmax; a signature x0 -> y0."""
    net = Net(seed)
    x = net.input(1, size, size, 2, name="image")
    a = net.conv(x, 6, act=ACT.RELU, out="conv")
    b = net.conv(a, 6, size=1, act=ACT.RELU6, out="point")
    c = net.op("ADD", a, b, out="residual")
    d = net.depthwise(c, act=ACT.RELU, out="depthwise")
    y = net.dense(net.mean(d, out="pooled"), classes, out="logits")
    return net.bytes(net.softmax(y, out="probabilities"))


def draw(model: Model | bytes, count: int, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Normal samples by tensor name."""
    graph = (Model.from_bytes(model) if isinstance(model, bytes) else model).main
    rng = np.random.default_rng(seed)
    return [
        {t.name: rng.normal(0, 1, t.shape).astype(t.dtype) for t in graph.inputs}
        for _ in range(count)
    ]


@dataclasses.dataclass
class Planned:
    """A model on its way: prepared, laid out, planned."""

    prepared: Prepared
    config: Config
    layout: Layout
    statistics: Statistics | None
    plan: Plan

    @property
    def graph(self) -> Graph:
        return self.prepared.model.main

    def op(self, name: str) -> Op:
        """The op whose first output is `name`."""
        return next(op for op in self.graph.ops if op.outputs[0].name == name)

    def grid(self, name: str) -> Any:
        return self.plan.tensors[name].grid

    def emit(self, *, spare_biases: bool = False) -> Emitted:
        return emit(self.prepared.model, self.plan, spare_biases=spare_biases)

    def candidate(self) -> Candidate:
        return build(self.prepared, self.layout, self.statistics, self.config)


def config_of(scheme: str = "int8", **options: Any) -> Config:
    return Config(scheme=get_scheme(scheme), **options)


def plan_of(
    source: bytes,
    samples: Sequence[Mapping[str, np.ndarray]] | None = None,
    config: Config | None = None,
) -> Planned:
    """The whole way from float bytes to a plan, as `convert_model` goes it."""
    config = config or config_of()
    integer = config.scheme.compute == "integer"
    activations = config.scheme.activations if integer else "int8"
    prepared = prepare(source, integer=integer, activations=activations)
    graph = prepared.model.main
    if not integer:
        plan = plan_float(graph, config, model_sha256=prepared.sha256)
        empty = make_layout(Graph("none", [], [], []), config, {})
        return Planned(prepared, config, empty, None, plan)
    layout = make_layout(graph, config, prepared.trained.grids)
    statistics = None
    if layout.observed:
        given = draw(source, 20) if samples is None else samples
        statistics = calibrate(prepared.bytes, given, tensors=layout.observed)
    plan = make_plan(
        graph, layout, statistics, config, prepared.trained.grids, model_sha256=prepared.sha256
    )
    return Planned(prepared, config, layout, statistics, plan)


def distance(
    net: Net, y: Tensor, samples: Sequence[Mapping[str, np.ndarray]], **options: Any
) -> tuple[float, float]:
    """How far the integer model is from the float one at most, in steps of its output; a step."""
    source = net.bytes(y)
    model = plan_of(source, samples, config_of(**options)).emit().model
    exact, integer = Runner(source), Runner(model.to_bytes())
    scale = float(model.main.outputs[0].quant.scale[0])
    given = InputQuantizer(model)
    worst = 0.0
    for sample in samples:
        want = exact.run(sample)[y.name].astype(np.float64)
        got = dequantized(model, integer.run(given(sample)))[y.name]
        worst = max(worst, float(np.abs(want - got).max()) / scale)
    return worst, scale


def svdf() -> Model:
    """An op with a state that is kept from run to run."""
    x, y = Tensor("x", (1, 2), "float32"), Tensor("y", (1, 3), "float32")
    options = options_type("SVDFOptions")()
    options.rank = 1
    rng = np.random.default_rng(0)
    feature = Tensor("f", (3, 2), "float32", rng.normal(size=(3, 2)).astype(np.float32))
    time = Tensor("t", (3, 4), "float32", rng.normal(size=(3, 4)).astype(np.float32))
    state = Tensor("s", (1, 12), "float32", is_variable=True)
    op = Op("SVDF", [x, feature, time, None, state], [y], options)
    return Model([Graph("main", [op], [x], [y])])
