"""Whole models: the simulator against the interpreter, tensor by tensor."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import ACT, Net, cnn, config_of, plan_of

from tfq.errors import ModelError, UsageError
from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.graph.model import Model, Op
from tfq.graph.numerics import LIMITS
from tfq.runtime import KERNELS, Runner

pytestmark = pytest.mark.slow


def simulate(*args, **kwargs):
    from tfq.keras.simulation import simulate

    return simulate(*args, **kwargs)


def emitted(source: bytes, scheme: str = "int8", **options) -> Model:
    return plan_of(source, config=config_of(scheme, **options)).emit().model


def random_inputs(model: Model, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        t.name: rng.integers(*LIMITS[t.dtype], (count, *t.shape[1:]), endpoint=True).astype(t.dtype)
        for t in model.main.inputs
    }


def assert_every_tensor_is_the_same(model: Model, kernels: str, count: int = 6) -> None:
    simulator = simulate(model.to_bytes(), kernels=kernels)
    feeds = random_inputs(model, count)
    got = simulator.integers(list(feeds.values()))
    assert set(got) == {t.name for t in model.main.tensors() if not t.is_const}
    runner = Runner(model.to_bytes(), kernels=kernels, keep_intermediates=True)
    index = {d["name"]: d["index"] for d in runner.tensor_details()}
    for i in range(count):
        runner.run({name: x[i : i + 1] for name, x in feeds.items()})
        for name, q in got.items():
            np.testing.assert_array_equal(
                q[i : i + 1], runner.tensor(index[name]), err_msg=f"{name} sample {i}"
            )


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_every_tensor_of_a_cnn(scheme: str, kernels: str) -> None:
    assert_every_tensor_is_the_same(emitted(cnn(size=12), scheme), kernels)


def test_tables_and_moves() -> None:
    """What tfq itself adds: tables by GATHER and what counts their rows."""
    net = Net(3)
    x = net.input(1, 6, 6, 4, name="x")
    a = net.op("LOGISTIC", net.conv(x, 4, out="conv"), out="gate")
    b = net.op("SIN", net.conv(x, 4, out="other"), out="table")
    c = net.concat(net.op("MUL", a, b, out="product"), a, out="joined")
    y = net.softmax(net.dense(net.reshape(c, 1, 128, out="flat"), 6, act=ACT.RELU, out="dense"))
    model = emitted(net.bytes(y))
    assert "GATHER" in {op.name for op in model.main.ops}
    for kernels in ("xnnpack", "reference"):
        assert_every_tensor_is_the_same(model, kernels)


def test_real_values_in_and_out() -> None:
    model = emitted(cnn())
    simulator = simulate(model.to_bytes())
    x = np.random.default_rng(5).normal(0, 1, (3, 8, 8, 2)).astype(np.float32)
    runner, feed = Runner(model.to_bytes()), InputQuantizer(model)
    want = [
        dequantized(model, runner.run(feed({"image": x[i : i + 1]})))["probabilities"]
        for i in range(3)
    ]
    np.testing.assert_array_equal(simulator(x), np.concatenate(want))
    np.testing.assert_array_equal(simulator.predict(x, verbose=0), np.concatenate(want))
    reals = simulator.reals(x)
    np.testing.assert_array_equal(reals["probabilities"], np.concatenate(want))
    assert reals["conv"].dtype == np.float32
    assert simulator.integers(x)["conv"].dtype == np.int8


def test_float_boundaries_are_ops_of_the_file() -> None:
    model = emitted(cnn(), input_type="float32", output_type="float32")
    assert model.main.inputs[0].dtype == "float32"
    simulator = simulate(model.to_bytes())
    x = np.random.default_rng(5).normal(0, 1, (1, 8, 8, 2)).astype(np.float32)
    (want,) = Runner(model.to_bytes()).run({model.main.inputs[0].name: x}).values()
    np.testing.assert_array_equal(simulator(x), want)


def test_layers_make_sub_models() -> None:
    import keras

    model = emitted(cnn())
    for op in model.main.ops:
        op.outputs[0].name = f"model/{op.outputs[0].name}/Op"
    simulator = simulate(model.to_bytes())
    names = [layer.name for layer in simulator.layers]
    assert names == [
        "x0",
        "x0.quantize",
        "conv",
        "point",
        "residual",
        "depthwise",
        "pooled",
        "logits",
        "probabilities",
        "output0.dequantize",
    ]
    x = np.ones((2, 8, 8, 2), np.float32)
    inner = keras.Model(simulator.input, simulator.get_layer("point").output)
    np.testing.assert_array_equal(inner(x), simulator.integers(x)["model/point/Op"])


def test_two_inputs_by_position_and_by_name() -> None:
    net = Net(1)
    a, b = net.input(1, 5, name="a"), net.input(1, 5, name="b")
    model = emitted(net.bytes(net.op("ADD", a, b, out="sum"), net.op("MUL", a, b, out="product")))
    simulator = simulate(model.to_bytes())
    x, y = np.random.default_rng(0).normal(0, 1, (2, 4, 5)).astype(np.float32)
    by_position = simulator.integers([x, y])
    by_name = simulator.integers({"x1": y, "x0": x})
    for name, q in by_position.items():
        np.testing.assert_array_equal(q, by_name[name])
    total, product = simulator([x, y])
    assert np.abs(total - (x + y)).max() < 0.1
    assert np.abs(product - x * y).max() < 0.2


def test_samples_that_are_tied_together_keep_the_batch_of_the_file() -> None:
    net = Net(1)
    x = net.input(4, 6, name="x")
    y = net.op("MEAN", x, net.const([0], "int32"), shape=(6,), out="mean")
    model = emitted(net.bytes(net.op("RELU", y, out="y")))
    simulator = simulate(model.to_bytes())
    assert simulator.inputs[0].shape == (4, 6)
    with pytest.raises(UsageError, match=r"shape \[4, 6\]. Received: \[3, 6\]"):
        simulator.integers(np.zeros((3, 6)))


def test_what_cannot_be_simulated_is_named_at_once() -> None:
    source = cnn()
    with pytest.raises(UsageError, match=r"Cannot simulate 7 ops.*CONV_2D \(computes in float32"):
        simulate(source)
    model = emitted(source)
    for i, name in ((0, "CUMSUM"), (3, "HASHTABLE")):
        model.main.ops[i] = Op(name, model.main.ops[i].inputs, model.main.ops[i].outputs)
    with pytest.raises(UsageError, match=r"2 ops: CUMSUM .*; HASHTABLE "):
        simulate(model.to_bytes())


def test_ops_out_of_order_are_sorted_and_what_has_no_order_is_an_error() -> None:
    model = emitted(cnn())
    want = simulate(model.to_bytes()).integers(list(random_inputs(model, 2).values()))
    model.main.ops[1:3] = reversed(model.main.ops[1:3])
    with pytest.warns(UserWarning, match=r"Ops of the model stand before what they read"):
        got = simulate(model.to_bytes()).integers(list(random_inputs(model, 2).values()))
    for name, q in want.items():
        np.testing.assert_array_equal(got[name], q)
    del model.main.ops[1]
    with pytest.raises(ModelError, match=r"before anything computes it; the file is damaged"):
        simulate(model.to_bytes())


def test_wrong_arguments(tmp_path) -> None:
    content = emitted(cnn()).to_bytes()
    with pytest.raises(UsageError, match="Unknown kernels 'xnnpac'"):
        simulate(content, kernels="xnnpac")
    with pytest.raises(UsageError, match="scheme: conversion options have no meaning"):
        simulate(content, scheme="int8")
    with pytest.raises(ModelError, match=r"none.tflite"):
        simulate(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="it is not a"):
        simulate(b"not a model")
    simulator = simulate(content)
    with pytest.raises(UsageError, match="Received: 2"):
        simulator.integers([np.zeros((1, 8, 8, 2))] * 2)
    with pytest.raises(UsageError, match="missing"):
        simulator.integers({"image": np.zeros((1, 8, 8, 2))})
    with pytest.raises(UsageError, match="cannot be saved"):
        simulator.save(tmp_path / "simulator.keras")


def test_a_keras_model_is_converted_first(tmp_path) -> None:
    import keras

    import tfq

    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem"),
            keras.layers.DepthwiseConv2D(3, name="depth"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(6.0, name="six"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(4, activation="softmax", name="head"),
        ]
    )
    data = np.random.default_rng(0).normal(0, 1, (40, 10, 10, 3)).astype(np.float32)
    simulator = simulate(net, data=data)
    result = tfq.convert_model(net, data)
    result.save(tmp_path / "net.tflite")
    model = Model.from_bytes(result.model)
    runner, feed = Runner(result.model), InputQuantizer(model)
    (name,) = [t.name for t in model.main.inputs]
    want = [
        next(iter(dequantized(model, runner.run(feed({name: data[i : i + 1]}))).values()))
        for i in range(20)
    ]
    for made in (simulator, simulate(result), simulate(tmp_path / "net.tflite")):
        np.testing.assert_array_equal(made(data[:20]), np.concatenate(want))
    assert (
        np.mean(np.argmax(want, -1)[:, 0] == np.argmax(net.predict(data[:20], verbose=0), -1)) > 0.8
    )
    names = {layer.name for layer in simulator.layers}
    assert {"stem", "head"} <= names
