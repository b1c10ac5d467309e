"""Models for one sample that take several."""

import numpy as np
import pytest
from small_models import Net

from tfq.errors import ModelError
from tfq.graph.model import Model, Tensor
from tfq.graph.rebatch import is_stateful, with_free_batch
from tfq.runtime import Runner


def flattened():
    net = Net()
    x = net.input(1, 4, 4, 3)
    h = net.conv(x, 2)
    flat = net.op("RESHAPE", h, net.const([1, 8], "int32"), shape=(1, 8), out="flat")
    return net.bytes(net.dense(flat, 5, out="y"))


def test_a_batch_in_a_reshape_is_freed_and_every_sample_keeps_its_result():
    model = flattened()
    with pytest.raises(ModelError):
        Runner(model, batch=3)
    free = with_free_batch(Model.from_bytes(model))
    assert free is not None
    runner, plain = Runner(free.to_bytes(), batch=3), Runner(model)
    samples = np.random.default_rng(0).normal(0, 1, (3, 4, 4, 3)).astype(np.float32)
    together = runner.run({runner.inputs[0]["name"]: samples})
    (name,) = together
    assert together[name].shape == (3, 5)
    for sample, row in zip(samples, together[name], strict=True):
        alone = plain.run({runner.inputs[0]["name"]: sample[None]})[name]
        np.testing.assert_allclose(row, alone[0], rtol=1e-5, atol=1e-6)


def test_the_given_model_is_not_changed():
    model = Model.from_bytes(flattened())
    before = model.to_bytes()
    with_free_batch(model)
    assert model.to_bytes() == before


def test_models_without_a_batch_of_one_are_left():
    net = Net()
    x = net.input(2, 3)
    assert with_free_batch(Model.from_bytes(net.bytes(net.op("ABS", x, out="y")))) is None


def test_state_forbids_batches():
    model = Model.from_bytes(flattened())
    assert not is_stateful(model)
    model.main.ops[0].inputs.append(Tensor("state", (1, 2), "float32", is_variable=True))
    assert is_stateful(model)
    assert with_free_batch(model) is None
