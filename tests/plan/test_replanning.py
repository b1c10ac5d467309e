"""One calibration is enough for every plan of a graph."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from small_models import ACT, Net, cnn, config_of, draw, plan_of

from tfq.calibrate.run import calibrate
from tfq.errors import TfqError
from tfq.graph.model import options_type
from tfq.plan.layout import make_layout
from tfq.plan.planner import make_plan
from tfq.plan.scheme import LayerRule
from tfq.quantize.emit import emit

DATA = Path(__file__).parents[1] / "unroll" / "data"


def kept():
    options = options_type("ReducerOptions")()
    options.keepDims = True
    return options


def everything() -> bytes:
    """Shared and fixed grids, moves, tables, a normalization, a spectrum, several outputs."""
    net = Net(1)
    x = net.input(1, 4, 4, 4, name="x")
    a = net.conv(x, 4, size=1, act=ACT.RELU, out="a")
    b = net.op("LOGISTIC", a, out="b")
    c = net.concat(a, b)
    d = net.op("TRANSPOSE", c, net.const([0, 2, 1, 3], "int32"), shape=(1, 4, 4, 8), out="d")
    e = net.reshape(d, 1, 128)
    table = net.op("LOG", net.op("ADD", net.op("EXP", e), 1.0), out="table")
    mean = net.op("MEAN", table, net.const([1], "int32"), shape=(1, 1), out="mean", options=kept())
    off = net.op("SUB", table, mean)
    square = net.op("MUL", off, off)
    axes = net.const([1], "int32")
    variance = net.op("MEAN", square, axes, shape=(1, 1), out="variance", options=kept())
    normal = net.op("MUL", off, net.op("RSQRT", net.op("ADD", variance, 1e-3)))
    power = net.op("MUL", e, e)
    heard = net.op("SUM", power, axes, shape=(1, 1), options=kept())
    z = net.op("LOG", net.op("ADD", heard, 1e-6), out="z")
    return net.bytes(net.softmax(net.dense(normal, 3), out="y"), z)


@pytest.mark.parametrize("name", ["cnn", "everything", pytest.param("gru", marks=pytest.mark.slow)])
def test_any_op_may_be_float_or_wider_without_other_statistics(name):
    made = {"cnn": cnn, "everything": everything}
    source = made[name]() if name in made else (DATA / f"{name}.tflite").read_bytes()
    planned = plan_of(source, draw(source, 3))
    model, graph, trained = planned.prepared.model, planned.graph, planned.prepared.trained.grids
    tried = 0
    # Steps of a loop are alike, and each trial plans all: a few ops of many are enough.
    for op in graph.ops if len(graph.ops) < 40 else graph.ops[:: len(graph.ops) // 4]:
        for dtype in ("float32", "int16", "int8"):
            rule = LayerRule(regex=f"^{re.escape(op.key)}$", activations=dtype)
            config = dataclasses.replace(
                planned.config, rules=(rule,), allow_float=(re.escape(op.key),)
            )
            layout = make_layout(graph, config, trained)
            plan = make_plan(graph, layout, planned.statistics, config, trained, model_sha256="")
            emit(model, plan)
            tried += 1
    assert tried >= 3 * min(len(graph.ops), 4)


def test_what_only_moves_is_watched_once():
    net = Net()
    x = net.input(2, 3, name="x")
    a = net.dense(x, 3, out="a")
    y = net.op("TRANSPOSE", net.reshape(a, 3, 2), net.const([1, 0], "int32"), shape=(2, 3))
    planned = plan_of(net.bytes(y))
    assert planned.layout.observed == {"x", "a"}
    rules = (LayerRule(regex=y.name, activations="float32"),)
    config = config_of(rules=rules, output_type="int8")
    layout = make_layout(planned.graph, config, {})
    plan = make_plan(planned.graph, layout, planned.statistics, config, {}, model_sha256="")
    assert plan.outputs[y.name].scale == planned.grid("a").scale


def test_statistics_of_fewer_tensors_do_until_one_is_needed():
    planned = plan_of(source := cnn())
    graph = planned.graph
    needed = {t.name for t in planned.layout.sources}
    few = calibrate(planned.prepared.bytes, draw(source, 20), tensors=needed)
    assert set(few) < planned.layout.observed
    again = make_plan(graph, planned.layout, few, planned.config, {}, model_sha256="")
    assert again.tensors == planned.plan.tensors
    config = config_of(rules=(LayerRule(regex="probabilities", activations="float32"),))
    config = dataclasses.replace(config, output_type="int8")
    with pytest.raises(TfqError, match="'probabilities' has no statistics"):
        make_plan(graph, make_layout(graph, config, {}), few, config, {}, model_sha256="")
    assert np.isfinite(planned.statistics["probabilities"].max)


def test_a_tensor_of_one_value_and_no_dimension_has_statistics():
    net = Net()
    total = net.op("SUM", net.input(1, 4, name="x"), net.const([0, 1], "int32"), shape=(), out="t")
    planned = plan_of(net.bytes(net.op("MUL", total, 2.0, out="y")))
    assert planned.statistics["t"].count == 20
    assert planned.statistics["t"].min < 0 < planned.statistics["t"].max
